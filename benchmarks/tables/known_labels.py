"""Accuracy where most labels are hidden, for docs/semi_supervised.md.

In each run a random 30 % of the samples are set aside for the test, stratified by class. Of the
others a share of the labels is hidden, but never so many that a class has fewer than two. Scaling
and PCA see the training samples only. Nothing is tuned, for no contender.
"""

import warnings
from itertools import product

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

from benchmarks.markdown import bold, markdown
from sklearn_torch_gmm import GaussianMixtureClassifier

SETS = {
    "digits": PCA(20, random_state=0),
    "wine": StandardScaler(),
    "breast cancer": StandardScaler(),
}
"""And what prepares their features."""

HIDDEN = (0.9, 0.95, 0.98)

LEAST_LABELS = 2
"""Labels of each class that stay: with one, no contender could know how wide a class is."""


def contenders():
    """LDA, which sees the labelled samples only, and the others."""
    return {
        # With few samples, shrinkage is the better of its forms.
        "LDA": LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        "LabelSpreading": LabelSpreading(kernel="knn"),
        "SelfTraining": SelfTrainingClassifier(LogisticRegression(max_iter=1000)),
    } | {
        # On data of unit scale, a hundredth of a typical variance.
        name: GaussianMixtureClassifier(covariance_type=name, reg_covar=0.01, max_iter=300)
        for name in ("tied", "full", "diag", "spherical")
    }


def hide(y, share, rng):
    """Labels of which this share is -1, by class."""
    hidden = np.full_like(y, -1)
    for label in np.unique(y):
        own = np.flatnonzero(y == label)
        size = max(LEAST_LABELS, round((1 - share) * len(own)))
        hidden[rng.choice(own, size=size, replace=False)] = label
    return hidden


def accuracies(name, share, seed):
    """Percentages of the test samples, by contender."""
    X, y = getattr(datasets, f"load_{name.replace(' ', '_')}")(return_X_y=True)
    X, test, y, truth = train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)
    X, test = SETS[name].fit_transform(X), SETS[name].transform(test)
    # By one number for all features: PCA keeps its proportions.
    scale = X.std()
    y = hide(y, share, np.random.default_rng(seed))
    is_known = y >= 0
    found = {"data": name, "hidden": f"{share:.0%}", "labels": is_known.sum()}
    for contender, classifier in contenders().items():
        rows = is_known if contender == "LDA" else slice(None)
        fitted = classifier.fit(X[rows] / scale, y[rows])
        found[contender] = 100 * fitted.score(test / scale, truth)
    return found


def table(seeds=20):
    # A graph of few neighbours may leave samples apart, and self-training may end with some left.
    warnings.simplefilter("ignore")
    runs = pd.DataFrame(accuracies(*run) for run in product(SETS, HIDDEN, range(seeds)))
    groups = runs.groupby(["data", "hidden", "labels"], sort=False)
    means, spreads = groups.mean(), groups.std()
    cells = means.map("{:.1f}".format) + "±" + spreads.map("{:.1f}".format)
    return markdown(bold(cells, means.eq(means.max(axis=1), axis=0)).reset_index(), labels=1)

"""Imputation compared with scikit-learn's imputers, for docs/missing_values.md.

Features are standardized, and each value is hidden with the same probability, or with one that
grows with its rank among the values of the feature. Nothing is tuned, for no contender.

error : root mean square error of the filled values, in standard deviations
agreement : adjusted Rand index of a mixture's clusters of the filled data, and the classes
accuracy : of a logistic regression on the filled data, in five folds
"""

import warnings
from itertools import product

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import StandardScaler

from benchmarks.markdown import bold, markdown
from sklearn_torch_gmm.impute import GaussianMixtureImputer
from sklearn_torch_gmm.mixture import GaussianMixture


def ring():
    """Points on a circle, whose halves are the classes: no mixture of two ellipses."""
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 2 * np.pi, 600)
    points = np.column_stack([np.cos(angles), np.sin(angles)])
    return points + 0.05 * rng.standard_normal((600, 2)), (angles > np.pi).astype(int)


def load(name):
    if name == "ring":
        return ring()
    X, y = getattr(datasets, f"load_{name.replace(' ', '_')}")(return_X_y=True)
    return PCA(10, random_state=0).fit_transform(X) if name == "digits" else X, y


SETS = ("iris", "wine", "breast cancer", "digits", "ring")

SHARES = {"20%": (0.2, False), "40%": (0.4, False), "20%, large ones": (0.2, True)}
"""The share of the values that is hidden, and whether larger values are hidden more often."""

QUALITIES = ("error", "min", 2), ("agreement", "max", 2), ("accuracy", "max", 3)

SETTINGS = {"reg_covar": 1e-3, "n_init": 3, "random_state": 0}
"""Of all mixtures: on data of unit scale, a thousandth of a typical variance."""


def contenders(num_classes):
    return {
        "mean": SimpleImputer(),
        "KNN": KNNImputer(),
        "iterative": IterativeImputer(random_state=0),
        "K = 1": GaussianMixtureImputer(**SETTINGS),
        "K = C": GaussianMixtureImputer(num_classes, **SETTINGS),
        "K = C, tied": GaussianMixtureImputer(num_classes, covariance_type="tied", **SETTINGS),
    }


def hidden(X, share, depends, rng):
    ranks = X.argsort(0).argsort(0) / len(X)
    return rng.random(X.shape) < (2 * share * ranks if depends else share)


def qualities(name, text, seed):
    """Rows of the data, the share hidden, the contender, and the three qualities."""
    X, y = load(name)
    X, num_classes = StandardScaler().fit_transform(X), len(set(y))
    is_hidden = hidden(X, *SHARES[text], np.random.default_rng(seed))
    gappy = np.where(is_hidden, np.nan, X)
    for contender, imputer in contenders(num_classes).items():
        filled = imputer.fit_transform(gappy)
        labels = GaussianMixture(num_classes, **SETTINGS).fit_predict(filled)
        error = np.sqrt(np.mean((filled - X)[is_hidden] ** 2))
        accuracy = cross_val_score(LogisticRegression(max_iter=500), filled, y).mean()
        yield name, text, contender, error, adjusted_rand_score(y, labels), accuracy
    labels = GaussianMixture(num_classes, missing="em", **SETTINGS).fit_predict(gappy)
    yield name, text, "EM", np.nan, adjusted_rand_score(y, labels), np.nan


def table(seeds=10):
    # Few iterations of the imputers are enough, and some do not converge.
    warnings.simplefilter("ignore")
    which = ["data", "hidden", "contender"]
    rows = [row for run in product(SETS, SHARES, range(seeds)) for row in qualities(*run)]
    runs = pd.DataFrame(rows, columns=[*which, "error", "agreement", "accuracy"])
    means = runs.groupby(which, sort=False).mean().unstack(sort=False)
    parts = []
    for quality, best, digits in QUALITIES:
        values = means[quality].dropna(axis=1)
        is_best = values.eq(values.agg(best, axis=1), axis=0)
        cells = bold(values.map(f"{{:.{digits}f}}".format), is_best)
        parts += [f"{quality}\n", markdown(cells.reset_index(), labels=2) + "\n"]
    return "\n".join(parts)

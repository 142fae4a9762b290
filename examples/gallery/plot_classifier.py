"""
Classification with a mixture for each class
============================================

Bayes' rule turns densities into a classifier: the probability of a class is its share of the data
times its density at the sample, divided by the sum of these products. With a mixture for each class
the decision boundaries can take any shape, and the model can generate new samples of a class.
"""

# %%
# A classifier in a dozen lines. ``score_samples`` returns log-densities, so products become sums.
# :doc:`/semi_supervised` describes the package's own classifier, which also learns from unlabelled
# samples.

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from sklearn_torch_gmm.mixture import GaussianMixture


class MixtureClassifier(ClassifierMixin, BaseEstimator):
    """A mixture for each class, combined by Bayes' rule."""

    def __init__(self, n_components=1, reg_covar=1e-6):
        self.n_components = n_components
        self.reg_covar = reg_covar

    def fit(self, X, y):
        mixture = GaussianMixture(
            self.n_components, reg_covar=self.reg_covar, random_state=0
        )
        self.classes_, counts = np.unique(y, return_counts=True)
        self.log_priors_ = np.log(counts / len(y))
        self.mixtures_ = [
            mixture.clone().fit(X[y == c]) for c in self.classes_
        ]
        return self

    def predict_proba(self, X):
        log_densities = np.stack(
            [mixture.score_samples(X) for mixture in self.mixtures_], axis=1
        )
        return np.exp(log_softmax(log_densities + self.log_priors_, axis=1))

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


# %%
# Handwritten digits, reduced to thirty dimensions. One component per class is quadratic
# discriminant analysis; a digit that is written in several ways is better described by two.

X, y = load_digits(return_X_y=True)
models = {
    "quadratic discriminant analysis": QuadraticDiscriminantAnalysis(
        reg_param=0.01
    )
}
models |= {
    f"components per class: {k}": MixtureClassifier(k, reg_covar=1.0)
    for k in (1, 2, 3)
}
for name, model in models.items():
    accuracy = cross_val_score(
        make_pipeline(PCA(30, random_state=0), model), X, y, cv=5
    ).mean()
    print(f"{name}, accuracy {accuracy:.1%}")

# %%
# Digits that nobody has written: random samples from the mixture of each class.

reducer = PCA(30, random_state=0).fit(X)
classifier = MixtureClassifier(2, reg_covar=1.0).fit(reducer.transform(X), y)
figure, axes = plt.subplots(3, 10, figsize=(9, 3), layout="constrained")
for column, mixture in zip(axes.T, classifier.mixtures_, strict=True):
    drawn, _ = mixture.sample(60)
    for ax, row in zip(column, drawn[::20], strict=True):
        ax.imshow(
            reducer.inverse_transform(row[None]).reshape(8, 8),
            cmap="gray_r",
            vmin=0,
            vmax=16,
        )
        ax.set_axis_off()
plt.show()

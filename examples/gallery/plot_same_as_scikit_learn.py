"""
Comparison with scikit-learn
============================

``sklearn_torch_gmm.mixture.GaussianMixture`` is a drop-in replacement for
``sklearn.mixture.GaussianMixture``. With the same ``random_state`` it has the same initial
parameters and returns the same result, up to rounding. This example fits both to the same data.
"""

# %%
# Both get the same parameters. Only the import differs.

import warnings
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import sklearn.mixture
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning

import sklearn_torch_gmm.mixture
from sklearn_torch_gmm import MixtureDisplay

X, _ = make_blobs(
    30_000, n_features=8, centers=6, cluster_std=3.0, random_state=1
)

# %%
# With ``tol=0`` both run all iterations, so that the times are for the same work; both then warn
# that they did not converge. A first fit that is not timed excludes the time that a library
# needs to load its modules.

warnings.simplefilter("ignore", ConvergenceWarning)
fitted = {}
for kind in ["full", "tied", "diag", "spherical"]:
    params = {
        "n_components": 6,
        "covariance_type": kind,
        "tol": 0.0,
        "max_iter": 20,
        "random_state": 0,
    }
    for library in (sklearn, sklearn_torch_gmm):
        mixture = library.mixture.GaussianMixture(**params)
        mixture.set_params(max_iter=1).fit(X[:1000])
        began = perf_counter()
        mixture.set_params(max_iter=20).fit(X)
        fitted[library.__name__, kind] = mixture, perf_counter() - began

# %%
# The table compares labels, means and times, including the initialization. In such a short fit,
# K-means (scikit-learn's, in both) takes a good part of the time; :doc:`/benchmarks` has the times of
# the iterations without it.

print(
    "covariances   labels equal   largest difference of means   seconds   ratio"
)
for kind in ["full", "tied", "diag", "spherical"]:
    (theirs, their_time), (ours, our_time) = (
        fitted[name, kind] for name in ("sklearn", "sklearn_torch_gmm")
    )
    equal = np.mean(theirs.predict(X) == ours.predict(X))
    difference = abs(theirs.means_ - ours.means_).max()
    print(
        f"{kind:<14}{equal:12.2%}{difference:30.0e}"
        f"{their_time:7.2f}, {our_time:.2f}{their_time / our_time:8.1f}"
    )

# %%
# :class:`~sklearn_torch_gmm.MixtureDisplay` plots both.

figure, axes = plt.subplots(
    2, 1, figsize=(5.5, 7), layout="constrained", sharex=True
)
for ax, library in zip(axes, ("sklearn", "sklearn_torch_gmm"), strict=True):
    MixtureDisplay.from_estimator(fitted[library, "full"][0], X[::50], ax=ax)
    ax.set_title(f"{library}.mixture.GaussianMixture")
plt.show()

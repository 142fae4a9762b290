"""Iterations on data that are not well-conditioned, for docs/numerics.md.

Their time, scikit-learn's time divided by ours, and the methods that were used. Both classes start
from the same parameters.
"""

import time
import warnings
from collections import Counter
from itertools import product
from unittest import mock

import numpy as np
import pandas as pd
import sklearn.mixture
import torch

from benchmarks.cases import COVARIANCES
from benchmarks.markdown import markdown
from benchmarks.timing import once
from sklearn_torch_gmm.em.accuracy import Accuracy
from sklearn_torch_gmm.mixture import GaussianMixture

D, K = 32, 16


def mixed(rng, rows, condition=10.0, spread=0.375, scale=1.0):
    """Components with covariances of a condition number, or of a range of them."""
    means, labels = spread * rng.normal(size=(K, D)), rng.integers(K, size=rows)
    X = rng.normal(size=(rows, D))
    for k, own in enumerate(np.geomspace(*np.broadcast_to(condition, 2), K)):
        rotation, _ = np.linalg.qr(rng.normal(size=(D, D)))
        factor = rotation * np.logspace(0, -0.5 * np.log10(own), D)
        X[labels == k] = means[k] + X[labels == k] @ factor.T
    return scale * X


def outliers(rng, rows, share):
    return mixed(rng, rows) + 1e3 * (rng.random((rows, 1)) < share) * rng.normal(size=(rows, D))


DATA = {
    "condition 10": mixed,
    "condition 5e2 to 1e7": lambda rng, n: mixed(rng, n, (5e2, 1e7), scale=300),
    "condition 1e10": lambda rng, n: mixed(rng, n, 1e10, scale=300),
    "1/1000 of the samples at 1e3": lambda rng, n: outliers(rng, n, 1e-3),
    "1/100 of the samples at 1e3": lambda rng, n: outliers(rng, n, 1e-2),
    "Student, 2 dof": lambda rng, n: mixed(rng, n) / np.sqrt(rng.chisquare(2, (n, 1)) / 2),
    "lognormal, sigma 2": lambda rng, n: np.exp(2 * rng.normal(size=(n, D))),
    "means 1e5 standard deviations apart": lambda rng, n: mixed(rng, n, 1.0, 1e5),
}


def milliseconds(kind, X, start):
    """Of an iteration: the difference between fits of six iterations and of one."""
    fits = (kind(K, max_iter=number, tol=0, **start).fit for number in (1, 6))
    one, six = (once(fit, X, clock=time.process_time) for fit in fits)
    return 200 * (six - one)


def measure(title, covariance, rows):
    X = DATA[title](np.random.default_rng(20), rows)
    some = GaussianMixture(K, covariance_type=covariance, random_state=0).fit(X[:20_000])
    start = {"covariance_type": covariance, "weights_init": some.weights_}
    start |= {"means_init": some.means_, "precisions_init": some.precisions_}
    taken, choose = Counter(), Accuracy.ways

    def count(*arguments):
        found = choose(*arguments)
        taken.update({name: len(places) for name, places in vars(found).items() if places})
        return found

    with mock.patch.object(Accuracy, "ways", count):
        ours, theirs = (
            np.median([milliseconds(kind, X, start) for _ in range(3)])
            for kind in (GaussianMixture, sklearn.mixture.GaussianMixture)
        )
    ways = ", ".join(f"{n / taken.total():.0%} {way}" for way, n in taken.items()) or "fast"
    return [title, covariance, f"{ours:.0f}", f"{theirs / ours:.1f}", ways]


def table(rows=100_000):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    columns = ["data", "type", "ms", "scikit-learn / ours", "methods"]
    fits = [measure(title, covariance, rows) for title, covariance in product(DATA, COVARIANCES)]
    return markdown(pd.DataFrame(fits, columns=columns))

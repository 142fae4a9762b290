"""Passes over the data with and without acceleration: 8 data sets, 4 covariance types, 3 starts.

    python -m benchmarks.acceleration                     # the table of docs/acceleration.md
    python -m benchmarks.acceleration --tolerance 1e-8

Times are those of the process, with one thread.
"""

import argparse
import time
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import torch
from sklearn import datasets
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.preprocessing import scale

from benchmarks.cases import COVARIANCES
from sklearn_torch_gmm.mixture import GaussianMixture

FAITHFUL = Path(__file__).parents[1] / "tests" / "data" / "faithful.csv"


def overlapping(rows, features, components):
    rng = np.random.default_rng(0)
    means = rng.normal(scale=3 / np.sqrt(2 * features), size=(components, features))
    return means[rng.integers(components, size=rows)] + rng.normal(size=(rows, features))


def problems():
    """Rows and a number of components, by name."""
    digits = PCA(20, random_state=0).fit_transform(datasets.load_digits().data)
    heavy = np.random.default_rng(0).standard_t(3, size=(1500, 4))
    return {
        "Old Faithful": (np.loadtxt(FAITHFUL, delimiter=",", skiprows=7), 3),
        "iris": (datasets.load_iris().data, 3),
        "wine, standardized": (scale(datasets.load_wine().data), 3),
        "breast cancer, standardized": (scale(datasets.load_breast_cancer().data), 4),
        "diabetes, standardized": (scale(datasets.load_diabetes().data), 4),
        "digits, 20 principal components": (digits, 10),
        "8 overlapping clusters, [4000, 8]": (overlapping(4000, 8, 8), 8),
        "Student's t, 3 degrees of freedom, [1500, 4]": (heavy, 4),
    }


def seconds_of_fit(mixture, X):
    begin = time.process_time()
    mixture.fit(X)
    return time.process_time() - begin


def compare(name, X, components, tolerance):
    passes, seconds, lower, higher = np.zeros(2, int), np.zeros(2), 0, 0
    for covariance, seed in product(COVARIANCES, range(3)):
        options = {"covariance_type": covariance, "tol": tolerance, "random_state": seed}
        plain = GaussianMixture(components, max_iter=20_000, **options)
        fast = clone(plain).set_params(acceleration="squarem")
        seconds += [seconds_of_fit(mixture, X) for mixture in (plain, fast)]
        passes += [plain.n_iter_, fast.n_iter_]
        change = fast.lower_bound_ - plain.lower_bound_
        lower, higher = lower + (change < -tolerance), higher + (change > 100 * tolerance)
    print(f"| {name} | {passes[0]} → {passes[1]} | {seconds[1] / seconds[0]:.2f} |", end=" ")
    print(f"{lower} | {higher} |", flush=True)
    return passes, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tolerance", type=float, default=1e-6)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print("| data | passes | process time | ends lower | ends higher |\n|---|--:|--:|--:|--:|")
    results = [compare(name, *p, arguments.tolerance) for name, p in problems().items()]
    passes, seconds = (sum(part) for part in zip(*results, strict=True))
    print(f"| all | {passes[0]} → {passes[1]} | {seconds[1] / seconds[0]:.2f} | | |")


if __name__ == "__main__":
    main()

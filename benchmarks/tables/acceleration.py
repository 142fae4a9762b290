"""Passes over the data with and without acceleration, for docs/acceleration.md.

Eight data sets, each with four covariance types and three initializations; and a file larger than
the memory that a fit to it may allocate. Pages of a mapped file are no part of that memory: the
system drops them when it wants to.
"""

import resource
import tempfile
import time
from itertools import product

import numpy as np
import pandas as pd
import torch
from sklearn import datasets
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.preprocessing import scale

from benchmarks.cases import COVARIANCES
from benchmarks.environment import ROOT
from benchmarks.markdown import markdown
from benchmarks.timing import once, status
from sklearn_torch_gmm import GaussianMixture as TrainedMixture
from sklearn_torch_gmm.mixture import GaussianMixture
from sklearn_torch_gmm.training.fit import lightning_loop


def overlapping(rows, features, components):
    rng = np.random.default_rng(0)
    means = rng.normal(scale=3 / np.sqrt(2 * features), size=(components, features))
    return means[rng.integers(components, size=rows)] + rng.normal(size=(rows, features))


def problems():
    """Samples and a number of components, by name."""
    faithful = np.loadtxt(ROOT / "tests" / "data" / "faithful.csv", delimiter=",", skiprows=7)
    digits = PCA(20, random_state=0).fit_transform(datasets.load_digits().data)
    heavy = np.random.default_rng(0).standard_t(3, size=(1500, 4))
    return {
        "Old Faithful": (faithful, 3),
        "iris": (datasets.load_iris().data, 3),
        "wine, standardized": (scale(datasets.load_wine().data), 3),
        "breast cancer, standardized": (scale(datasets.load_breast_cancer().data), 4),
        "diabetes, standardized": (scale(datasets.load_diabetes().data), 4),
        "digits, 20 principal components": (digits, 10),
        "8 overlapping clusters, [4000, 8]": (overlapping(4000, 8, 8), 8),
        "Student's t, 3 degrees of freedom, [1500, 4]": (heavy, 4),
    }


def compare(X, components, covariance, seed, tolerance):
    options = {"covariance_type": covariance, "tol": tolerance, "random_state": seed}
    plain = GaussianMixture(components, max_iter=20_000, **options)
    fast = clone(plain).set_params(acceleration="squarem")
    seconds = [once(m.fit, X, clock=time.process_time) for m in (plain, fast)]
    change = fast.lower_bound_ - plain.lower_bound_
    return [plain.n_iter_, fast.n_iter_, *seconds, change < -tolerance, change > 100 * tolerance]


def on_data_sets(tolerance):
    columns = ["data", "before", "after", "seconds", "fewer", "ends lower", "ends higher"]
    fits = [
        [name, *compare(*problem, covariance, seed, tolerance)]
        for name, problem in problems().items()
        for covariance, seed in product(COVARIANCES, range(3))
    ]
    sums = pd.DataFrame(fits, columns=columns).groupby("data", sort=False).sum()
    sums.loc["all"] = sums.sum()
    counts = sums.drop(columns=["seconds", "fewer"]).astype(int)
    counts["passes"] = counts["before"].astype(str) + " → " + counts["after"].astype(str)
    counts["process time"] = (sums["fewer"] / sums["seconds"]).map("{:.2f}".format)
    return counts[["passes", "process time", "ends lower", "ends higher"]].reset_index()


def on_file(tolerance, rows, megabytes):
    # Its import takes memory of its own.
    lightning_loop()
    X = np.tile(overlapping(500_000, 8, 8), (rows // 500_000, 1))
    X += np.random.default_rng(1).normal(scale=0.1, size=X.shape)
    columns, fits = ["acceleration", "passes", "process time", "wall time", "log-likelihood"], []
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file.name, X)
        X = np.load(file.name, mmap_mode="r")
        allowed = status("VmData") + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, resource.RLIM_INFINITY))
        for acceleration in (None, "squarem"):
            options = {"covariance_type": "diag", "convergence_tolerance": tolerance}
            options |= {"acceleration": acceleration, "random_state": 0}
            params = {"max_epochs": -1, "accelerator": "cpu"}
            mixture = TrainedMixture(8, trainer_params=params, **options)
            begin = time.process_time()
            wall = once(mixture.fit, X)
            seconds = time.process_time() - begin, wall
            fits.append([str(acceleration), mixture.n_iter_, *seconds, mixture.lower_bound_])
    return pd.DataFrame(fits, columns=columns).round(6)


def table(tolerance=1e-6, rows=5_000_000, megabytes=200):
    torch.set_num_threads(1)
    data_sets = markdown(on_data_sets(tolerance), labels=1)
    return data_sets + "\n\n" + markdown(on_file(tolerance, rows, megabytes), labels=1)

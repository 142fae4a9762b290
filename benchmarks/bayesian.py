"""Variational Bayes: scikit-learn's class and ours on the same data, from the same start, in turn.

    python -m benchmarks.bayesian                        # the tables of docs/bayesian.md
    python -m benchmarks.bayesian --parts columns        # single columns of tables alone

Prints medians of interleaved repeats in seconds, and scikit-learn's time divided by ours.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.datasets import load_iris, make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture as Theirs

from benchmarks.environment import machine
from sklearn_torch_gmm.mixture import BayesianGaussianMixture as Ours

COVARIANCES = ("full", "tied", "diag", "spherical")
FEW, MANY = 2, 12
"""Iterations of two fits, whose difference is what an iteration takes."""


def in_turn(jobs: list[Callable[[], Any]], repeats: int) -> list[float]:
    """Median seconds of each job."""
    times: list[list[float]] = [[] for _ in jobs]
    for _ in range(repeats):
        for job, own in zip(jobs, times, strict=True):
            # OpenBLAS's threads keep spinning after a product, for some 30 ms.
            time.sleep(0.1)
            begin = time.perf_counter()
            job()
            own.append(time.perf_counter() - begin)
    return [statistics.median(own) for own in times]


def job_of(cls: type, X: Any, **params: Any) -> Callable[[], Any]:
    return lambda: cls(random_state=0, **params).fit(X)


def iterations(repeats: int) -> Iterator[tuple[str, float, float]]:
    for rows, features, components in [(100_000, 32, 16), (20_000, 10, 30)]:
        X, _ = make_blobs(rows, features, centers=components, cluster_std=3.0, random_state=0)
        for covariance in COVARIANCES:
            params = {"n_components": components, "covariance_type": covariance, "tol": 0.0}
            params["init_params"] = "random_from_data"
            jobs = [
                job_of(cls, X, max_iter=number, **params)
                for cls in (Theirs, Ours)
                for number in (FEW, MANY)
            ]
            few, many, our_few, our_many = in_turn(jobs, repeats)
            name = f"iteration, [{rows}, {features}] -> {components} {covariance}"
            yield name, (many - few) / (MANY - FEW), (our_many - our_few) / (MANY - FEW)


def columns(repeats: int) -> Iterator[tuple[str, float, float]]:
    params = {"n_components": 10, "weight_concentration_prior": 0.001}
    rng = np.random.default_rng(0)
    for rows in (100_000, 50_000, 5_000):
        noise, chance = rng.normal(size=rows), rng.random(rows)
        kinds = {
            "normal": noise,
            "bimodal": np.where(chance < 0.3, 0.5 * noise + 5, noise),
            "lognormal": np.exp(noise),
            "zero-inflated": np.where(chance < 0.4, 0.0, np.exp(noise)),
            "integer-like": np.round(50 + 12 * noise),
        }
        for kind, values in kinds.items():
            jobs = [job_of(cls, values[:, None], **params) for cls in (Theirs, Ours)]
            yield f"column, {rows} {kind}", *in_turn(jobs, repeats)


def small(repeats: int) -> Iterator[tuple[str, float, float]]:
    X = load_iris().data
    for covariance in COVARIANCES:
        params = {"n_components": 6, "covariance_type": covariance}
        jobs = [job_of(cls, X, **params) for cls in (Theirs, Ours)]
        yield f"iris, {covariance}", *in_turn(jobs, 5 * repeats)


PARTS = {"small": small, "iterations": iterations, "columns": columns}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(machine())
    for part in options.parts:
        for name, theirs, ours in PARTS[part](options.repeats):
            print(f"| {name} | {theirs:.4f} | {ours:.4f} | {theirs / ours:.2f} |", flush=True)


if __name__ == "__main__":
    main()

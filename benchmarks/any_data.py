"""Iterations on data that are not well-conditioned: their time, and the methods that they use.

    python -m benchmarks.any_data 100000            # samples; see docs/numerics.md

Both classes start from the same parameters. The time is that of the process, with one thread.
"""

import statistics
import sys
import time
import warnings
from collections import Counter
from itertools import product

import numpy as np
import torch
from sklearn.mixture import GaussianMixture as Peer

from benchmarks.cases import COVARIANCES
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
    times = [time.process_time()]
    for max_iter in (1, 6):
        kind(K, max_iter=max_iter, tol=0, **start).fit(X)
        times.append(time.process_time())
    return 200 * (times[2] - 2 * times[1] + times[0])


def main():
    taken, choose = Counter(), Accuracy.ways
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")

    def count(*args):
        found = choose(*args)
        taken.update({name: len(places) for name, places in vars(found).items() if places})
        return found

    Accuracy.ways = count
    for title, covariance in product(DATA, COVARIANCES):
        X = DATA[title](np.random.default_rng(20), int(sys.argv[1]))
        some = GaussianMixture(K, covariance_type=covariance, random_state=0)
        some.fit(X[:20_000])
        start = {f"{name}_init": getattr(some, name + "_") for name in ("means", "precisions")}
        start |= {"weights_init": some.weights_, "covariance_type": covariance}
        taken.clear()
        times = (
            [milliseconds(kind, X, start) for _ in range(3)] for kind in (GaussianMixture, Peer)
        )
        ours, peers = map(statistics.median, times)
        ways = ", ".join(f"{n / taken.total():.0%} {way}" for way, n in taken.items()) or "fast"
        print(f"| {title} | {covariance} | {ours:.0f} | {peers / ours:.1f} | {ways} |", flush=True)


if __name__ == "__main__":
    main()

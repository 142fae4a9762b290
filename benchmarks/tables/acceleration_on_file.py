"""Acceleration of a fit to a file larger than what it may allocate, for docs/acceleration.md.

Pages of a mapped file are no part of that memory: the system drops them when it wants to.
"""

import resource
import tempfile
import time

import numpy as np
import pandas as pd
import torch

from benchmarks.markdown import markdown
from benchmarks.memory import status
from benchmarks.tables.acceleration import overlapping
from sklearn_torch_gmm import GaussianMixture
from sklearn_torch_gmm.training.fit import lightning_loop


def write_samples(path, rows, chunk=500_000):
    file = np.lib.format.open_memmap(path, "w+", np.float64, (rows, 8))
    sample = overlapping(chunk, 8, 8)
    rng = np.random.default_rng(1)
    for first in range(0, rows, chunk):
        part = file[first : first + chunk]
        part[:] = sample[: len(part)] + rng.normal(scale=0.1, size=part.shape)
    file.flush()


def fit(X, acceleration, tolerance):
    params = {"max_epochs": -1, "accelerator": "cpu"}
    mixture = GaussianMixture(
        8,
        covariance_type="diag",
        convergence_tolerance=tolerance,
        trainer_params=params,
        random_state=0,
        acceleration=acceleration,
    )
    begin = time.process_time(), time.perf_counter()
    mixture.fit(X)
    return {
        "acceleration": acceleration or "None",
        "passes": str(mixture.n_iter_),
        "process time": f"{time.process_time() - begin[0]:.1f} s",
        "wall time": f"{time.perf_counter() - begin[1]:.1f} s",
        "mean log-likelihood": f"{mixture.lower_bound_:.7f}",
    }


def table(rows=5_000_000, megabytes=200, tolerance=1e-6):
    """305 MiB of float64 in the file, unless there are more rows."""
    torch.set_num_threads(1)
    # Its import takes memory of its own.
    lightning_loop()
    with tempfile.TemporaryDirectory() as folder:
        write_samples(f"{folder}/X.npy", rows)
        X = np.load(f"{folder}/X.npy", mmap_mode="r")
        allowed = status("VmData") + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, resource.RLIM_INFINITY))
        return markdown(pd.DataFrame(fit(X, name, tolerance) for name in (None, "squarem")))

"""A file that is larger than the memory that a fit may allocate, with and without acceleration.

    python -m benchmarks.acceleration_on_file                # 305 MiB, [5M, 8] float64
    python -m benchmarks.acceleration_on_file --rows 50000000 --megabytes 1000

Pages of a mapped file are no part of that memory: the system drops them when it wants to.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.acceleration import overlapping
from sklearn_torch_gmm import GaussianMixture
from sklearn_torch_gmm.training.fit import lightning_loop


def limit_allocations(num_bytes):
    """Let this process allocate no more than this."""
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (used + num_bytes, resource.RLIM_INFINITY))


def write_rows(path, num_rows, chunk=500_000):
    rows = np.lib.format.open_memmap(path, "w+", np.float64, (num_rows, 8))
    sample = overlapping(chunk, 8, 8)
    rng = np.random.default_rng(1)
    for first in range(0, num_rows, chunk):
        part = rows[first : first + chunk]
        part[:] = sample[: len(part)] + rng.normal(scale=0.1, size=part.shape)
    rows.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--covariance-type", default="diag")
    parser.add_argument("--tolerance", type=float, default=1e-6)
    parser.add_argument("--folder")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # Its import takes memory of its own.
    lightning_loop()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        write_rows(f"{folder}/X.npy", arguments.rows)
        X = np.load(f"{folder}/X.npy", mmap_mode="r")
        limit_allocations(arguments.megabytes * 2**20)
        print(f"{X.nbytes >> 20} MiB in the file, {arguments.megabytes} MiB to allocate")
        for acceleration in (None, "squarem"):
            mixture = GaussianMixture(
                8,
                covariance_type=arguments.covariance_type,
                convergence_tolerance=arguments.tolerance,
                trainer_params={"max_epochs": -1, "accelerator": "cpu"},
                random_state=0,
                acceleration=acceleration,
            )
            begin = time.process_time(), time.perf_counter()
            mixture.fit(X)
            used, wall = time.process_time() - begin[0], time.perf_counter() - begin[1]
            print(f"{acceleration}: {mixture.n_iter_} passes, bound {mixture.lower_bound_:.7f},")
            print(f"    {used:.1f} s of the process, {wall:.1f} s by the clock", flush=True)


if __name__ == "__main__":
    main()

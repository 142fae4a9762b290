"""Two processes of one thread each against one such process.

    python benchmarks/two_processes.py                      # [1M, 32] -> 16, full
    python benchmarks/two_processes.py --rows 100000

An iteration's time is the difference of a long and a short fit: the start, the processes and the
labels are in both.
"""

import argparse
import platform
import statistics
import time
import warnings

import numpy as np
import pytorch_lightning as pl
import torch
from sklearn.exceptions import ConvergenceWarning

from sklearn_torch_gmm import GaussianMixture


def seconds_of_fit(X, arguments, iterations, num_processes):
    strategy = {"strategy": "ddp_fork"} if num_processes > 1 else {}
    mixture = GaussianMixture(
        arguments.components,
        covariance_type=arguments.covariance_type,
        init_means=X[: arguments.components],
        convergence_tolerance=0,
        trainer_params={
            "accelerator": "cpu",
            "devices": num_processes,
            "max_epochs": iterations,
            **strategy,
        },
    )
    began = time.perf_counter()
    mixture.fit(X)
    return time.perf_counter() - began


def seconds_of_iteration(X, arguments, num_processes):
    few, many = 2, 2 + arguments.iterations
    differences = [
        seconds_of_fit(X, arguments, many, num_processes)
        - seconds_of_fit(X, arguments, few, num_processes)
        for _ in range(arguments.repeats)
    ]
    return statistics.median(differences) / arguments.iterations


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--components", type=int, default=16)
    parser.add_argument("--covariance-type", default="full")
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    torch.set_num_threads(1)

    X = np.random.default_rng(0).normal(size=(arguments.rows, arguments.features))
    one, two = (seconds_of_iteration(X, arguments, n) for n in (1, 2))
    shape = f"[{arguments.rows}, {arguments.features}] -> {arguments.components}"
    print(f"{platform.processor() or platform.machine()}, one thread a process")
    print(f"torch {torch.__version__}, pytorch-lightning {pl.__version__}")
    print(f"{shape} {arguments.covariance_type}, seconds per iteration")
    print(f"one process    {one:.4f}")
    print(f"two processes  {two:.4f}")
    print(f"speed-up       {one / two:.2f}")


if __name__ == "__main__":
    main()

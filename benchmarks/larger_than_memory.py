"""Fits a mixture to a mapped file: rows per second, time spent waiting for data, memory.

    python benchmarks/larger_than_memory.py                       # 4 GB: [32M, 16] float64
    python benchmarks/larger_than_memory.py --rows 1000000        # a smaller file

The file is made in a temporary folder, or in the one given by --folder, and removed afterwards.
"""

import argparse
import platform
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import SimpleProfiler
from sklearn.exceptions import ConvergenceWarning

from sklearn_torch_gmm import GaussianMixture

CHUNK = 1_000_000


class EpochTimes(pl.Callback):
    """Seconds of each iteration."""

    def __init__(self):
        self.seconds = []

    def on_train_epoch_start(self, trainer, pl_module):
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer, pl_module):
        self.seconds.append(time.perf_counter() - self._began)


class SilentProfiler(SimpleProfiler):
    """Keeps its figures to itself."""

    def describe(self):
        pass


class LargestMemory(threading.Thread):
    """The largest resident memory of this process, without the pages of mapped files."""

    def __init__(self):
        super().__init__(daemon=True)
        self.bytes = 0
        self._is_over = threading.Event()

    def run(self):
        while not self._is_over.wait(0.02):
            self.look()

    def look(self):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                self.bytes = max(self.bytes, int(line.split()[1]) * 1024)

    def stop(self):
        self._is_over.set()
        self.join()


def write_rows(path, num_rows, means):
    rng = np.random.default_rng(0)
    rows = np.lib.format.open_memmap(path, "w+", np.float64, (num_rows, means.shape[1]))
    for first in range(0, num_rows, CHUNK):
        size = min(CHUNK, num_rows - first)
        # Sorted by component: an order in which a part of the rows tells nothing of the rest.
        labels = (first + np.arange(size)) * len(means) // num_rows
        rows[first : first + size] = means[labels] + rng.standard_normal((size, means.shape[1]))
    rows.flush()


def fit(data, arguments, iterations):
    times, profiler = EpochTimes(), SilentProfiler()
    mixture = GaussianMixture(
        arguments.components,
        covariance_type=arguments.covariance_type,
        convergence_tolerance=0,
        random_state=0,
        batch_size=arguments.batch_size,
        trainer_params={
            "accelerator": "cpu",
            "max_epochs": iterations,
            "callbacks": [times],
            "profiler": profiler,
        },
    )
    mixture.fit(data)
    waited = sum(profiler.recorded_durations["[_TrainingEpochLoop].train_dataloader_next"])
    return sum(times.seconds) / len(times.seconds), waited / sum(times.seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=32_000_000)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--components", type=int, default=16)
    parser.add_argument("--covariance-type", default="diag")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--memory-rows", type=int, default=1_000_000)
    parser.add_argument("--folder")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)

    means = 3 * np.random.default_rng(1).normal(size=(arguments.components, arguments.features))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "rows.npy"
        write_rows(path, arguments.rows, means)
        mapped = np.load(path, mmap_mode="r")

        memory = LargestMemory()
        memory.start()
        seconds, waiting = fit(mapped, arguments, arguments.iterations)
        memory.stop()
        # As many rows as are compared, from all over the file.
        step = max(1, arguments.rows // arguments.memory_rows)
        in_memory, _ = fit(np.array(mapped[::step]), arguments, arguments.iterations)

    speed = arguments.rows / seconds
    memory_speed = len(range(0, arguments.rows, step)) / in_memory
    shape = f"[{arguments.rows}, {arguments.features}] -> {arguments.components}"
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads")
    print(f"torch {torch.__version__}, pytorch-lightning {pl.__version__}")
    print(f"{shape} {arguments.covariance_type}, {mapped.nbytes / 1e9:.2f} GB")
    print(f"rows per second                {speed:,.0f}")
    print(f"share of time waiting for data {waiting:.1%}")
    print(f"speed relative to memory       {speed / memory_speed:.2f}")
    print(f"largest resident memory        {memory.bytes / 1e9:.2f} GB")


if __name__ == "__main__":
    main()

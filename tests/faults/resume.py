"""Fits with checkpoints that are killed at random moments, and resumed until they are done.

Run as a program that forks: an import of Lightning for each of some hundred fits would take most
of the time. It prints, as JSON, the number of kills and of fits, and what differed.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from pytorch_lightning.callbacks import ModelCheckpoint

from sklearn_torch_gmm import GaussianMixture

ATTRIBUTES = ("weights_", "means_", "covariances_", "lower_bounds_", "n_iter_", "converged_")
CASES = [
    {"covariance_type": "full", "num_init": 2, "init_strategy": "random"},
    {"covariance_type": "tied", "batch_size": 50},
    {"covariance_type": "diag", "num_init": 3, "init_strategy": "kmeans++"},
    {"covariance_type": "spherical", "batch_size": 70, "random_state": np.random.RandomState(0)},
]
X = np.random.default_rng(0).normal(size=(211, 3)) * [1.0, 2.0, 3.0]
EPOCHS = 60


def fit(folder: Path, case: dict) -> None:
    """Fit, from the last checkpoint if there is one, and write the result into the folder."""
    warnings.simplefilter("ignore")
    params = {"max_epochs": EPOCHS, "callbacks": [ModelCheckpoint(folder, save_last=True)]}
    options = {"random_state": 0, **case}
    mixture = GaussianMixture(3, convergence_tolerance=0.0, trainer_params=params, **options)
    last = folder / "last.ckpt"
    mixture.fit(X, ckpt_path=last if last.exists() else None)
    np.savez(folder / "result.npz", **{name: getattr(mixture, name) for name in ATTRIBUTES})


def in_child(folder: Path, case: dict, kill_after: float | None = None) -> bool:
    """Whether a fit in a child, which is killed after so many seconds, has come to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            fit(folder, case)
            code = 0
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    assert status == 0, f"a fit ended with {status}"
    return True


def result(folder: Path) -> dict[str, bytes]:
    with np.load(folder / "result.npz") as found:
        return {name: found[name].tobytes() for name in ATTRIBUTES}


def main(seed: int, number: int) -> None:
    draw, kills, fits, resumed, differences = random.Random(seed), 0, 0, 0, []
    with tempfile.TemporaryDirectory() as place:
        wholes = []
        for index, case in enumerate(CASES):
            folder = Path(place, f"whole{index}")
            begin = time.perf_counter()
            assert in_child(folder, case)
            wholes.append((result(folder), time.perf_counter() - begin))
        while kills < number:
            case, (whole, seconds) = CASES[fits % len(CASES)], wholes[fits % len(CASES)]
            folder = Path(place, f"killed{fits}")
            for _ in range(3):
                if in_child(folder, case, kill_after=draw.uniform(0.2, 1.0) * seconds):
                    break
                kills += 1
                resumed += (folder / "last.ckpt").exists()
            else:
                assert in_child(folder, case)
            if result(folder) != whole:
                differences.append(fits)
            fits += 1
    print(json.dumps({"kills": kills, "resumed": resumed, "fits": fits, "differ": differences}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

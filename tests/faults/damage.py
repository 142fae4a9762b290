"""Damages copies of a file at random, and reads each of them.

Run as a program: a copy that ends the process would end the tests with it. It prints, as JSON, how
many copies were refused, how many were read as if nothing were damaged, what else happened, and
the memory that was taken, in bytes.
"""

import json
import os
import random
import re
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pytorch_lightning.callbacks import ModelCheckpoint

from sklearn_torch_gmm import GaussianMixture

X = np.random.default_rng(0).normal(size=(60, 2)) * [1.0, 3.0]
OPTIONS = {"covariance_type": "full", "random_state": 0, "convergence_tolerance": 0.0}
SPARSE_BYTES = 2**31


def damaged(content: bytes, random: random.Random) -> bytes:
    """A copy of which bits are flipped, or bytes are cut off, added, removed or cleared."""
    size, octets = len(content), bytearray(content)
    first, last = sorted(random.choices(range(size + 1), k=2))
    kind = random.randrange(6)
    if kind <= 1:
        for _ in range(random.choice([1, 1, 1, 2, 8])):
            bit = random.randrange(8 * size)
            octets[bit // 8] ^= 1 << bit % 8
    elif kind == 2:
        del octets[first:]
    elif kind == 3:
        octets += random.randbytes(random.choice([1, 8, 1000]))
    elif kind == 4:
        del octets[first : min(last, first + 16)]
    else:
        end = min(last, first + 64)
        octets[first:end] = bytes(end - first)
    return bytes(octets)


def save_model(folder: Path) -> tuple[Path, Callable[[], tuple[bytes, ...]]]:
    GaussianMixture(2, **OPTIONS, trainer_params={"max_epochs": 3}).fit(X).save(folder)
    return folder / "model.safetensors", lambda: results(GaussianMixture.load(folder))


def save_checkpoint(folder: Path) -> tuple[Path, Callable[[], tuple[bytes, ...]]]:
    callback = ModelCheckpoint(folder, filename="checkpoint")
    params = {"max_epochs": 2, "callbacks": [callback]}
    GaussianMixture(2, **OPTIONS, trainer_params=params).fit(X)
    path = folder / "checkpoint.ckpt"

    def go_on() -> tuple[bytes, ...]:
        mixture = GaussianMixture(2, **OPTIONS, trainer_params={"max_epochs": 3})
        return results(mixture.fit(X, ckpt_path=path))

    return path, go_on


def results(mixture: GaussianMixture) -> tuple[bytes, ...]:
    arrays = (mixture.weights_, mixture.means_, mixture.covariances_, mixture.lower_bounds_)
    return (*(np.asarray(array).tobytes() for array in arrays), repr(mixture).encode())


def peak_memory() -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    return 1024 * int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1])


def main(kind: str, seed: int, number: int) -> None:
    warnings.simplefilter("ignore")
    counts, others = {"refused": 0, "the same": 0}, []
    with tempfile.TemporaryDirectory() as folder:
        path, read = {"model": save_model, "checkpoint": save_checkpoint}[kind](Path(folder))
        content, whole = path.read_bytes(), read()
        before, draw = peak_memory(), random.Random(seed)
        for turn in range(number):
            path.write_bytes(damaged(content, draw))
            if turn % 1000 == 999:
                os.truncate(path, SPARSE_BYTES)
            try:
                found = read()
            except ValueError as error:
                names_file = path.name in str(error)
                counts["refused"] += names_file
                if not names_file:
                    others.append([turn, repr(error)])
            except Exception as error:
                others.append([turn, repr(error)])
            else:
                counts["the same"] += found == whole
                if found != whole:
                    others.append([turn, "another result"])
    print(json.dumps({**counts, "others": others, "memory": peak_memory() - before}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))

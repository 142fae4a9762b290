"""Saves, or reads, one model over and over. Run as a program, since some of them are killed."""

import os
import random
import signal
import sys
import time

import numpy as np

from sklearn_torch_gmm import GaussianMixture


def marked(number: int) -> GaussianMixture:
    """A mixture of which every part tells the number: parameters, attributes, tensors."""
    means = number + np.repeat([[0.0], [1.0]], 50, axis=1)
    mixture = GaussianMixture.from_parameters([0.5, 0.5], means, np.ones((2, 50, 50)) + np.eye(50))
    return mixture.set_params(covariance_regularization=float(number))


def save(path: str, first: int) -> None:
    """Save the whole, the parameters and the attributes in turn, each with a number of its own."""
    number = first
    while True:
        mixture = marked(number)
        (mixture.save, mixture.save_parameters, mixture.save_attributes)[number % 3](path)
        number += 1


def save_and_die(path: str, first: int, number: int) -> None:
    """Let so many children save, and kill each of them after a while."""
    draw = random.Random(first)
    for turn in range(number):
        child = os.fork()
        if child == 0:
            save(path, first + 1000 * turn)
        time.sleep(draw.uniform(0.02, 0.3))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        # It had no error until then.
        assert os.WIFSIGNALED(status), status


def save_part(path: str, name: str, number: int) -> None:
    """Save one part with rising numbers; nobody else saves it, so that it must be found again."""
    for each in range(1, number + 1):
        getattr(marked(each), f"save_{name}")(path)
        found = GaussianMixture.load(path)
        value = {"parameters": found.covariance_regularization, "attributes": found.means_[0, 0]}
        assert value[name] == each, (name, each, value)


def read(path: str, seconds: float) -> None:
    """Read until the time is over; print how many models there were."""
    end, number, seen = time.monotonic() + seconds, 0, set()
    while time.monotonic() < end:
        mixture = GaussianMixture.load(path)
        assert (mixture.means_ == mixture.means_[0, 0] + np.array([[0.0], [1.0]])).all()
        assert mixture.covariance_regularization == int(mixture.covariance_regularization)
        seen.add((mixture.means_[0, 0], mixture.covariance_regularization))
        number += 1
    print(number, len(seen))


if __name__ == "__main__":
    what, path, *arguments = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    if what == "save_and_die":
        save_and_die(path, *map(int, arguments))
    elif what == "save_part":
        save_part(path, arguments[0], int(arguments[1]))
    else:
        read(path, float(arguments[0]))

"""The only uses of private parts of scikit-learn, torch and NumPy in this package.

Each has a test in ``tests/project/test_private_parts.py`` that fails when a version no longer has
it. Lightning's private parts are in :mod:`sklearn_torch_gmm.training.private_parts`, since no other
package may import Lightning.
"""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable
from functools import lru_cache
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Timer
from typing import Any, TypeVar, cast

import numpy as np
import sklearn.base
import torch
from sklearn import config_context, get_config
from sklearn.base import BaseEstimator
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import Interval, InvalidParameterError, StrOptions
from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling

__all__ = ["Interval", "InvalidParameterError", "StrOptions", "check_matplotlib_support"]

Estimator = TypeVar("Estimator", bound=BaseEstimator)

GLOBAL_RANDOM_STATE: np.random.RandomState = np.random.mtrand._rand
"""The state that ``numpy.random.seed`` seeds, and that ``check_random_state(None)`` returns."""

SECONDS_FOR_WORKERS = 1.0
"""Time that the processes of a loader have to end by themselves."""


MOST_PASSED = 1_000
"""Number of combinations of parameters, half a megabyte, after which all are forgotten."""

_PLAIN_TYPES = (bool, int, float, str, type(None))

_passed: set[tuple[Any, ...]] = set()


def validate_parameters(estimator: BaseEstimator) -> None:
    """Check an estimator's parameters against its constraints, with scikit-learn's messages.

    The check takes as long as an iteration of EM on a few samples, and a search repeats it for each
    fold with the same values. Plain values that have passed are therefore remembered.
    """
    if get_config()["skip_parameter_validation"]:
        return
    values = _plain_values(estimator)
    if values is not None and values in _passed:
        return
    estimator._validate_params()
    if values is not None:
        if len(_passed) >= MOST_PASSED:
            _passed.clear()
        _passed.add(values)


def _plain_values(estimator: BaseEstimator) -> tuple[Any, ...] | None:
    """Return the class and its parameters, containers by type; None if the answer may change."""
    is_usual = type(estimator)._validate_params is BaseEstimator._validate_params
    if not is_usual or "_parameter_constraints" in vars(estimator):
        return None
    found: list[Any] = [type(estimator)]
    for name in parameter_names(type(estimator)):
        value = getattr(estimator, name)
        kind = type(value)
        if kind in (list, dict) or (kind is np.ndarray and value.ndim > 0):
            # No constraint looks into a container.
            value = None
        elif kind not in _PLAIN_TYPES and not (kind is tuple and len(value) == 0):
            return None
        found += [kind, value]
    return tuple(found)


def parameter_names(estimator_class: type[BaseEstimator]) -> list[str]:
    """Names of the parameters of a class, without an instance of it."""
    names: list[str] = estimator_class._get_param_names()
    return names


def fit_unrecorded(estimator: Estimator, X: Any, **params: Any) -> Estimator:
    """Fit one of scikit-learn's estimators as a step of a fit of ours.

    MLflow's autolog wraps `fit` of every class of scikit-learn, and would record the step as a
    model. scikit-learn's own innermost wrapper is kept; it does not check the parameters, which
    takes a tenth of a K-means on few samples, and which are right.
    """
    method = inspect.unwrap(type(estimator).fit, stop=_is_scikit_learns)
    if not _is_scikit_learns(method):
        # Another library has replaced scikit-learn's class by its own.
        method = type(estimator).fit
    with config_context(skip_parameter_validation=True):
        method(estimator, X, **params)
    return estimator


def _is_scikit_learns(method: Callable[..., Any]) -> bool:
    code = getattr(method, "__code__", None)
    return code is not None and code.co_filename == sklearn.base.__file__


def persistent_iterator(loader: DataLoader[Any]) -> Any:
    """The iterator that a loader with persistent workers keeps for its next use, or None."""
    return getattr(loader, "_iterator", None)


def forget_iterator(loader: DataLoader[Any]) -> None:
    """Let a loader whose workers have ended start new ones when it is iterated again."""
    loader._iterator = None


def end_workers(iterator: Any) -> None:
    """End the processes of a loader's iterator, even while a traceback still refers to it.

    A process that does not end by itself, since its dataset blocks, is killed; torch would wait for
    five seconds.
    """
    if not hasattr(iterator, "_shutdown_workers"):
        return
    # Otherwise torch would report the killed process as a failed worker.
    if iterator._worker_pids_set:
        signal_handling._remove_worker_pids(id(iterator))
        iterator._worker_pids_set = False
    timer = Timer(SECONDS_FOR_WORKERS, _kill, [iterator._workers])
    timer.start()
    try:
        iterator._shutdown_workers()
    finally:
        timer.cancel()


def _kill(workers: list[BaseProcess]) -> None:
    for worker in workers:
        worker.kill()


def exit_codes(iterator: Any) -> list[int]:
    """The exit codes of the processes of a loader's iterator that have ended."""
    workers: list[BaseProcess] = getattr(iterator, "_workers", [])
    # A process closes the resources that it shares some time before it ends.
    ending = wait([worker.sentinel for worker in workers], SECONDS_FOR_WORKERS)
    for worker in workers:
        if worker.sentinel in ending:
            worker.join(SECONDS_FOR_WORKERS)
    return [worker.exitcode for worker in workers if worker.exitcode is not None]


@lru_cache(maxsize=1)
def setter_of_mkl_threads() -> Callable[[int], int] | None:
    """Return MKL's function that sets its number of threads for the current thread, or None.

    It returns the previous number; zero stands for the number of all threads, which follows
    OpenMP's. MKL need not be a part of torch's library.
    """
    folder = Path(torch.__file__).parent / "lib"
    for library in folder.glob("libtorch_cpu.*"):
        # Keeping the interpreter's lock takes less time than releasing it.
        setter = getattr(ctypes.PyDLL(str(library)), "MKL_Set_Num_Threads_Local", None)
        if setter is not None:
            setter.argtypes, setter.restype = [ctypes.c_int], ctypes.c_int
            return cast("Callable[[int], int]", setter)
    return None

"""The only uses of private parts of scikit-learn, torch and NumPy in this package.

Each has a test in ``tests/project/test_private_parts.py`` that fails when a version no longer has
it. Lightning's private parts are in :mod:`sklearn_torch_gmm.training.private_parts`, since no other
package may import Lightning.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import Interval, InvalidParameterError, StrOptions
from torch.utils.data import DataLoader

__all__ = ["Interval", "InvalidParameterError", "StrOptions", "check_matplotlib_support"]

GLOBAL_RANDOM_STATE: np.random.RandomState = np.random.mtrand._rand
"""The state that ``numpy.random.seed`` seeds, and that ``check_random_state(None)`` returns."""


def validate_parameters(estimator: BaseEstimator) -> None:
    """Check an estimator's parameters against its constraints, with scikit-learn's messages."""
    estimator._validate_params()


def parameter_names(estimator_class: type[BaseEstimator]) -> list[str]:
    """Names of the parameters of a class, without an instance of it."""
    names: list[str] = estimator_class._get_param_names()
    return names


def persistent_iterator(loader: DataLoader[Any]) -> Any:
    """The iterator that a loader with persistent workers keeps for its next use, or None."""
    return getattr(loader, "_iterator", None)


def forget_iterator(loader: DataLoader[Any]) -> None:
    """Let a loader whose workers have ended start new ones when it is iterated again."""
    loader._iterator = None


def end_workers(iterator: Any) -> None:
    """End the processes of a loader's iterator, even while a traceback still refers to it."""
    if hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()

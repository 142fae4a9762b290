"""The state of an estimator in a pickle, also for joblib, cloudpickle, skops and deepcopy."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import sklearn
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning
from torch import Tensor

import sklearn_torch_gmm
from sklearn_torch_gmm.exceptions import ModelVersionWarning

_OUR_VERSION = "_sklearn_torch_gmm_version"
_SKLEARN_VERSION = "_sklearn_version"
_HAS_COMPACT_LABELS = "_has_compact_labels"


def get_state(self) -> dict[str, Any]:
    """Return the state for a pickle: small, usable on any machine, and with versions."""
    state = dict(BaseEstimator.__getstate__(self))
    for name, value in state.items():
        if isinstance(value, Tensor):
            # A tensor on a GPU could not be unpickled on a machine without one.
            state[name] = value.cpu()
    # scikit-learn records its version only for its own classes.
    state[_SKLEARN_VERSION] = sklearn.__version__
    labels = state.get("labels_")
    # Other attributes belong to the user.
    state[_HAS_COMPACT_LABELS] = False
    restores_itself = type(self).__setstate__ is not set_state
    if not restores_itself and isinstance(labels, np.ndarray) and labels.dtype == np.int64:
        state["labels_"], state[_HAS_COMPACT_LABELS] = compact_labels(labels), True
    state[_OUR_VERSION] = sklearn_torch_gmm.__version__
    return state


def set_state(self, state: Mapping[str, Any]) -> None:
    """Restore the state from a pickle, and warn if other versions wrote it."""
    state = dict(state)
    original_sklearn = state.pop(_SKLEARN_VERSION, "unknown")
    original = state.pop(_OUR_VERSION, "unknown")
    versions = {
        "estimator_name": type(self).__name__,
        "current_sklearn_version": sklearn.__version__,
        "original_sklearn_version": original_sklearn,
    }
    if original_sklearn != sklearn.__version__:
        warnings.warn(InconsistentVersionWarning(**versions), stacklevel=2)
    current = sklearn_torch_gmm.__version__
    if original != current:
        warning = ModelVersionWarning(
            current_version=current, original_version=original, **versions
        )
        warnings.warn(warning, stacklevel=2)
    if state.pop(_HAS_COMPACT_LABELS, "labels_" in state):
        state["labels_"] = state["labels_"].astype(np.int64)
    BaseEstimator.__setstate__(self, state)


def compact_labels(labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return labels in the smallest type that holds them: an eighth of int64 for most mixtures."""
    smallest, largest = int(labels.min(initial=0)), int(labels.max(initial=0))
    for candidate in (np.uint8, np.int16, np.int32):
        limits = np.iinfo(candidate)
        if limits.min <= smallest and largest <= limits.max:
            return labels.astype(candidate)
    return labels.astype(np.int64)

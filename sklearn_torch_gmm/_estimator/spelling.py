"""Hints for parameters that have another name in this class, or that are misspelt."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, cast

_PAIRS = [
    ("n_components", "num_components"),
    ("tol", "convergence_tolerance"),
    ("reg_covar", "covariance_regularization"),
    ("n_init", "num_init"),
    ("init_params", "init_strategy"),
    ("means_init", "init_means"),
]
"""Names of the same parameter in scikit-learn's class and in the class for torch users."""

_OTHER_NAMES = {
    **dict(_PAIRS),
    **{ours: theirs for theirs, ours in _PAIRS},
    "max_epochs": "max_iter",
}

_SYNONYMS = {"n_clusters": ("n_components", "num_components")}
"""Parameters of other clusterers, and what they may be called here."""

_ADVICE = {
    "max_iter": "pass trainer_params={'max_epochs': ...}",
    "max_epochs": "pass trainer_params={'max_epochs': ...}",
    "device": "pass trainer_params={'accelerator': 'cuda', 'devices': [0]}",
    "trainer": "pass its keyword arguments, as trainer_params={'accelerator': 'cpu'}",
    "n_jobs": "a fit uses torch's threads: see torch.set_num_threads",
    "weights_init": "use sklearn_torch_gmm.mixture.GaussianMixture, or from_parameters",
    "precisions_init": "use sklearn_torch_gmm.mixture.GaussianMixture, or from_parameters",
    "warm_start": "use sklearn_torch_gmm.mixture.GaussianMixture, or partial_fit",
}


def check_names(cls: type, arguments: Mapping[str, Any]) -> None:
    """Raise TypeError for the first keyword argument that a constructor does not take."""
    names = _names_of(cast(Hashable, cls))
    for name in arguments:
        if names is not None and name not in names:
            msg = f"{cls.__module__}.{cls.__qualname__} has no parameter {name!r}"
            raise TypeError(f"{msg}: {_hint(name, names)}")


def _hint(name: str, names: list[str]) -> str:
    if _OTHER_NAMES.get(name) in names:
        return f"it is {_OTHER_NAMES[name]} in this class"
    for synonym in _SYNONYMS.get(name, ()):
        if synonym in names:
            return f"it is {synonym} in this class"
    return _ADVICE.get(name) or did_you_mean(name, names)


def did_you_mean(name: str, names: list[str]) -> str:
    """Return a hint with the names that are similar to ``name``, or with all names."""
    near = get_close_matches(name, names, n=2)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"it takes {', '.join(names)}"


@lru_cache(maxsize=64)
def _names_of(cls: Hashable) -> list[str] | None:
    """Names of keyword parameters; None for a constructor that takes any."""
    assert callable(cls)
    parameters = inspect.signature(cls).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters]

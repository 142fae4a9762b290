"""Checks that a checkpoint belongs to a fit, and random states as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sklearn_torch_gmm._private_parts import GLOBAL_RANDOM_STATE
from sklearn_torch_gmm.em.settings import FitSettings


def check_file(path: str | PathLike[str]) -> None:
    """Raise ValueError if a file exists but is not a checkpoint of a mixture.

    Words such as 'last', which are not files, are left to Lightning.
    """
    if not Path(path).is_file():
        return
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        is_mixture = "_extra_state" in content["state_dict"]
    except Exception as error:
        msg = f"{path} is not a checkpoint that Lightning has saved: {error!r}"
        raise ValueError(msg) from error
    if not is_mixture:
        msg = f"{path} is a checkpoint of another Lightning module, not of a mixture."
        raise ValueError(msg)


def check_state(state: dict[str, Any], fits: Sequence[FitSettings], num_features: int) -> None:
    """Raise ValueError if the state of a checkpoint does not belong to these fits."""
    if "fits" not in state:
        msg = "The checkpoint is of another version of sklearn_torch_gmm: fit without ckpt_path."
        raise ValueError(msg)
    for fit, settings in zip(state["fits"], fits, strict=True):
        _check_fit(fit, settings, num_features)


def _check_fit(fit: dict[str, Any], settings: FitSettings, num_features: int) -> None:
    components, restarts = settings.num_components, fit["restarts"]
    covariance_shape = settings.structure.covariance_shape(components, num_features)
    _, means, covariances, *_ = restarts[0]["parameters"]
    compared = {
        "covariances of type": (fit["covariance_type"], settings.covariance_type),
        "starts": (len(restarts), settings.num_init),
        "means of shape": (tuple(means.shape[1:]), (components, num_features)),
        "covariances of shape": (tuple(covariances.shape[1:]), covariance_shape),
    }
    estimation = fit["estimation"]
    for name, value in settings.estimation.facts().items():
        compared[name] = (estimation.get(name), value)
    for name, (found, wanted) in compared.items():
        if found != wanted:
            msg = (
                f"The checkpoint is of another fit: it holds {name} {found}, but this fit has "
                f"{name} {wanted}."
            )
            raise ValueError(msg)


def random_state_to_plain(random_state: np.random.RandomState) -> dict[str, Any]:
    """Return a state that a checkpoint can hold without pickled objects."""
    state = random_state.get_state(legacy=False)
    generator = {**state["state"], "key": state["state"]["key"].tolist()}
    return {**state, "state": generator}


def restore_random_state(random_state: np.random.RandomState, state: dict[str, Any]) -> None:
    """Set the state, unless it is NumPy's global one, which belongs to the caller."""
    if random_state is not GLOBAL_RANDOM_STATE:
        generator = {**state["state"], "key": np.array(state["state"]["key"], dtype=np.uint32)}
        random_state.set_state({**state, "state": generator})

"""What a checkpoint must fit, and random numbers in it as plain values."""

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
    """Look whether a file is a checkpoint of a fit; words such as 'last' are Lightning's.

    Raises
    ------
    ValueError
        If it is another file, or a checkpoint of another module.
    """
    if not Path(path).is_file():
        return
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        is_ours = "_extra_state" in content["state_dict"]
    except Exception as error:
        msg = f"{path} is no checkpoint that Lightning has saved: {error!r}"
        raise ValueError(msg) from error
    if not is_ours:
        msg = f"{path} is a checkpoint of another Lightning module, not of a mixture."
        raise ValueError(msg)


def check_state(state: dict[str, Any], fits: Sequence[FitSettings], num_features: int) -> None:
    """Hold the state of a checkpoint against a fit.

    Raises
    ------
    ValueError
        If it is that of another mixture.
    """
    for fit, settings in zip(state["fits"], fits, strict=True):
        _check_fit(fit, settings, num_features)


def _check_fit(fit: dict[str, Any], settings: FitSettings, num_features: int) -> None:
    components, restarts = settings.num_components, fit["restarts"]
    wanted = {
        "covariances of type": settings.covariance_type,
        "starts": settings.num_init,
        "means of shape": (components, num_features),
        "covariances of shape": settings.structure.covariance_shape(components, num_features),
    }
    _, means, covariances, _ = restarts[0]["parameters"]
    found = {
        "covariances of type": fit["covariance_type"],
        "starts": len(restarts),
        "means of shape": tuple(means.shape[1:]),
        "covariances of shape": tuple(covariances.shape[1:]),
    }
    for what, value in wanted.items():
        if found[what] != value:
            msg = (
                f"The checkpoint is of another fit: it holds {what} {found[what]}, and this fit "
                f"has {what} {value}."
            )
            raise ValueError(msg)


def random_state_to_plain(random_state: np.random.RandomState) -> dict[str, Any]:
    """Return a state that a checkpoint can hold without pickled objects."""
    state = random_state.get_state(legacy=False)
    generator = {**state["state"], "key": state["state"]["key"].tolist()}
    return {**state, "state": generator}


def restore_random_state(random_state: np.random.RandomState, state: dict[str, Any]) -> None:
    """Go on with the random numbers where they were."""
    # Those of the whole process are not ours to set back.
    if random_state is not GLOBAL_RANDOM_STATE:
        generator = {**state["state"], "key": np.array(state["state"]["key"], dtype=np.uint32)}
        random_state.set_state({**state, "state": generator})

"""Checkpoints: sealed when they are saved, and checked before a fit continues from one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_torch_gmm._private_parts import GLOBAL_RANDOM_STATE
from sklearn_torch_gmm.em.settings import FitSettings
from sklearn_torch_gmm.rows.source import RowSource

_SEAL = "sklearn_torch_gmm"
"""The key of a checkpoint that holds the checksum of all others."""

_VERSION = 3
"""Of the state in a checkpoint: raised with each change after which an older one cannot be read."""


def seal(checkpoint: dict[str, Any]) -> None:
    """Add a checksum. Whether torch finds a flipped bit in its files depends on where it is."""
    checkpoint[_SEAL] = {"version": _VERSION, "sha256": _checksum(checkpoint)}


def check_file(path: str | PathLike[str]) -> None:
    """Raise ValueError if there is something else than a checkpoint of a mixture.

    Paths at which nothing is, and addresses, are left to Lightning.
    """
    if not Path(path).exists():
        return
    if not Path(path).is_file():
        # A pipe or a device might never end.
        msg = f"{path} is not a regular file: give the checkpoint that a callback has saved."
        raise ValueError(msg)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        is_mixture = "_extra_state" in content["state_dict"]
    except Exception as error:
        msg = f"{path} is damaged, or not a checkpoint that Lightning has saved: {error!r}"
        raise ValueError(msg) from error
    if not is_mixture:
        msg = f"{path} is a checkpoint of another Lightning module, not of a mixture."
        raise ValueError(msg)
    found = content.get(_SEAL)
    if not isinstance(found, dict) or found.get("version") != _VERSION:
        msg = f"{path} is of another version of sklearn_torch_gmm: fit without ckpt_path."
        raise ValueError(msg)
    if found.get("sha256") != _checksum(content):
        msg = (
            f"{path} is damaged: its checksum does not hold. Continue from an earlier "
            "checkpoint, or fit without ckpt_path."
        )
        raise ValueError(msg)
    if "optimizer_states" not in content:
        msg = f"{path} does not hold the state of the trainer: save with save_weights_only=False."
        raise ValueError(msg)


def _checksum(checkpoint: Mapping[str, Any]) -> str:
    """SHA-256 of everything but the seal."""
    digest = hashlib.sha256()
    _add(digest.update, {key: value for key, value in checkpoint.items() if key != _SEAL})
    return digest.hexdigest()


def _add(update: Callable[[Any], None], value: Any) -> None:
    """Update a checksum with a value, as it is both before it is saved and after it is loaded."""
    if isinstance(value, Mapping):
        value = [part for item in value.items() for part in item]
    if isinstance(value, (list, tuple)):
        update(f"[{len(value)}".encode())
        for part in value:
            _add(update, part)
    elif isinstance(value, Tensor) and value.layout == torch.strided:
        update(f"{value.dtype}{tuple(value.shape)}{value.requires_grad}".encode())
        # Not `contiguous`: a single value may keep a stride that a view of its octets refuses.
        values = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        update(values.flatten().view(torch.uint8).numpy().data)
    elif isinstance(value, (str, bytes, int, float)) or value is None:
        update(f"{type(value).__name__} {value!r};".encode())
    else:
        # The state of somebody's callback: no form of it is known to be the same again.
        update(type(value).__name__.encode())


def check_state(
    state: Mapping[str, Any], num_rows: int, fits: Sequence[FitSettings], rows: RowSource
) -> None:
    """Raise ValueError if a state, of that many rows, does not belong to these fits of ``rows``.

    The state is that of :meth:`~sklearn_torch_gmm.em.iterations.Iterations.state`.
    """
    for fit, settings in zip(state["fits"], fits, strict=True):
        _compare(_facts_of_fit(fit, settings, rows.num_features))
    _compare({"a number of rows of": (num_rows, rows.num_rows)})


def _facts_of_fit(
    fit: Mapping[str, Any], settings: FitSettings, num_features: int
) -> dict[str, tuple[Any, Any]]:
    """Values on which a checkpoint and a fit have to agree, by name."""
    components, restarts = settings.num_components, fit["restarts"]
    covariance_shape = settings.structure.covariance_shape(components, num_features)
    _, means, covariances, *_ = restarts[0]["parameters"]
    regularization = settings.regularization
    return {
        "covariances of type": (fit["covariance_type"], settings.covariance_type),
        "starts": (len(restarts), settings.num_init),
        "means of shape": (tuple(means.shape[1:]), (components, num_features)),
        "covariances of shape": (tuple(covariances.shape[1:]), covariance_shape),
        regularization.name: (fit["regularization"], regularization.amount),
        "random_state": (fit["seed"], settings.random.seed),
        "acceleration": (fit["acceleration"], settings.loop.acceleration),
        **{
            name: (fit["estimation"].get(name), value)
            for name, value in settings.estimation.facts().items()
        },
    }


def _compare(facts: Mapping[str, tuple[Any, Any]]) -> None:
    for name, (found, wanted) in facts.items():
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

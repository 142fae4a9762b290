"""The file of a saved estimator, ``model.safetensors`` in its own directory.

It has two parts, the parameters and the fitted attributes, each of which is JSON that refers to
tensors. They include the tensors and the configuration of the fitted torch module, under its names.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import sklearn
import torch
from torch import Tensor

import sklearn_torch_gmm
from sklearn_torch_gmm._saving.locks import locked
from sklearn_torch_gmm.core.files import obstacle_to, replace_file, sync_directory
from sklearn_torch_gmm.core.model import MODEL_FILE
from sklearn_torch_gmm.core.serialization import dump_tensors, read_tensors

PartName = Literal["parameters", "attributes"]

LOCK_FILE = f".{MODEL_FILE}.lock"
"""Exists while a model is written."""

_PARAMETER = "parameters."
"""Prefix of the tensors of parameters; those of attributes have their own names."""


@dataclass(frozen=True)
class Part:
    """Values as JSON, by name, and the tensors to which they refer."""

    values: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    config: dict[str, Any] | None = None
    """The configuration of the torch module whose tensors are included."""


def write_model(
    directory: Path, class_name: str, parts: Mapping[PartName, Part], *, keep_other: bool
) -> None:
    """Write parts of a model atomically: readers find the old model or the new one.

    The directory is created if it does not exist. With ``keep_other``, it keeps a part that is not
    given. Several writers wait for each other.

    Raises
    ------
    OSError
        If the path is not a directory, or it cannot be written.
    ValueError
        If the part to keep belongs to another class, or the file there is not a model.
    """
    _check_place(directory)
    # Encoded before the directory is created, since it fails if the parts cannot be stored.
    content = _content(class_name, parts)
    if not directory.exists():
        directory.mkdir(parents=True, exist_ok=True)
        sync_directory(directory.parent)
    with locked(directory / LOCK_FILE):
        if os.path.lexists(directory / MODEL_FILE):
            # Never overwrite a file that is not a saved model.
            found = _read(directory)
            if keep_other and set(found.parts) - set(parts):
                _check_class(found, class_name, directory)
                content = _content(class_name, {**found.parts, **parts})
        replace_file(directory / MODEL_FILE, content)


def _check_place(directory: Path) -> None:
    """Raise OSError, naming the obstacle, unless the directory exists or can be created."""
    obstacle = obstacle_to(directory)
    if obstacle is not None:
        kind = "this is a file" if obstacle.exists() else "this is a broken link"
        msg = f"A model is saved to a directory, but {kind}: remove it, or give another path"
        raise NotADirectoryError(errno.ENOTDIR, msg, str(obstacle))


def _content(class_name: str, parts: Mapping[PartName, Part]) -> bytes:
    document: dict[str, Any] = {
        "class": class_name,
        "versions": {
            "sklearn_torch_gmm": sklearn_torch_gmm.__version__,
            "scikit-learn": sklearn.__version__,
            "torch": str(torch.__version__),
        },
    }
    tensors: dict[str, Tensor] = {}
    for name, part in parts.items():
        document[name] = part.values
        prefix = _PARAMETER if name == "parameters" else ""
        tensors.update({prefix + key: tensor for key, tensor in part.tensors.items()})
        if part.config is not None:
            document["config"] = part.config
    return dump_tensors(tensors, document)


def read_model(directory: Path, class_name: str) -> dict[PartName, Part]:
    """Return the parts of a model, or raise the errors that the estimator's ``load`` documents."""
    if not directory.exists():
        msg = "This directory does not exist: give the path to which the estimator was saved"
        raise FileNotFoundError(errno.ENOENT, msg, str(directory))
    if not directory.is_dir():
        msg = (
            "A saved estimator is a directory, but this is a file: give the directory to which it "
            "was saved. GaussianMixtureModel.load reads the file of a torch module"
        )
        raise NotADirectoryError(errno.ENOTDIR, msg, str(directory))
    found = _read(directory)
    _check_class(found, class_name, directory)
    return found.parts


@dataclass(frozen=True)
class _Found:
    class_name: str
    parts: dict[PartName, Part]


def _read(directory: Path) -> _Found:
    path = directory / MODEL_FILE
    try:
        tensors, document = read_tensors(path)
    except FileNotFoundError:
        msg = (
            "This directory does not contain a saved estimator: either it was never saved here, or "
            "its first save was interrupted. Save it again. The missing file"
        )
        raise FileNotFoundError(errno.ENOENT, msg, str(path)) from None
    values = {name: document[name] for name in ("parameters", "attributes") if name in document}
    if not values and "config" in document:
        msg = f"{path} holds a torch module, not an estimator: use GaussianMixtureModel.load."
        raise ValueError(msg)
    are_parts = all(isinstance(part, dict) for part in values.values())
    if not are_parts or not isinstance(document.get("class"), str):
        msg = f"{path} does not contain an estimator: remove it, or give another directory."
        raise ValueError(msg)
    own = {
        key.removeprefix(_PARAMETER): t for key, t in tensors.items() if key.startswith(_PARAMETER)
    }
    others = {key: t for key, t in tensors.items() if not key.startswith(_PARAMETER)}
    parts: dict[PartName, Part] = {}
    if "parameters" in values:
        parts["parameters"] = Part(values["parameters"], own)
    if "attributes" in values:
        parts["attributes"] = Part(values["attributes"], others, document.get("config"))
    return _Found(document["class"], parts)


def _check_class(found: _Found, class_name: str, directory: Path) -> None:
    if found.class_name != class_name:
        msg = (
            f"{directory} contains a {found.class_name}, not a {class_name}: load it with its own "
            "class, or give another directory."
        )
        raise ValueError(msg)

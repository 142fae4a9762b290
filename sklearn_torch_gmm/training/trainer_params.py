"""Checks of the parameters that the user passes to Lightning's trainer.

Lightning checks some values when a trainer is constructed, others during a fit, and raises errors
of several types. Here values are compared with the types that the trainer declares, and its own
refusals become errors that name `trainer_params`.
"""

from __future__ import annotations

import inspect
import os
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.plugins import Precision

_NUMBERS: dict[type, type] = {int: Integral, float: Real}


def check_trainer_params(params: Mapping[Any, Any]) -> None:
    """Check parameters against the declarations of the trainer and the needs of EM.

    Raises
    ------
    TypeError
        If the trainer does not know a name, or declares another type for a value.
    ValueError
        If a plugin would choose the arithmetic.
    """
    hints = _declared()
    unknown = sorted(map(repr, set(params) - set(hints)))
    if unknown:
        msg = (
            f"trainer_params holds {', '.join(unknown)}, which pytorch_lightning.Trainer does not "
            f"know. It takes: {', '.join(sorted(hints))}.{_suggestion(params, hints)}"
        )
        raise TypeError(msg)
    for name, value in params.items():
        # EM chooses the arithmetic itself, and checks `precision` where it does.
        if name != "precision" and value is not None and not _is_a(value, hints[name]):
            msg = (
                f"trainer_params holds {name}={value!r}, but pytorch_lightning.Trainer declares it "
                f"as {_name(hints[name])}."
            )
            raise TypeError(msg)
    _check_plugins(params.get("plugins"))


def _suggestion(params: Mapping[Any, Any], hints: Mapping[str, Any]) -> str:
    """Names of the trainer that look like the unknown ones."""
    unknown = [name for name in params if isinstance(name, str) and name not in hints]
    near = [match for name in unknown for match in _meant(name, hints)]
    return f" Did you mean {' or '.join(near)}?" if near else ""


def _meant(name: str, hints: Mapping[str, Any]) -> list[str]:
    """The name of an iteration here is that of the trainer's epoch."""
    return ["max_epochs"] if name in ("max_iter", "n_iter") else get_close_matches(name, hints, n=1)


def as_list(value: Any) -> list[Any]:
    """Return a new list of a value, or values, that the trainer takes one or several of."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _check_plugins(plugins: Any) -> None:
    """Raise ValueError for a plugin that would convert rows to another type."""
    for plugin in as_list(plugins):
        if isinstance(plugin, Precision):
            msg = (
                f"plugins in trainer_params holds a {type(plugin).__name__}. EM chooses its "
                "arithmetic itself; precision='64-true' or '32-true' overrides that."
            )
            raise ValueError(msg)


@contextmanager
def refusals(params: Mapping[str, Any]) -> Iterator[None]:
    """Turn any error of the trainer's construction into a ValueError that names the parameters.

    An ImportError stays as it is: a package is missing.
    """
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        msg = f"pytorch_lightning.Trainer refuses trainer_params={dict(params)!r}: {error}"
        raise ValueError(msg) from error


@cache
def _declared() -> dict[str, Any]:
    try:
        hints = get_type_hints(pl.Trainer.__init__)
    except NameError:
        # Some annotations name types that Lightning imports only for type checkers.
        hints = {}
    names = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
    return {name: hints.get(name, object) for name in names}


def _is_a(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_is_a(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin is dict:
        return isinstance(value, dict)
    if origin is not None:
        is_sequence = isinstance(value, (list, tuple))
        return is_sequence and all(_is_a(item, arguments[0]) for item in value)
    if hint is Path:
        return isinstance(value, os.PathLike)
    if hint is bool:
        return isinstance(value, (np.bool_, Integral)) and value in (0, 1)
    if hint in _NUMBERS:
        return isinstance(value, _NUMBERS[hint])
    if getattr(hint, "__module__", "builtins").startswith(("pytorch_lightning", "lightning")):
        # Lightning comes in two packages, whose callbacks and loggers are of different classes.
        return any(base.__name__ == hint.__name__ for base in type(value).__mro__)
    return not isinstance(hint, type) or isinstance(value, hint)


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")

"""Whether Lightning's trainer can take what the user wants to hand to it.

Lightning looks at some values when a trainer is made, at others in the midst of a fit, and says so
in errors of several kinds. Here they are held against the types that the trainer declares, and what
it refuses itself is an error that names `trainer_params`.
"""

from __future__ import annotations

import inspect
import os
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.plugins import Precision

_NUMBERS: dict[type, type] = {int: Integral, float: Real}


def check_trainer_params(params: Mapping[Any, Any]) -> None:
    """Hold parameters against what the trainer declares, and against what EM needs.

    Raises
    ------
    TypeError
        If the trainer does not know a name, or declares a value as of another type.
    ValueError
        If a plugin would choose the arithmetic.
    """
    hints = _declared()
    unknown = sorted(map(repr, set(params) - set(hints)))
    if unknown:
        msg = (
            f"trainer_params holds {', '.join(unknown)}, which pytorch_lightning.Trainer does not "
            f"know. It takes: {', '.join(sorted(hints))}."
        )
        raise TypeError(msg)
    for name, value in params.items():
        # The arithmetic is ours, and so is what it may be.
        if name != "precision" and value is not None and not _is_a(value, hints[name]):
            msg = (
                f"trainer_params holds {name}={value!r}, and pytorch_lightning.Trainer declares it "
                f"as {_name(hints[name])}."
            )
            raise TypeError(msg)
    _check_plugins(params.get("plugins"))


def as_list(value: Any) -> list[Any]:
    """Return a new list of what the trainer takes one or several of."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _check_plugins(plugins: Any) -> None:
    """Raise ValueError for a plugin that would hand over rows of another type than they have."""
    for plugin in as_list(plugins):
        if isinstance(plugin, Precision):
            msg = (
                f"plugins in trainer_params holds a {type(plugin).__name__}. EM chooses its "
                "arithmetic itself; precision='64-true' or '32-true' overrides that."
            )
            raise ValueError(msg)


@contextmanager
def refusals(params: Mapping[str, Any]) -> Iterator[None]:
    """Name the parameters in what the trainer says of them when it is made.

    Raises
    ------
    ValueError
        For an error of any kind, except that a package is missing.
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
        # Types that Lightning imports for checkers alone.
        hints = {}
    names = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
    return {name: hints.get(name, object) for name in names}


def _is_a(value: Any, hint: Any) -> bool:
    origin, members = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_is_a(value, member) for member in members)
    if origin is Literal:
        return value in members
    if origin is dict:
        return isinstance(value, dict)
    if origin is not None:
        return isinstance(value, (list, tuple)) and all(_is_a(item, members[0]) for item in value)
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

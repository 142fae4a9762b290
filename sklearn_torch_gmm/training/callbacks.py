"""Callbacks that serve several fits: each fit begins as the first one does.

Lightning's trainers are made for one run each, and so are the callbacks that decide about its end.
A user's `trainer_params` serve every fit of an estimator and of its clones.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from functools import cache
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

_STATE = "_sklearn_torch_gmm_state"
"""Attribute of a callback for its state before the first fit, which copies of it inherit."""


def start_over(callbacks: Iterable[pl.Callback]) -> None:
    """Give callbacks the state that they had before their first fit, and let them remember it.

    The state of a last fit would stop the next one early, or would make it write no checkpoint.
    Until then, users can read it. Only the state of Lightning's own classes is meant: what their
    subclasses add, and all other callbacks, are left as they are.
    """
    for callback in callbacks:
        for kind in (EarlyStopping, ModelCheckpoint):
            if isinstance(callback, kind):
                _start_over(callback, _names_of_state(kind))


def _start_over(callback: pl.Callback, names: frozenset[str]) -> None:
    state = vars(callback)
    before: dict[str, Any] | None = state.get(_STATE)
    if before is None:
        before = deepcopy({name: state[name] for name in names & state.keys()})
        state[_STATE] = before
    else:
        state.update(deepcopy(before))


@cache
def _names_of_state(kind: type[EarlyStopping | ModelCheckpoint]) -> frozenset[str]:
    own = kind("") if issubclass(kind, EarlyStopping) else kind()
    return frozenset(vars(own))

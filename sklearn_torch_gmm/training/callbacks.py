"""Callbacks that serve several fits: each fit begins as the first one does.

Lightning's trainers are made for one run each, and so are the callbacks that decide about its end.
A user's `trainer_params` serve every fit of an estimator and of its clones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

_STATE = "_sklearn_torch_gmm_state"
"""Attribute of a callback for the values, before its first fit, of attributes that a fit changes.

Copies of the callback inherit it."""


@contextmanager
def starting_over(callbacks: Iterable[pl.Callback], *, continues: bool) -> Iterator[None]:
    """Undo the changes of earlier fits to callbacks, unless this one continues an earlier fit.

    The state of a last fit would stop the next one early, or would make it write no checkpoint.
    Until then, users can read it. Only the state of Lightning's own classes is meant: what their
    subclasses add, what users change themselves, and all other callbacks are left as they are.
    """
    known: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for callback in callbacks:
        state = vars(callback)
        for kind in (EarlyStopping, ModelCheckpoint):
            if isinstance(callback, kind):
                if not continues:
                    state.update(deepcopy(state.get(_STATE, {})))
                names = _names_of(kind) & state.keys()
                known.append((state, deepcopy({name: state[name] for name in names})))
    try:
        yield
    finally:
        for state, before in known:
            changed = {name: own for name, own in before.items() if not bool(own == state[name])}
            state[_STATE] = {**changed, **state.get(_STATE, {})}


@cache
def _names_of(kind: type[EarlyStopping | ModelCheckpoint]) -> frozenset[str]:
    """Return the names of the attributes that Lightning's class gives its objects."""
    own = kind("") if issubclass(kind, EarlyStopping) else kind()
    return frozenset(vars(own))

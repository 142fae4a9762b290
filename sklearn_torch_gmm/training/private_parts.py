"""The uses of private parts of Lightning, except those of launchers of processes.

Each has a test in ``tests/training/test_private_parts.py`` that fails when a version of Lightning
no longer has it. The uses of other libraries' are in :mod:`sklearn_torch_gmm._private_parts`.
"""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from torch.utils._pytree import tree_structure

from sklearn_torch_gmm.training.quiet import quiet_lightning


class QuietTrainer(pl.Trainer):
    """A trainer that is also quiet in the processes that it starts.

    A new process does not inherit the context that the fit was called in.
    """

    def _fit_impl(self, *args: Any, **kwargs: Any) -> None:
        with quiet_lightning():
            super()._fit_impl(*args, **kwargs)


class OneLoader(CombinedLoader):
    """A single loader in the form that Lightning's loops need, which is a collection of loaders.

    The parent's constructor warns, since it creates an object whose class torch has deprecated; a
    filter would not always help, since other threads may be changing the filters.
    """

    def __init__(self, batches: Iterable[Any]) -> None:
        self._iterables = batches
        self._flattened = [batches]
        self._spec = tree_structure(0)
        self._mode = "max_size_cycle"
        self._iterator = None
        self._limits = None


def find_checkpoint(trainer: pl.Trainer, ckpt_path: str | PathLike[str]) -> str | None:
    """Return the path that words such as 'last' stand for; others are returned as they are.

    None, with a warning, if there is no last checkpoint. Lightning would find the path later, and
    read the file before anything of ours can check it.
    """
    connector = trainer._checkpoint_connector
    path = connector._parse_ckpt_path(
        TrainerFn.FITTING, str(ckpt_path), model_provided=True, model_connected=True
    )
    return None if path is None else str(path)


def forget_module(trainer: pl.Trainer) -> None:
    """Let the user's own callbacks and profiler no longer refer to the module of a fit.

    Through it, an estimator with such parameters would keep the data, and could not be copied.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        for name in ("log", "log_dict"):
            vars(callback).pop(name, None)
    profiler = trainer.profiler  # type: ignore[attr-defined]
    if hasattr(profiler, "_lightning_module"):
        profiler._lightning_module = None


def communicate_between_epochs_only(trainer: pl.Trainer) -> None:
    """Let the processes of a fit read different numbers of batches.

    Lightning wraps the module to exchange gradients, which EM does not have, and broadcasts signals
    before each batch: a process with more batches than others would wait for them indefinitely.
    """
    strategy, loop = trainer.strategy, trainer.fit_loop.epoch_loop
    strategy.model = strategy.lightning_module
    if hasattr(loop, "_broadcast_sigterm_tensor"):
        loop._broadcast_sigterm_tensor = _do_nothing  # type: ignore[method-assign]


def _do_nothing() -> None:
    pass

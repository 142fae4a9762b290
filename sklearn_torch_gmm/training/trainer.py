"""A quiet ``pytorch_lightning.Trainer`` from ``trainer_params``, and one run of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, ProgressBar
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from sklearn_torch_gmm.core.device import automatic_accelerator
from sklearn_torch_gmm.training.private_parts import QuietTrainer, leave_nothing_behind
from sklearn_torch_gmm.training.trainer_params import as_list, check_trainer_params, refusals

QUIET_DEFAULTS: dict[str, Any] = {
    "accelerator": "auto",
    "devices": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
}
"""One device and no output unless asked: a call inside a grid search must not start processes."""

_ASKED_BY: dict[type[pl.Callback], str] = {
    Checkpoint: "enable_checkpointing",
    ProgressBar: "enable_progress_bar",
}
"""What a callback of the user's asks for; Lightning refuses it beside such a default."""


def make_trainer(trainer_params: Mapping[str, Any], *, max_epochs: int | None) -> pl.Trainer:
    """Build a trainer.

    Parameters
    ----------
    trainer_params : mapping
        Keyword arguments of ``pytorch_lightning.Trainer``; they override the defaults.
    max_epochs : int or None
        Largest number of iterations, unless ``trainer_params`` names it; None: Lightning's own.

    Raises
    ------
    TypeError
        If the trainer has no such parameter, or one has a value of another type than it declares.
    ValueError
        If the trainer refuses a value.
    """
    check_trainer_params(trainer_params)
    asked = _asked_by_callbacks(trainer_params.get("callbacks"))
    params: dict[str, Any] = {**QUIET_DEFAULTS, **asked, "max_epochs": max_epochs, **trainer_params}
    # Lightning asks for Python's own numbers.
    params = {n: v.item() if isinstance(v, np.generic) else v for n, v in params.items()}
    # The module chooses the arithmetic itself. Lightning's plugin would set torch's default type
    # for the whole process while a step runs.
    params.pop("precision", None)
    if params["accelerator"] == "auto":
        params["accelerator"] = automatic_accelerator()
    # Lightning's sampler repeats rows to even out the ranks; ours never does.
    params["use_distributed_sampler"] = False
    with refusals(trainer_params):
        return _made(params)


def _asked_by_callbacks(callbacks: pl.Callback | Sequence[pl.Callback] | None) -> dict[str, bool]:
    given = as_list(callbacks)
    return {
        name: True
        for kind, name in _ASKED_BY.items()
        if any(isinstance(callback, kind) for callback in given)
    }


def _made(params: Mapping[str, Any]) -> pl.Trainer:
    params = dict(params)
    if params.get("callbacks") is not None:
        # Lightning appends to what it is given.
        params["callbacks"] = as_list(params["callbacks"])
    if _is_one_process(params) and not params.get("plugins"):
        # Otherwise a job under SLURM is taken for one of many nodes, and waits for the others.
        params["plugins"] = [LightningEnvironment()]
    trainer = QuietTrainer(**params)
    leave_nothing_behind(trainer)
    return trainer


def must_stop(trainer: pl.Trainer) -> bool:
    """Whether the fit is over, or the process has been told to end."""
    return trainer.should_stop or trainer.received_sigterm


def run_trainer(
    trainer: pl.Trainer, module: pl.LightningModule, ckpt_path: str | PathLike[str] | None = None
) -> None:
    """Fit, and leave nothing behind that the caller did not ask for.

    Parameters
    ----------
    trainer : pytorch_lightning.Trainer
    module : pytorch_lightning.LightningModule
    ckpt_path : str, path or None
        A checkpoint to go on from.

    Raises
    ------
    KeyboardInterrupt
        As it came; Lightning alone would end the process.
    ValueError
        If the trainer refuses a parameter that it looks at only now.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if in_main_thread else None
    try:
        # Lightning turns gradients on and leaves them on; here they return to the caller's choice.
        with torch.set_grad_enabled(torch.is_grad_enabled()):
            trainer.fit(module, ckpt_path=None if ckpt_path is None else str(ckpt_path))
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            launcher = trainer.strategy.launcher
            if launcher is not None:
                launcher.kill(signal.SIGKILL)
            raise error.__context__ from None
        raise
    except MisconfigurationException as error:
        msg = f"pytorch_lightning.Trainer refuses trainer_params: {error}"
        raise ValueError(msg) from error
    finally:
        if handler is not None and signal.getsignal(signal.SIGINT) is not handler:
            signal.signal(signal.SIGINT, handler)


def _is_one_process(params: Mapping[str, Any]) -> bool:
    devices = params["devices"]
    is_list_of_one = isinstance(devices, (list, tuple)) and len(devices) == 1
    one_device = devices in (1, "1") or is_list_of_one
    return (
        one_device and params.get("num_nodes", 1) == 1 and params.get("strategy") in (None, "auto")
    )

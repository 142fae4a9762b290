"""Construction and one run of a quiet ``pytorch_lightning.Trainer``."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from os import PathLike
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from joblib import cpu_count
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.callbacks import Checkpoint, ProgressBar
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import Strategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from sklearn_torch_gmm.core.caller import level_of_caller
from sklearn_torch_gmm.core.device import automatic_accelerator
from sklearn_torch_gmm.training.launchers import end_together
from sklearn_torch_gmm.training.private_parts import QuietTrainer
from sklearn_torch_gmm.training.trainer_params import as_list, check_trainer_params, refusals

QUIET_DEFAULTS: dict[str, Any] = {
    "accelerator": "auto",
    "devices": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
}
"""One device and no output by default: a fit inside a grid search must not start processes."""

PROCESSES_PER_CORE = 4
"""Processes for each core above which a fit on CPUs warns. Lightning starts any number: 64 would
import their modules for minutes on two cores. A few more than cores, as in a trial of a program for
a cluster, cost little; with twice the value, 16 on two cores would start without a warning."""

_IMPLIED_BY: dict[type[pl.Callback], str] = {
    Checkpoint: "enable_checkpointing",
    ProgressBar: "enable_progress_bar",
}
"""Parameters that a callback of this class implies; Lightning refuses it without them."""


def make_trainer(trainer_params: Mapping[str, Any], *, max_epochs: int | None) -> pl.Trainer:
    """Return a trainer with these keyword arguments of ``pytorch_lightning.Trainer``.

    They override the defaults and ``max_epochs``, the largest number of iterations, which is
    Lightning's own if it is None.

    Raises
    ------
    TypeError
        If the trainer does not have a parameter, or declares another type for its value.
    ValueError
        If the trainer refuses a value.
    """
    check_trainer_params(trainer_params)
    implied = _implied_by(as_list(trainer_params.get("callbacks")))
    params: dict[str, Any] = QUIET_DEFAULTS | implied | {"max_epochs": max_epochs, **trainer_params}
    # Lightning accepts only Python's own numbers.
    params = {n: v.item() if isinstance(v, np.generic) else v for n, v in params.items()}
    # EM chooses the arithmetic itself. Lightning's plugin would set torch's default type for the
    # whole process while a step runs.
    params.pop("precision", None)
    if params["accelerator"] == "auto":
        params["accelerator"] = automatic_accelerator()
    # Lightning's sampler repeats rows so that all ranks have the same number; EM needs each once.
    params["use_distributed_sampler"] = False
    with refusals(trainer_params):
        trainer = _made(params)
    warn_of_many_processes(trainer)
    return trainer


def warn_of_many_processes(trainer: pl.Trainer) -> None:
    """Warn of many more processes than cores; Lightning counts only the devices of others."""
    processes, cores = trainer.num_devices, cpu_count()
    is_on_cpu = isinstance(trainer.accelerator, CPUAccelerator)
    # The processes that a script starts for a fit would repeat it.
    if is_on_cpu and trainer.local_rank == 0 and processes > PROCESSES_PER_CORE * cores:
        warnings.warn(
            f"trainer_params asks for devices={processes} on the CPU: a fit starts as many "
            f"processes, but this one may use {cores} cores. Set devices to at most {cores}.",
            stacklevel=level_of_caller(),
        )


def _implied_by(callbacks: Sequence[pl.Callback]) -> dict[str, bool]:
    return {
        name: True
        for kind, name in _IMPLIED_BY.items()
        if any(isinstance(callback, kind) for callback in callbacks)
    }


def _made(params: Mapping[str, Any]) -> pl.Trainer:
    params = dict(params)
    if params.get("callbacks") is not None:
        # A copy, since Lightning appends to the list.
        params["callbacks"] = as_list(params["callbacks"])
    if isinstance(params.get("strategy"), Strategy):
        # A copy, since Lightning refuses one that another trainer has used.
        params["strategy"] = copy(params["strategy"])
    if _is_one_process(params) and not params.get("plugins"):
        # Otherwise Lightning takes a job under SLURM for one of many nodes, and waits for them.
        params["plugins"] = [LightningEnvironment()]
    trainer = QuietTrainer(**params)
    end_together(trainer)
    return trainer


def must_stop(trainer: pl.Trainer) -> bool:
    """Whether the fit is over, or a signal asks the process to end."""
    return trainer.should_stop or trainer.received_sigterm


def run_trainer(
    trainer: pl.Trainer, module: pl.LightningModule, ckpt_path: str | PathLike[str] | None = None
) -> None:
    """Fit, and restore gradients and the signal handler of the caller.

    A KeyboardInterrupt is raised as it came; Lightning would turn it into the end of the process.

    Raises
    ------
    ValueError
        If the trainer refuses a parameter that it checks only now.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if in_main_thread else None
    try:
        # Lightning turns gradients on and leaves them on; this restores the caller's choice.
        with torch.set_grad_enabled(torch.is_grad_enabled()):
            trainer.fit(module, ckpt_path=None if ckpt_path is None else str(ckpt_path))
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
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

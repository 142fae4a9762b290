"""The only uses of private parts of Lightning in this package.

Each has a test in ``tests/training/test_private_parts.py`` that fails when a version of Lightning
no longer has it. Those of other libraries are in :mod:`sklearn_torch_gmm._private_parts`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.strategies import ParallelStrategy
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from torch.utils._pytree import tree_structure

from sklearn_torch_gmm.training.process_state import variable_as_before
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


# -- processes ------------------------------------------------------------------------------------


class TidyLauncher(_MultiProcessingLauncher):
    """Starts processes, and removes all of them afterwards, with their folder and their port.

    Lightning's launcher leaves the port in the environment, where the processes of other fits would
    use it too, and the folder through which the first process returns its state.
    """

    def launch(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run the function in each process."""
        with variable_as_before("MASTER_PORT"):
            return super().launch(function, *args, **kwargs)

    def kill(self, signum: Any) -> None:
        """Send a signal to the processes, and wait for them if it is sure to end them."""
        super().kill(signum)
        if signum == getattr(signal, "SIGKILL", None):
            for process in self.procs:
                process.join()

    def _recover_results_in_main_process(self, worker_output: Any, trainer: pl.Trainer) -> None:
        super()._recover_results_in_main_process(worker_output, trainer)
        if worker_output.weights_path is not None:
            Path(worker_output.weights_path).parent.rmdir()


def leave_nothing_behind(trainer: pl.Trainer) -> None:
    """Give a trainer that starts processes a :class:`TidyLauncher`."""
    strategy, launcher = trainer.strategy, trainer.strategy.launcher
    # Launchers for other hardware are of other classes.
    if isinstance(strategy, ParallelStrategy) and type(launcher) is _MultiProcessingLauncher:
        strategy._launcher = TidyLauncher(strategy, launcher._start_method)


def starts_processes(trainer: pl.Trainer) -> bool:
    """Whether the fit runs in new processes, while this one waits for them."""
    return isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)


def is_in_forked_process(trainer: pl.Trainer) -> bool:
    """Whether the fit runs in a forked process, without the threads of its parent."""
    launcher = trainer.strategy.launcher
    # Lightning calls forked processes compatible with notebooks.
    return isinstance(launcher, _MultiProcessingLauncher) and launcher.is_interactive_compatible


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

"""Processes that a fit starts, without what Lightning leaves behind of each start.

Its launcher keeps the port of the processes in the environment, where those of other fits would
meet at it, and the folder through which the first process hands over its state.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.strategies import ParallelStrategy
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher

from sklearn_torch_gmm.training.process_state import variable_as_before


class TidyLauncher(_MultiProcessingLauncher):
    """Starts processes, and leaves none of them behind, no folder and no variable."""

    def launch(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run the function in each of the processes."""
        with variable_as_before("MASTER_PORT"):
            return super().launch(function, *args, **kwargs)

    def kill(self, signum: Any) -> None:
        """Send a signal to the processes, and wait for those that it cannot but end."""
        super().kill(signum)
        if signum == getattr(signal, "SIGKILL", None):
            for process in self.procs:
                process.join()

    def _recover_results_in_main_process(self, worker_output: Any, trainer: pl.Trainer) -> None:
        super()._recover_results_in_main_process(worker_output, trainer)
        if worker_output.weights_path is not None:
            Path(worker_output.weights_path).parent.rmdir()


def leave_nothing_behind(trainer: pl.Trainer) -> None:
    """Let a trainer that starts processes of its own start them so."""
    strategy, launcher = trainer.strategy, trainer.strategy.launcher
    # One for other hardware is of a class of its own.
    if isinstance(strategy, ParallelStrategy) and type(launcher) is _MultiProcessingLauncher:
        strategy._launcher = TidyLauncher(strategy, launcher._start_method)

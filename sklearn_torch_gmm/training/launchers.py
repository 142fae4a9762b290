"""Processes of one fit: each of them ends if another one does, and nothing stays behind.

Like :mod:`sklearn_torch_gmm.training.private_parts`, it uses private parts of Lightning.
"""

from __future__ import annotations

import io
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.strategies.launchers.multiprocessing import (
    _check_bad_cuda_fork,
    _check_missing_main_guard,
)
from lightning_fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
from pytorch_lightning.strategies import ParallelStrategy
from pytorch_lightning.strategies.launchers import (
    _MultiProcessingLauncher,
    _SubprocessScriptLauncher,
)
from pytorch_lightning.strategies.launchers.multiprocessing import (
    _GlobalStateSnapshot,
    _WorkerOutput,
)
from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from sklearn_torch_gmm.core.processes import end_with_parent
from sklearn_torch_gmm.training.process_state import variable_as_before

PARENT_VARIABLE = "SKLEARN_TORCH_GMM_PARENT"
"""The variable by which a script that was started for a fit knows the process that started it."""

SECONDS_FOR_A_CAUSE = 1.0
"""Time by which the end of a process may be seen later than the error that it causes elsewhere."""

SECONDS_BETWEEN_LOOKS = 0.5
"""Time between two looks whether a process has ended; its own children may hold its pipe open."""

SECONDS_TO_END = 10
"""Time that a process may take to end after it has given its answer."""

SECONDS_FOR_AN_ERROR = 3
"""Time in which a process whose peer has ended may raise its own error before it is killed."""


class ProcessLauncher(_MultiProcessingLauncher):
    """Runs a fit in new processes, and raises an error if one of them ends without an answer.

    Lightning's launcher would wait indefinitely for a first process that ends without an error. It
    leaves files, folders and a port in the environment, which other fits would use too.
    """

    def launch(
        self,
        function: Callable[..., Any],
        *args: Any,
        trainer: pl.Trainer | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the function in each process; return the answer of the first."""
        if self._start_method == "spawn":
            _check_missing_main_guard()
        else:
            _check_bad_cuda_fork()
        strategy: Any = self._strategy
        connections = []
        with variable_as_before("MASTER_PORT"):
            os.environ["MASTER_PORT"] = str(strategy.cluster_environment.main_port)
            try:
                for rank in range(strategy.num_processes):
                    connections.append(self._start(rank, trainer, function, args, kwargs))
                answers = _answers(self.procs, connections)
                _end(self.procs, SECONDS_TO_END)
            except Exception:
                _end(self.procs, SECONDS_FOR_AN_ERROR)
                raise
            finally:
                _end(self.procs, 0)
        if trainer is None:
            return answers[0]
        self._recover_results_in_main_process(answers[0], trainer)
        return answers[0].trainer_results

    def _start(self, rank: int, *work: Any) -> Connection:
        context: Any = torch.multiprocessing.get_context(self._start_method)
        states = _GlobalStateSnapshot.capture() if self._start_method == "spawn" else None
        # The children of a fork server are not children of this process.
        parent = os.getpid() if self._start_method != "forkserver" else None
        receiver: Connection
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=self._answer, args=(rank, parent, work, sender, states))
        process.start()
        self.procs.append(process)
        # The processes that are started after this one must not hold it open.
        sender.close()
        return receiver

    def _answer(
        self, rank: int, parent: int | None, work: list[Any], sender: Connection, states: Any
    ) -> None:
        """Do the work of a process, and send the result or the error."""
        end_with_parent(parent)
        # A handler of the parent's would have to wait until the process leaves a collective.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        result = _Result()
        try:
            self._wrapping_function(rank, *work, result, states)  # type: ignore[call-arg]
        except BaseException:
            sender.send((traceback.format_exc(), None))
            sys.exit(1)
        sender.send((None, result.value))

    def _collect_rank_zero_results(self, trainer: pl.Trainer, results: Any) -> Any:
        """Return the state of the module in memory; Lightning would put it into a folder."""
        if self._strategy.local_rank != 0:
            return None
        best = getattr(trainer.checkpoint_callback, "best_model_path", None)
        return _WorkerOutput(best, None, trainer.state, results, self.get_extra_results(trainer))

    def get_extra_results(self, trainer: pl.Trainer) -> dict[str, Any]:
        """Return what Lightning does, and the state of the module as bytes."""
        buffer = io.BytesIO()
        torch.save(trainer.lightning_module.state_dict(), buffer)
        return super().get_extra_results(trainer) | {"module": buffer.getvalue()}

    def update_main_process_results(self, trainer: pl.Trainer, extra: dict[str, Any]) -> None:
        """Restore the values of :meth:`get_extra_results`."""
        super().update_main_process_results(trainer, extra)
        state = torch.load(io.BytesIO(extra["module"]), weights_only=True)
        trainer.lightning_module.load_state_dict(state)


class _Result:
    """Stands in for the queue into which Lightning puts the result of the first process."""

    value: Any = None

    def put(self, value: Any) -> None:
        self.value = value


def _end(processes: Sequence[BaseProcess], seconds: float) -> None:
    """Kill the processes that have not ended by themselves after so many seconds."""
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    for process in processes:
        process.kill()
        process.join()


def _answers(processes: Sequence[BaseProcess], connections: Sequence[Connection]) -> dict[int, Any]:
    """Return the answer of each process, or raise the error that ended the fit."""
    answers: dict[int, Any] = {}
    errors: dict[int, str] = {}
    deadline = math.inf
    while len(answers) < len(processes) and time.monotonic() < deadline:
        waiting = [rank for rank in range(len(processes)) if rank not in answers]
        wait([connections[rank] for rank in waiting], SECONDS_BETWEEN_LOOKS)
        for rank in waiting:
            has_ended = processes[rank].exitcode is not None
            if connections[rank].poll() or has_ended:
                error, answers[rank] = _receive(connections[rank])
                if error is not None:
                    errors[rank] = error
                    deadline = min(deadline, time.monotonic() + SECONDS_FOR_A_CAUSE)
        # A process that has ended without a word explains the errors of the others.
        for rank, error in errors.items():
            if error == "":
                raise _ended(rank, processes[rank])
    for rank, error in errors.items():
        raise _failed(rank, processes[rank], error)
    return answers


def _receive(connection: Connection) -> tuple[str | None, Any]:
    """The error of a process, which is empty if it has ended without one, and its answer."""
    try:
        return connection.recv() if connection.poll() else ("", None)
    except (EOFError, OSError):
        return "", None


def _failed(rank: int, process: BaseProcess, error: str) -> ProcessRaisedException:
    assert process.pid is not None
    msg = f"\n\n-- Process {rank} terminated with the following error:\n{error}"
    return ProcessRaisedException(msg, rank, process.pid)


def _ended(rank: int, process: BaseProcess) -> ProcessExitedException:
    process.join()
    code, name = process.exitcode, None
    assert code is not None
    assert process.pid is not None
    if code < 0:
        name = signal.Signals(-code).name
    how = f"signal {name}" if name else f"exit code {code}"
    msg = f"process {rank} terminated with {how} before the fit had ended"
    return ProcessExitedException(msg, rank, process.pid, code, name)


# -- scripts --------------------------------------------------------------------------------------


class ScriptLauncher(_SubprocessScriptLauncher):
    """Runs a fit in this script and in copies of it, which end with this process.

    With Lightning's launcher, a copy would compute or wait on after this process has been killed,
    and this process would wait for a copy that has ended without an error.
    """

    is_running = False
    """Whether this process is in a fit, which needs all copies."""

    def launch(
        self,
        function: Callable[..., Any],
        *args: Any,
        trainer: pl.Trainer | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the function here, and first start the copies if nobody else does."""
        assert trainer is not None
        environment = self.cluster_environment
        environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not environment.creates_processes_externally:
            with variable_as_before(PARENT_VARIABLE):
                os.environ[PARENT_VARIABLE] = str(os.getpid())
                self._call_children_scripts()
            _Observer(os.getpid(), self.procs, sleep_period=1).start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        ScriptLauncher.is_running = True
        try:
            with _ending_with_parent():
                result = function(*args, **kwargs)
            # No process leaves, and may then end, while others still depend on it.
            trainer.strategy.barrier()
            return result
        finally:
            ScriptLauncher.is_running = False


@contextmanager
def _ending_with_parent() -> Iterator[None]:
    """Let a copy of the script, or a process of torchrun, end with the one that started it."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is None and not torch.distributed.is_torchelastic_launched():
        # The parent may be a shell, which a fit outlives.
        yield
        return
    outlive = end_with_parent(None if parent is None else int(parent))
    try:
        yield
    finally:
        outlive()


class _Observer(_ChildProcessObserver):
    """Ends this process and the copies if a copy has ended with an error, or during a fit."""

    def _run(self) -> bool:
        if not self._has_failed():
            return all(process.poll() == 0 for process in self._child_processes)
        # The fit of this process fails too, unless it waits for the copies to begin.
        time.sleep(SECONDS_FOR_AN_ERROR)
        if self._has_failed():
            codes = {process.pid: process.poll() for process in self._child_processes}
            sys.stderr.write(f"A process of the fit has ended. Exit codes by process: {codes}\n")
            sys.stderr.flush()
            self._terminate_all()
            return True
        return False

    def _has_failed(self) -> bool:
        codes = [process.poll() for process in self._child_processes]
        return any(code or (code == 0 and ScriptLauncher.is_running) for code in codes)


# -- trainers -------------------------------------------------------------------------------------


class _Signals(_SignalConnector):
    """Leaves SIGTERM as it was: by default it ends the process at once.

    Lightning's handler would start a broadcast, for which the other processes do not wait.
    """

    def register_signal_handlers(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        super().register_signal_handlers()
        if before is not None:
            self._register_signal(signal.SIGTERM, before)


def end_together(trainer: pl.Trainer) -> None:
    """Let the processes of a trainer end if one of them does."""
    strategy, launcher = trainer.strategy, trainer.strategy.launcher
    # Launchers for other hardware are of other classes.
    if not isinstance(strategy, ParallelStrategy):
        return
    if type(launcher) is _MultiProcessingLauncher:
        strategy._launcher = ProcessLauncher(strategy, launcher._start_method)
    elif type(launcher) is _SubprocessScriptLauncher:
        strategy._launcher = ScriptLauncher(
            launcher.cluster_environment, launcher.num_processes, launcher.num_nodes
        )
    else:
        return
    trainer._signal_connector = _Signals(trainer)


def starts_processes(trainer: pl.Trainer) -> bool:
    """Whether the fit runs in new processes, while this one waits for them."""
    return isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)


def is_in_forked_process(trainer: pl.Trainer) -> bool:
    """Whether the fit runs in a forked process, without the threads of its parent."""
    launcher = trainer.strategy.launcher
    # Lightning calls forked processes compatible with notebooks.
    return isinstance(launcher, _MultiProcessingLauncher) and launcher.is_interactive_compatible

"""Expectation–maximization as a Lightning module: one epoch is one iteration."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from sklearn_torch_gmm.core.device import sendable
from sklearn_torch_gmm.em.failures import error_from_plain, error_to_plain
from sklearn_torch_gmm.em.fit import Outcome
from sklearn_torch_gmm.em.iterations import Iterations
from sklearn_torch_gmm.em.loop import Job
from sklearn_torch_gmm.em.restarts import Restart, Starts
from sklearn_torch_gmm.em.threads import threads_for_work
from sklearn_torch_gmm.exceptions import NonFiniteLikelihoodError
from sklearn_torch_gmm.rows.sent_ahead import sent_ahead
from sklearn_torch_gmm.rows.source import Batches, Shard
from sklearn_torch_gmm.training.checkpoints import (
    check_state,
    random_state_to_plain,
    restore_random_state,
    seal,
)
from sklearn_torch_gmm.training.launchers import is_in_forked_process
from sklearn_torch_gmm.training.private_parts import OneLoader, communicate_between_epochs_only
from sklearn_torch_gmm.training.trainer import must_stop

LONGEST_WAIT = timedelta(seconds=1)
"""Time for which a process that waits for the sums of others does not hear Ctrl-C."""


@dataclass
class _EpochProgress:
    """The part of an epoch that this process has read."""

    rows_read: int = 0
    has_first_batch: bool = False
    """False where Lightning resumes in the middle of an interrupted epoch."""


class EMModule(pl.LightningModule):
    """Runs :class:`~sklearn_torch_gmm.em.iterations.Iterations` in Lightning's loop.

    A training step adds a batch to the moments. The end of an epoch sums the moments over the
    processes, does the M-step and tests for convergence. Without ``starts``, the first of the
    processes finds them and broadcasts them to the others.

    Attributes
    ----------
    iterations : Iterations or None
        Set when the fit starts.
    failure : ValueError or None
        The error that ended the fit in every process.
    """

    def __init__(self, job: Job, starts: Starts | None) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.iterations: Iterations | None = None
        self.failure: ValueError | None = None
        # Distributed strategies refuse a module without parameters.
        self._anchor = nn.Parameter(torch.zeros(()))
        self._job = job
        self._starts = starts
        self._restored: dict[str, Any] | None = None
        self._restored_rows = 0
        self._repeats = 0
        self._epoch = _EpochProgress()
        self._batches: Batches | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return an optimizer without effect; Lightning warns without one."""
        return torch.optim.SGD([self._anchor], lr=0.0)

    def train_dataloader(self) -> Any:
        """Return the batches of this process."""
        shard = Shard(self.trainer.global_rank, self.trainer.world_size)
        settings, device = self._job.fits[0].loop, self.trainer.strategy.root_device
        batches = self._job.rows.batches(settings.batch_size, settings.num_workers, shard, device)
        self._batches = sent_ahead(batches, device)
        return OneLoader(self._batches)

    def on_fit_end(self) -> None:
        """End the report of this process, which may not be the caller's."""
        if self._job.monitor is not None:
            self._job.monitor.ended()

    def close(self) -> None:
        """End the processes that read for this one, and free the memory of the passes.

        Module and trainer refer to each other: they would keep it until Python collects cycles.
        """
        if self._batches is not None:
            self._batches.close()
        if self.iterations is not None:
            self.iterations.release()

    def setup(self, stage: str) -> None:
        """Compute with one thread in a forked process."""
        if is_in_forked_process(self.trainer):
            # OpenMP would wait for the parent's threads, which do not exist here.
            torch.set_num_threads(1)

    def on_fit_start(self) -> None:
        """Move the initial values, or the state of a checkpoint, to the device."""
        if self.trainer.world_size > 1:
            communicate_between_epochs_only(self.trainer)
        settings = self._job.fits[0].loop
        if settings.max_iter is None:
            # None stands for the trainer's own limit.
            own = replace(settings, max_iter=self.trainer.max_epochs)
            fits = [replace(fit, loop=own) for fit in self._job.fits]
            self._job = replace(self._job, fits=fits)
        # Lightning counts the steps of optimizers: it would wait indefinitely for `min_steps`.
        loop = self.trainer.fit_loop
        loop.min_epochs, loop.epoch_loop.min_steps = settings.min_iter, None
        try:
            if self._restored is None:
                starts = self._agreed_starts()
                with torch.inference_mode():
                    self.iterations = Iterations(
                        starts, self._job.fits, self.device, scores=self._job.scores
                    )
            else:
                self._resume(self._restored)
        except ValueError as failure:
            self._fail(failure)

    def _resume(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        check_state(state, self._restored_rows, self._job.fits, self._job.rows)
        self.iterations = Iterations.from_state(state, self._job.fits, self.device)
        self._allow_more_epochs(self._repeats)
        # The mixtures count their own iterations; an interrupted epoch would count as one here.
        self.trainer.fit_loop.max_epochs = -1
        if self.iterations.is_finished:
            self._stop()

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Move rows, weights and labels, in a type that the device has."""
        batch = tuple(sendable(values, device) for values in batch)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    @torch.inference_mode()
    def on_train_epoch_start(self) -> None:
        """Begin the E-step of an iteration."""
        assert self.iterations is not None
        assert self._batches is not None
        self._epoch = _EpochProgress()
        self.iterations.begin_e_step(resident_rows=self._batches.resident_rows)

    @torch.inference_mode()
    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Add a batch to the moments."""
        assert self.iterations is not None
        counts_steps = self.trainer.checkpoint_callbacks or self.trainer.max_steps != -1
        if counts_steps and self.trainer.is_last_batch:
            # Lightning counts the steps of optimizers, saves no checkpoint before the first, and
            # ends the epoch as soon as `max_steps` are done.
            self.optimizers().step()  # type: ignore[union-attr]
        with self._threads():
            self.iterations.add(*batch)
        self._epoch.rows_read += batch[0].shape[0]
        self._epoch.has_first_batch |= batch_idx == 0

    @torch.inference_mode()
    def on_train_epoch_end(self) -> None:
        """Do the M-step and test for convergence."""
        rows_read, is_interrupted = self._rows_of_all()
        if is_interrupted:
            # A pass over a part of the rows is not an iteration.
            return
        failure = self._wrong_number_of_rows(rows_read)
        if failure is not None:
            self._fail(failure)
            return
        try:
            with self._threads():
                self._end_iteration()
        except NonFiniteLikelihoodError as error:
            self._fail(self._nonfinite_error() or error)
        except ValueError as error:
            self._fail(error)

    def _threads(self) -> AbstractContextManager[None]:
        """The same limit of threads as in the plain loop."""
        assert self.iterations is not None
        assert self._batches is not None
        num_rows = self._batches.resident_rows or sys.maxsize
        return threads_for_work(self.iterations.cost(num_rows))

    def _end_iteration(self) -> None:
        iterations, job = self.iterations, self._job
        assert iterations is not None
        numbers = iterations.m_step(self._over_processes if self.trainer.world_size > 1 else None)
        outcome = iterations.test(numbers)
        if outcome is Outcome.REPEAT:
            self._repeats += 1
            self._allow_more_epochs(1)
        if outcome is Outcome.FINISHED:
            self._stop()
        if job.monitor is not None and self.trainer.global_rank == 0:
            job.monitor.pass_done(iterations.report())
        if self.trainer.callbacks or self.trainer.loggers:  # type: ignore[attr-defined]
            # Only then, since logging would take most of a small iteration. The reduction is a
            # maximum, since Lightning's mean would be in single precision.
            nll = torch.tensor(-iterations.latest_bound, dtype=torch.float64, device="cpu")
            self.log("nll", nll, prog_bar=True, reduce_fx="max", rank_zero_only=True)

    def _allow_more_epochs(self, repeats: int) -> None:
        """Count a repeated iteration only once."""
        loop = self.trainer.fit_loop
        if loop.max_epochs is not None and loop.max_epochs >= 0:
            loop.max_epochs += repeats
        if loop.epoch_loop.max_steps >= 0:
            loop.epoch_loop.max_steps += repeats

    def _rows_of_all(self) -> tuple[int, bool]:
        """The number of rows that all processes have read, and whether the pass is incomplete."""
        trainer = self.trainer
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        is_interrupted = not self._epoch.has_first_batch
        if callbacks:
            is_interrupted |= must_stop(trainer) and not trainer.is_last_batch
        # Without callbacks no pass is interrupted: a known number of rows need not be exchanged.
        is_known = self._job.rows.rows_a_pass is None and not callbacks
        if trainer.world_size == 1 or is_known:
            return self._epoch.rows_read, is_interrupted
        numbers = [float(self._epoch.rows_read), float(is_interrupted)]
        together = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        self._over_processes(together, "sum")
        return int(together[0].item()), together[1].item() > 0

    def _wrong_number_of_rows(self, rows_read: int) -> ValueError | None:
        """Return an error if the pass has not read as many rows as there were before."""
        expected, limit = self._job.rows.rows_a_pass, self.trainer.limit_train_batches
        # 1.0 is the share of all batches; the integer 1 would be one batch.
        takes_all = isinstance(limit, float) and limit == 1.0
        if expected is None or not takes_all or rows_read == expected:
            return None
        return ValueError(
            f"The data gave {expected} rows once, and {rows_read} when they were read again. EM "
            "reads all rows once per iteration: each pass must start over and give the same rows."
        )

    def _nonfinite_error(self) -> ValueError | None:
        """Return, in every process, an error that names the row that is not finite, if any."""
        assert self._batches is not None
        error = self._batches.nonfinite_error(allow_missing=self._job.fits[0].loop.missing)
        messages = [None if error is None else str(error)]
        if self.trainer.world_size > 1:
            if error is not None:
                rank = self.trainer.global_rank
                messages[0] = f"{error} Rows and batches are counted within process {rank}."
            found = messages * self.trainer.world_size
            torch.distributed.all_gather_object(found, messages[0])
            messages = found
        return next((ValueError(text) for text in messages if text is not None), None)

    def _fail(self, failure: ValueError) -> None:
        """End the fit; :meth:`results` raises, since a spawned process would lose the type."""
        self.failure = failure
        self._stop()

    def _stop(self) -> None:
        """Prevent further epochs: the mixtures themselves count their iterations."""
        self.trainer.fit_loop.min_epochs = None
        self.trainer.should_stop = True

    def results(self) -> list[list[Restart]]:
        """Return the restarts of each fit, or raise the error that ended the fit."""
        if self.failure is not None:
            raise self.failure
        if self.iterations is None:
            # The fit ran in processes of its own, which returned its state.
            assert self._restored is not None
            self.iterations = Iterations.from_state(
                self._restored, self._job.fits, torch.device("cpu")
            )
        return self.iterations.results()

    # -- several processes ------------------------------------------------------------------------

    def _agreed_starts(self) -> Starts:
        """Return, in every process, the initial values that the first process found.

        The size of the data and the random state, which that process has also changed, go with
        them.
        """
        starts: Starts | ValueError | None = None
        if self.trainer.global_rank == 0:
            try:
                starts = self._starts or self._job.find_starts()
            except ValueError as failure:
                starts = failure
        if self.trainer.world_size > 1:
            found = (
                starts,
                self._job.rows.num_rows,
                self._job.rows.total_weight,
                random_state_to_plain(self._job.fits[0].random_state),
            )
            starts, self._job.rows.num_rows, self._job.rows.total_weight, state = (
                self.trainer.strategy.broadcast(found)
            )
            restore_random_state(self._job.fits[0].random_state, state)
        if isinstance(starts, ValueError):
            raise starts
        assert starts is not None
        return starts

    def _over_processes(self, values: Tensor, how: str) -> None:
        operation = {"sum": torch.distributed.ReduceOp.SUM, "max": torch.distributed.ReduceOp.MAX}
        work = torch.distributed.all_reduce(values, op=operation[how], async_op=True)
        while values.is_cpu and not work.is_completed():
            # Between two waits, Python hears Ctrl-C and other signals.
            with suppress(RuntimeError):
                work.wait(LONGEST_WAIT)
        work.wait()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let damage be found when the checkpoint is loaded."""
        seal(checkpoint)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the state that a checkpoint and the parent of spawned processes need."""
        state = self._restored if self.iterations is None else self.iterations.state()
        return {
            "iterations": state,
            "failure": error_to_plain(self.failure),
            "repeats": self._repeats,
            "num_rows": self._job.rows.num_rows,
            "total_weight": self._job.rows.total_weight,
            "random_state": random_state_to_plain(self._job.fits[0].random_state),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Continue from the value of :meth:`get_extra_state`."""
        self._restored = state["iterations"]
        self._restored_rows = state["num_rows"]
        self._repeats = state["repeats"]
        if self._job.rows.num_rows is None:
            self._job.rows.num_rows = state["num_rows"]
            self._job.rows.total_weight = state["total_weight"]
        restore_random_state(self._job.fits[0].random_state, state["random_state"])
        self.failure = error_from_plain(state["failure"])

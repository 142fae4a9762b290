"""Expectation–maximization as a Lightning module: one epoch is one iteration, if anybody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from sklearn_torch_gmm.em.failures import error_from_plain, error_to_plain
from sklearn_torch_gmm.em.iterations import EMIterations
from sklearn_torch_gmm.em.member import Outcome
from sklearn_torch_gmm.em.restarts import Restart, Starts, SweepProgress
from sklearn_torch_gmm.em.settings import FitSettings
from sklearn_torch_gmm.em.threads import threads_for_iteration
from sklearn_torch_gmm.exceptions import NonFiniteLikelihoodError
from sklearn_torch_gmm.rows.source import Batches, RowSource, Shard
from sklearn_torch_gmm.training.checkpoints import (
    check_state,
    random_state_to_plain,
    restore_random_state,
)
from sklearn_torch_gmm.training.trainer import (
    OneLoader,
    is_in_forked_process,
    is_watched,
    must_stop,
)


class EMModule(pl.LightningModule):
    """Carries :class:`EMIterations` through Lightning's loop.

    A training step adds a batch to the moments. The end of an epoch sums the moments over the
    processes and does the M-step. Where the rows are one batch in memory, and nothing else is told
    of epochs, the iterations that follow take place there, too: for little data an epoch costs as
    much as an iteration.

    Parameters
    ----------
    rows : RowSource
    members : sequence of FitSettings
        What is fitted in the same passes; one for a single mixture with all its starts. They share
        everything that is not about a mixture.
    starts : Starts, or callable that returns them
        A callable is called by the first of several processes, and the others are told.
    scores : bool, default=False
        Whether a last epoch finds the likelihood of the parameters that the last M-step found.
    sweep_progress : SweepProgress or None
        Is told which members are done.

    Attributes
    ----------
    iterations : EMIterations
    failure : ValueError or None
        What ended the fit in every process.
    """

    iterations: EMIterations

    def __init__(
        self,
        rows: RowSource,
        members: Sequence[FitSettings],
        starts: Starts | Callable[[], Starts],
        *,
        scores: bool = False,
        sweep_progress: SweepProgress | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.failure: ValueError | None = None
        # Distributed strategies refuse a module that has nothing to train.
        self._anchor = nn.Parameter(torch.zeros(()))
        self._rows = rows
        self._members = members
        self._settings = members[0]
        self._starts = starts
        self._scores = scores
        self._sweep_progress = sweep_progress
        self._restored: dict[str, Any] | None = None
        self._repeats = 0
        self._rows_read = 0
        self._has_first_batch = False
        self._batches: Batches | None = None
        self._all_rows: Any = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return an optimizer that changes nothing; Lightning warns without one."""
        return torch.optim.SGD([self._anchor], lr=0.0)

    def train_dataloader(self) -> Any:
        """Return the batches of this process."""
        shard = Shard(self.trainer.global_rank, self.trainer.world_size)
        settings, device = self._settings, self.trainer.strategy.root_device
        self._batches = self._rows.batches(settings.batch_size, settings.num_workers, shard, device)
        return OneLoader(self._batches)

    def close(self) -> None:
        """End the processes that read for this one, and give back what only the passes need.

        Module and trainer know each other: what they hold would stay until Python looks for cycles.
        """
        self._all_rows = None
        if self._batches is not None:
            self._batches.close()
        if hasattr(self, "iterations"):
            self.iterations.release()

    def setup(self, stage: str) -> None:
        """Compute with one thread where more would wait for those of the parent."""
        if is_in_forked_process(self.trainer):
            # OpenMP takes the parent's threads for its own, and they do not exist here.
            torch.set_num_threads(1)

    def on_fit_start(self) -> None:
        """Take the starts, or what a checkpoint holds, to the device."""
        if self.trainer.world_size > 1:
            self._leave_communication_to_the_end_of_the_epoch()
        if self._settings.max_iter is None:
            # The trainer counts epochs, and many iterations may be one.
            limit = self.trainer.max_epochs
            self._members = [replace(member, max_iter=limit) for member in self._members]
        # Lightning counts the steps of optimizers: it would go on for ever for the least of them.
        loop = self.trainer.fit_loop
        loop.min_epochs, loop.epoch_loop.min_steps = self._settings.min_iter, None
        try:
            if self._restored is None:
                starts = self._agreed_starts()
                with torch.inference_mode():
                    self.iterations = EMIterations(
                        starts, self._members, self.device, scores=self._scores
                    )
            else:
                self._go_on(self._restored)
        except ValueError as failure:
            self._fail(failure)

    def _go_on(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        check_state(state, self._members, self._rows.num_features)
        self.iterations = EMIterations.from_state(state, self._members, self.device)
        self._allow_more_epochs(self._repeats)
        # The mixtures count their iterations; an epoch that was broken off is none.
        self.trainer.fit_loop.max_epochs = -1
        if self.iterations.is_finished:
            self._stop()

    @torch.inference_mode()
    def on_train_epoch_start(self) -> None:
        """Begin an iteration."""
        assert self._batches is not None
        self._rows_read = 0
        self._has_first_batch = False
        self.iterations.begin(resident_rows=self._batches.resident_rows)

    @torch.inference_mode()
    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Add a batch to the moments."""
        counts_steps = self.trainer.checkpoint_callbacks or self.trainer.max_steps != -1
        if counts_steps and self.trainer.is_last_batch:
            # Lightning counts the steps of optimizers, saves nothing before the first of them, and
            # ends the epoch, too, with the last of `max_steps`.
            self.optimizers().step()  # type: ignore[union-attr]
        self.iterations.add(*batch)
        self._rows_read += batch[0].shape[0]
        # Lightning goes on in the midst of an epoch that was broken off.
        self._has_first_batch |= batch_idx == 0
        assert self._batches is not None
        if batch[0].shape[0] == self._batches.resident_rows and not is_watched(self.trainer):
            self._all_rows = batch

    @torch.inference_mode()
    def on_train_epoch_end(self) -> None:
        """Do the M-step and test for convergence."""
        assert self._batches is not None
        num_rows = self._batches.resident_rows or sys.maxsize
        rows_read, is_broken_off = self._rows_of_all()
        if is_broken_off:
            # A part of the rows is no iteration.
            return
        failure = self._other_rows(rows_read)
        if failure is not None:
            self._fail(failure)
            return
        with threads_for_iteration(self.iterations.multiplications(num_rows)):
            self._end_iteration()
            while self._all_rows is not None and not must_stop(self.trainer):
                self.on_train_epoch_start()
                self.iterations.add(*self._all_rows)
                self._end_iteration()

    def _end_iteration(self) -> None:
        several = self.trainer.world_size > 1
        try:
            outcome = self.iterations.end(self._over_processes if several else None)
        except NonFiniteLikelihoodError as failure:
            self._fail(self._not_finite_rows() or failure)
            return
        except ValueError as failure:
            self._fail(failure)
            return
        if outcome is Outcome.REPEAT:
            self._repeats += 1
            self._allow_more_epochs(1)
        if outcome is Outcome.FINISHED:
            self._stop()
        if self._sweep_progress is not None and self.trainer.global_rank == 0:
            self._sweep_progress.members_done(self.iterations.finished_members())
        if self.trainer.callbacks or self.trainer.loggers:  # type: ignore[attr-defined]
            # Somebody may look; where nobody can, logging would take most of a small iteration.
            # A mean, as metrics are by default, would be one in single precision.
            nll = torch.tensor(-self.iterations.latest_bound, dtype=torch.float64, device="cpu")
            self.log("nll", nll, prog_bar=True, reduce_fx="max", rank_zero_only=True)

    def _allow_more_epochs(self, repeats: int) -> None:
        """Let iterations that are done twice count once."""
        loop = self.trainer.fit_loop
        if loop.max_epochs is not None and loop.max_epochs >= 0:
            loop.max_epochs += repeats
        if loop.epoch_loop.max_steps >= 0:
            loop.epoch_loop.max_steps += repeats

    def _rows_of_all(self) -> tuple[int, bool]:
        """How many rows all processes have read in the pass, and whether it was broken off."""
        trainer = self.trainer
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        is_broken_off = not self._has_first_batch
        if callbacks:
            is_broken_off |= must_stop(trainer) and not trainer.is_last_batch
        # Rows that are certain, in a pass that nobody can break off: nothing needs to be sent.
        is_known = self._rows.rows_a_pass is None and not callbacks
        if trainer.world_size == 1 or is_known:
            return self._rows_read, is_broken_off
        numbers = [float(self._rows_read), float(is_broken_off)]
        together = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        self._over_processes(together, "sum")
        return int(together[0].item()), together[1].item() > 0

    def _other_rows(self, rows_read: int) -> ValueError | None:
        """An error if the pass has not given the rows that there were before."""
        expected, limit = self._rows.rows_a_pass, self.trainer.limit_train_batches
        # As a whole number, 1 is one batch.
        takes_all = isinstance(limit, float) and limit == 1.0
        if expected is None or not takes_all or rows_read == expected:
            return None
        return ValueError(
            f"The data gave {expected} rows once, and {rows_read} when they were read again. EM "
            "reads all rows once an iteration: each pass must begin anew, and give the same ones."
        )

    def _not_finite_rows(self) -> ValueError | None:
        """Which row of the data is not finite, if one is; in each of several processes."""
        message: str | None = None
        try:
            assert self._batches is not None
            for _ in self._batches.finite():
                pass
        except ValueError as found:
            message = str(found)
        messages = [message]
        if self.trainer.world_size > 1:
            if message is not None:
                message += f" Those of process {self.trainer.global_rank} are meant."
            messages *= self.trainer.world_size
            torch.distributed.all_gather_object(messages, message)
        return next((ValueError(text) for text in messages if text is not None), None)

    def _fail(self, failure: ValueError) -> None:
        """End the fit; :meth:`results` raises, since a spawned process would lose the type."""
        self.failure = failure
        self._stop()

    def _stop(self) -> None:
        """Let no epoch follow: the mixtures themselves know how many iterations are wanted."""
        self.trainer.fit_loop.min_epochs = None
        self.trainer.should_stop = True

    def results(self) -> list[list[Restart]]:
        """What became of the starts of each member.

        Raises
        ------
        IllDefinedCovarianceError
            If a covariance is not positive definite after regularization.
        NonFiniteLikelihoodError
            If a log-likelihood is not finite.
        """
        if self.failure is not None:
            raise self.failure
        if not hasattr(self, "iterations"):
            # The fit took place in processes of its own, and came back as a state.
            assert self._restored is not None
            self.iterations = EMIterations.from_state(
                self._restored, self._members, torch.device("cpu")
            )
        return self.iterations.results()

    # -- several processes ------------------------------------------------------------------------

    def _agreed_starts(self) -> Starts:
        """The starts that the first process found, and what it learned on the way, in each."""
        starts: Starts | ValueError | None = None
        if self.trainer.global_rank == 0:
            try:
                starts = self._starts() if callable(self._starts) else self._starts
            except ValueError as failure:
                starts = failure
        if self.trainer.world_size > 1:
            found = (
                starts,
                self._rows.num_rows,
                self._rows.total_weight,
                random_state_to_plain(self._settings.random_state),
            )
            starts, self._rows.num_rows, self._rows.total_weight, state = (
                self.trainer.strategy.broadcast(found)
            )
            restore_random_state(self._settings.random_state, state)
        if isinstance(starts, ValueError):
            raise starts
        assert starts is not None
        return starts

    def _leave_communication_to_the_end_of_the_epoch(self) -> None:
        """Let the processes read different numbers of batches.

        Lightning wraps the module for gradients, of which there are none, and tells of signals
        before each batch: processes with more batches than others would wait for them forever.
        """
        strategy, loop = self.trainer.strategy, self.trainer.fit_loop.epoch_loop
        strategy.model = strategy.lightning_module
        if hasattr(loop, "_broadcast_sigterm_tensor"):
            loop._broadcast_sigterm_tensor = _do_nothing  # type: ignore[method-assign]

    def _over_processes(self, values: Tensor, how: str) -> None:
        operation = {"sum": torch.distributed.ReduceOp.SUM, "max": torch.distributed.ReduceOp.MAX}
        torch.distributed.all_reduce(values, op=operation[how])

    def get_extra_state(self) -> dict[str, Any]:
        """Return what a checkpoint and the parent of spawned processes need."""
        state = self.iterations.state() if hasattr(self, "iterations") else self._restored
        return {
            "iterations": state,
            "failure": error_to_plain(self.failure),
            "repeats": self._repeats,
            "num_rows": self._rows.num_rows,
            "total_weight": self._rows.total_weight,
            "random_state": random_state_to_plain(self._settings.random_state),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`get_extra_state` returned."""
        self._restored = state["iterations"]
        self._repeats = state["repeats"]
        if self._rows.num_rows is None:
            self._rows.num_rows = state["num_rows"]
            self._rows.total_weight = state["total_weight"]
        restore_random_state(self._settings.random_state, state["random_state"])
        self.failure = error_from_plain(state["failure"])


def _do_nothing() -> None:
    pass

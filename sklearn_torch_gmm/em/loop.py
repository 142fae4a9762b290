"""The plain loop: EM on rows in memory, in this process, on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sklearn_torch_gmm.core.e_step import cost_of_pass
from sklearn_torch_gmm.em.fit import Outcome
from sklearn_torch_gmm.em.iterations import Iterations
from sklearn_torch_gmm.em.progress import Monitor
from sklearn_torch_gmm.em.restarts import Restart, Starts
from sklearn_torch_gmm.em.settings import FitSettings
from sklearn_torch_gmm.em.threads import FewThreads
from sklearn_torch_gmm.exceptions import NonFiniteLikelihoodError
from sklearn_torch_gmm.rows.source import CPU, Batches, RowSource


@dataclass(frozen=True)
class Job:
    """The work of a loop: one fit with all its restarts, or many fits in the same passes."""

    rows: RowSource
    fits: Sequence[FitSettings]
    """The settings of the fits, which share all that do not concern a single mixture."""
    find_starts: Callable[[], Starts]
    """Called in one process only."""
    scores: bool = False
    """Whether a last pass computes the likelihood under the final parameters."""
    monitor: Monitor | None = None
    """Receives the progress of the passes."""


def run(job: Job) -> list[list[Restart]]:
    """Iterate until all fits have converged or reached their limit; return their restarts.

    Raises
    ------
    IllDefinedCovarianceError
        If a covariance is not positive definite after regularization.
    NonFiniteLikelihoodError
        If a log-likelihood is not finite.
    ValueError
        If the data are not finite.
    """
    starts = job.find_starts()
    with torch.inference_mode(), job.rows.batches(None) as batches, FewThreads() as threads:
        num_rows = batches.resident_rows
        assert num_rows is not None, "the plain loop needs data in memory"
        # The natural parameters of the first pass are computed before it.
        threads.before_pass(_cost_of_pass(job, num_rows))
        iterations = Iterations(starts, job.fits, CPU, scores=job.scores)
        try:
            while not iterations.is_finished:
                iterate(iterations, batches, num_rows, threads)
                if job.monitor is not None:
                    job.monitor.pass_done(iterations.report())
        except NonFiniteLikelihoodError as failure:
            missing = job.fits[0].loop.missing
            raise batches.nonfinite_error(allow_missing=missing) or failure from None
        finally:
            iterations.release()
    return iterations.results()


def _cost_of_pass(job: Job, num_rows: int) -> int:
    """Return the cost of a pass for all restarts, in multiplications."""
    return sum(
        cost_of_pass(
            num_rows, fit.num_init * fit.num_components, job.rows.num_features, fit.structure
        )
        for fit in job.fits
    )


def iterate(
    iterations: Iterations, batches: Batches, num_rows: int, threads: FewThreads
) -> Outcome:
    """Do one iteration of EM: an E-step over all rows, an M-step, the test of convergence."""
    iterations.begin_e_step(resident_rows=num_rows)
    if not threads.is_limited:
        threads.before_pass(iterations.cost(num_rows))
    for batch in batches:
        iterations.add(*batch)
    numbers = iterations.m_step()
    return iterations.test(numbers)

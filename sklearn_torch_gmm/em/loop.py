"""The plain loop: EM over rows in memory, in this process, on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sklearn_torch_gmm.em.fit import Outcome
from sklearn_torch_gmm.em.iterations import Iterations
from sklearn_torch_gmm.em.restarts import Restart, Starts, SweepProgress
from sklearn_torch_gmm.em.settings import FitSettings
from sklearn_torch_gmm.em.threads import threads_for_iteration
from sklearn_torch_gmm.exceptions import NonFiniteLikelihoodError
from sklearn_torch_gmm.rows.source import CPU, Batches, RowSource


@dataclass(frozen=True)
class Job:
    """What a loop is asked to do.

    Attributes
    ----------
    rows : RowSource
    fits : sequence of FitSettings
        What is fitted in the same passes: one fit with all its restarts, or many. They share
        everything that is not about a mixture.
    find_starts : callable
        Returns the starts; of several processes one calls it.
    scores : bool
        Whether a last pass finds the likelihood of the parameters that the last M-step found.
    progress : SweepProgress or None
        Is told which fits are done.
    """

    rows: RowSource
    fits: Sequence[FitSettings]
    find_starts: Callable[[], Starts]
    scores: bool = False
    progress: SweepProgress | None = None


def run(job: Job) -> list[list[Restart]]:
    """Iterate until all fits have converged or done their iterations.

    Returns
    -------
    list of list of Restart
        What became of the restarts of each fit.

    Raises
    ------
    IllDefinedCovarianceError
        If a covariance is not positive definite after regularization.
    NonFiniteLikelihoodError
        If a log-likelihood is not finite.
    ValueError
        If a row is not finite.
    """
    starts = job.find_starts()
    with torch.inference_mode(), job.rows.batches(None) as batches:
        iterations = Iterations(starts, job.fits, CPU, scores=job.scores)
        try:
            while not iterations.is_finished:
                iterate(iterations, batches)
                if job.progress is not None:
                    job.progress.fits_done(iterations.finished_fits())
        except NonFiniteLikelihoodError as failure:
            raise batches.nonfinite_error() or failure from None
        finally:
            iterations.release()
    return iterations.results()


def iterate(iterations: Iterations, batches: Batches) -> Outcome:
    """One iteration of EM: E-step over all rows, M-step, test of convergence."""
    num_rows = batches.resident_rows
    assert num_rows is not None, "the plain loop is for rows in memory"
    iterations.begin_e_step(resident_rows=num_rows)
    with threads_for_iteration(iterations.multiplications(num_rows)):
        for batch in batches:
            iterations.add(*batch)
        numbers = iterations.m_step()
        return iterations.test(numbers)

"""The one door into training: rows and settings in, parameters out."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from os import PathLike
from types import ModuleType

from sklearn_torch_gmm.core.device import as_if_alone
from sklearn_torch_gmm.em.restarts import Restart, SweepProgress, find_starts
from sklearn_torch_gmm.em.results import FitResult, first_of_best
from sklearn_torch_gmm.em.settings import FitSettings, Progress
from sklearn_torch_gmm.rows.source import RowSource
from sklearn_torch_gmm.training.process_state import switches_as_before
from sklearn_torch_gmm.training.quiet import quiet_lightning

CheckpointPath = str | PathLike[str] | None


@cache
def lightning_loop() -> ModuleType:
    """Return the module that runs fits on Lightning.

    Its import takes two seconds, for which predictions and plain fits do not wait. It draws from
    Python's random numbers, and would move the sequence of a program that has seeded them.
    """
    state = random.getstate()
    from sklearn_torch_gmm.training import lightning_loop as module

    random.setstate(state)
    return module


def fit_mixture(
    rows: RowSource, settings: FitSettings, ckpt_path: CheckpointPath = None
) -> FitResult:
    """Fit a mixture from ``settings.num_init`` starts and keep the likeliest.

    Parameters
    ----------
    rows : RowSource
    settings : FitSettings
    ckpt_path : str, path or None
        A checkpoint of an earlier run, after whose last iteration to go on.

    Raises
    ------
    IllDefinedCovarianceError
        If a covariance is not positive definite after regularization.
    NonFiniteLikelihoodError
        If the log-likelihood is not finite.
    ValueError
        If the data are not usable, or the checkpoint is of another mixture.
    """
    with quiet_lightning(), as_if_alone(), switches_as_before(settings.trainer_params):
        if settings.max_iter == 0:
            (restarts,) = find_starts(rows, [settings]).restarts
            if settings.progress is not None:
                for index in range(len(restarts)):
                    settings.progress.start(index)
            return FitResult.of(restarts[-1])
        # A checkpoint is of one run.
        if settings.progress is None or ckpt_path is not None:
            find = partial(find_starts, rows, [settings])
            (restarts,) = lightning_loop().run_fits(rows, [settings], find, ckpt_path)
        elif settings.trainer_params.get("callbacks"):
            restarts = _run_and_tell(rows, settings, settings.progress)
        else:
            restarts = _run_one_by_one(rows, settings, settings.progress)
    return FitResult.of(first_of_best(restarts))


def fit_sweep(
    rows: RowSource, members: Sequence[FitSettings], progress: SweepProgress | None = None
) -> list[list[Restart]]:
    """Fit many mixtures in the same passes over the data.

    Parameters
    ----------
    rows : RowSource
    members : sequence of FitSettings
        With one `random_state`; they share everything that is not about a mixture.
    progress : SweepProgress or None

    Returns
    -------
    list of list of Restart
        What became of the starts of each member, with the likelihood of its parameters.

    Raises
    ------
    ValueError
        If the data are not usable, or the trainer stops before all mixtures are done.
    """
    with quiet_lightning(), as_if_alone(), switches_as_before(members[0].trainer_params):
        find = partial(find_starts, rows, members)
        run_fits = lightning_loop().run_fits
        restarts: list[list[Restart]] = run_fits(
            rows, members, find, scores=True, sweep_progress=progress
        )
    scores = [r.log_likelihood for starts in restarts for r in starts if r.error is None]
    if any(map(math.isnan, scores)):
        # What was compared then would be the time that a mixture has had.
        msg = (
            "The trainer stopped before all mixtures were done, and there is nothing to compare. "
            "Leave out what stops it, such as max_time, max_steps or a callback, in trainer_params."
        )
        raise ValueError(msg)
    return restarts


def _run_and_tell(rows: RowSource, settings: FitSettings, progress: Progress) -> list[Restart]:
    """All starts at once, and their progress afterwards.

    To callbacks they are one fit: what has been seen of one start would count in the next.
    """
    silent = replace(settings, progress=None)
    restarts: list[Restart]
    (restarts,) = lightning_loop().run_fits(rows, [silent], partial(find_starts, rows, [silent]))
    for index, restart in enumerate(restarts):
        progress.start(index)
        before = settings.start.previous_lower_bound
        for number, bound in enumerate(restart.lower_bounds, start=1):
            progress.iteration(number, bound - before)
            before = bound
        progress.end(restart.lower_bound, restart.converged)
    return restarts


def _run_one_by_one(rows: RowSource, settings: FitSettings, progress: Progress) -> list[Restart]:
    """Each start by itself, so that its progress can be told in order."""
    starts = find_starts(rows, [settings])
    restarts = []
    for index, start in enumerate(starts.restarts[0]):
        progress.start(index)
        find = partial(replace, starts, restarts=[[start]])
        ((restart,),) = lightning_loop().run_fits(rows, [settings], find)
        progress.end(restart.lower_bound, restart.converged)
        restarts.append(restart)
    return restarts

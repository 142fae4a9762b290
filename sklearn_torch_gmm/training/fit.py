"""Fits from rows and settings: the choice of the loop, and the context that it runs in."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import entry_points
from os import PathLike
from types import ModuleType
from typing import Any

from sklearn_torch_gmm.core.device import as_if_alone, automatic_accelerator
from sklearn_torch_gmm.core.imports import without_collections
from sklearn_torch_gmm.em import loop as plain_loop
from sklearn_torch_gmm.em.loop import Job
from sklearn_torch_gmm.em.progress import Monitor
from sklearn_torch_gmm.em.restarts import Restart, find_starts
from sklearn_torch_gmm.em.results import FitResult, first_of_best
from sklearn_torch_gmm.em.settings import FitSettings, Progress
from sklearn_torch_gmm.rows.source import RowSource
from sklearn_torch_gmm.training.process_state import switches_as_before
from sklearn_torch_gmm.training.quiet import quiet_lightning

CheckpointPath = str | PathLike[str] | None

PLAIN_PARAMS = frozenset({"accelerator", "devices", "min_epochs", "precision"})
"""Parameters, in addition to `max_epochs`, that the plain loop can follow without a trainer."""

CALLBACKS_GROUP = "pytorch_lightning.callbacks_factory"
"""The entry point by which installed packages add callbacks to every trainer."""


def fit_mixture(
    rows: RowSource,
    settings: FitSettings,
    ckpt_path: CheckpointPath = None,
    monitor: Monitor | None = None,
) -> FitResult:
    """Fit a mixture from ``settings.num_init`` starts; keep the restart of largest likelihood.

    With the checkpoint of an earlier run, the fit continues after its last iteration. A monitor
    follows restarts that share their passes.

    Raises
    ------
    IllDefinedCovarianceError
        If a covariance is not positive definite after regularization.
    NonFiniteLikelihoodError
        If the log-likelihood is not finite.
    ValueError
        If the data are not usable, or the checkpoint is of another mixture.
    """
    with as_if_alone():
        if settings.loop.max_iter == 0:
            (restarts,) = find_starts(rows, [settings], monitor).restarts
            if settings.progress is not None:
                for index in range(len(restarts)):
                    settings.progress.start(index)
            return FitResult.of(restarts[-1])
        # A checkpoint holds all restarts of one run, so they cannot run one after another.
        if settings.progress is None or ckpt_path is not None:
            restarts = _run_at_once(rows, settings, ckpt_path, monitor)
        elif settings.loop.trainer_params.get("callbacks"):
            restarts = _run_and_report(rows, settings, settings.progress)
        else:
            restarts = _run_one_by_one(rows, settings, settings.progress)
    return FitResult.of(first_of_best(restarts))


def fit_sweep(
    rows: RowSource, fits: Sequence[FitSettings], monitor: Monitor | None = None
) -> list[list[Restart]]:
    """Fit many mixtures in the same passes over the data; return the restarts of each fit.

    The fits have one `random_state` and share all settings that do not concern a single mixture.
    The restarts hold the likelihood under their final parameters.

    Raises
    ------
    ValueError
        If the data are not usable, or the trainer stops before all mixtures are done.
    """
    with as_if_alone():
        restarts = _run(_job(rows, fits, monitor, scores=True))
    scores = [r.log_likelihood for starts in restarts for r in starts if r.error is None]
    if any(map(math.isnan, scores)):
        # A comparison of unfinished mixtures would depend on the time that each has had.
        msg = (
            "The trainer stopped before all mixtures were done, so they cannot be compared. Remove "
            "the cause, such as max_time, max_steps or a callback, from trainer_params."
        )
        raise ValueError(msg)
    return restarts


def _run_at_once(
    rows: RowSource,
    settings: FitSettings,
    ckpt_path: CheckpointPath = None,
    monitor: Monitor | None = None,
) -> list[Restart]:
    """All restarts in the same passes."""
    (restarts,) = _run(_job(rows, [settings], monitor), ckpt_path)
    return restarts


def _job(
    rows: RowSource, fits: Sequence[FitSettings], monitor: Monitor | None, *, scores: bool = False
) -> Job:
    return Job(rows, fits, partial(find_starts, rows, fits, monitor), scores, monitor)


def _run_and_report(rows: RowSource, settings: FitSettings, progress: Progress) -> list[Restart]:
    """All restarts in the same passes, with their progress reported afterwards.

    Callbacks must see one fit: restarts one after another would share the state of a callback.
    """
    restarts = _run_at_once(rows, replace(settings, progress=None))
    for index, restart in enumerate(restarts):
        progress.start(index)
        before = settings.start.previous_lower_bound
        for number, bound in enumerate(restart.lower_bounds, start=1):
            progress.iteration(number, bound - before)
            before = bound
        progress.end(restart.lower_bound, restart.converged)
    return restarts


def _run_one_by_one(rows: RowSource, settings: FitSettings, progress: Progress) -> list[Restart]:
    """Each restart by itself, so that progress is reported in order."""
    starts = find_starts(rows, [settings])
    restarts = []
    for index, start in enumerate(starts.restarts[0]):
        progress.start(index)
        ((restart,),) = _run(Job(rows, [settings], partial(replace, starts, restarts=[[start]])))
        progress.end(restart.lower_bound, restart.converged)
        restarts.append(restart)
    return restarts


# -- which loop -----------------------------------------------------------------------------------


def _run(job: Job, ckpt_path: CheckpointPath = None) -> list[list[Restart]]:
    """Run the plain loop where a trainer is not needed, Lightning's elsewhere."""
    settings = job.fits[0]
    is_plain = (
        ckpt_path is None
        and job.rows.is_in_memory
        and settings.loop.batch_size is None
        and settings.loop.max_iter is not None
        and asks_nothing_of_a_trainer(settings.loop.trainer_params)
    )
    if is_plain:
        return plain_loop.run(job)
    with quiet_lightning(), switches_as_before(settings.loop.trainer_params):
        restarts: list[list[Restart]] = lightning_loop().run(job, ckpt_path)
    return restarts


def asks_nothing_of_a_trainer(trainer_params: Mapping[str, Any]) -> bool:
    """Whether the parameters ask only for one CPU and a number of iterations.

    Lightning decides about any value that is not certain to mean this.
    """
    accelerator = trainer_params.get("accelerator", "auto")
    return (
        PLAIN_PARAMS.issuperset(trainer_params)
        and type(trainer_params.get("min_epochs", 0)) is int
        and type(trainer_params.get("devices", 1)) is int
        and trainer_params.get("devices", 1) == 1
        and (accelerator == "cpu" or (accelerator == "auto" and automatic_accelerator() == "cpu"))
        and not _packages_add_callbacks()
    )


@cache
def _packages_add_callbacks() -> bool:
    """Whether an installed package adds callbacks to every trainer; the search takes a while."""
    return len(entry_points(group=CALLBACKS_GROUP)) > 0


@cache
def lightning_loop() -> ModuleType:
    """Return the module that runs fits on Lightning.

    Its import takes two seconds, which predictions and plain fits do not need. It draws from
    Python's random numbers, so the state of a program that has seeded them is restored.
    """
    state = random.getstate()
    with without_collections():
        from sklearn_torch_gmm.training import lightning_loop as module

    random.setstate(state)
    return module

"""The one door into training: rows and settings in, parameters out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike

from sklearn_torch_gmm.core.device import as_if_alone
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.training.checkpoints import check_file
from sklearn_torch_gmm.training.data import RowSource
from sklearn_torch_gmm.training.em_module import EMModule
from sklearn_torch_gmm.training.quiet import quiet_lightning
from sklearn_torch_gmm.training.settings import FitSettings, Progress
from sklearn_torch_gmm.training.starts import Restart, Starts, SweepProgress, find_starts
from sklearn_torch_gmm.training.surroundings import switches_as_before
from sklearn_torch_gmm.training.trainer import make_trainer, run, starts_processes_of_its_own

CheckpointPath = str | PathLike[str] | None


@dataclass(frozen=True)
class FitResult:
    """The best of the starts.

    Attributes
    ----------
    parameters : MixtureParameters
        Of one mixture, ``[1, ...]``, float64, on the CPU.
    lower_bounds : list of float
        Mean log-likelihood before each M-step, in nats.
    converged : bool
    empty : list of int
        Components that lost all their rows.
    fall : list of float
        Two mean log-likelihoods of which the later one should not be less, or nothing.
    """

    parameters: MixtureParameters
    lower_bounds: list[float]
    converged: bool
    empty: list[int]
    fall: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, restart: Restart) -> FitResult:
        """Return what a fit that keeps this start has found."""
        return cls(
            restart.parameters,
            restart.lower_bounds,
            restart.converged,
            sorted(restart.empty),
            restart.fall,
        )


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
            (restarts,) = _run(rows, [settings], find, ckpt_path)
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
        restarts = _run(rows, members, find, scores=True, sweep_progress=progress)
    scores = [r.log_likelihood for starts in restarts for r in starts if r.error is None]
    if any(map(math.isnan, scores)):
        # What was compared then would be the time that a mixture has had.
        msg = (
            "The trainer stopped before all mixtures were done, and there is nothing to compare. "
            "Leave out what stops it, such as max_time, max_steps or a callback, in trainer_params."
        )
        raise ValueError(msg)
    return restarts


def first_of_best(restarts: Sequence[Restart]) -> Restart:
    """The likeliest; of those that differ by rounding only, the first.

    Starts often find one mixture, with its components in different orders. Which of them is kept
    shall not depend on the processor, the number of threads or the size of the batches.
    """
    largest = max(restart.lower_bound for restart in restarts)
    least = largest - 1e-12 * max(1.0, abs(largest))
    return next(restart for restart in restarts if restart.lower_bound >= least)


def _run(
    rows: RowSource,
    members: Sequence[FitSettings],
    find: Callable[[], Starts],
    ckpt_path: CheckpointPath = None,
    *,
    scores: bool = False,
    sweep_progress: SweepProgress | None = None,
) -> list[list[Restart]]:
    """All starts of all members in the same passes over the data."""
    settings = members[0]
    # With a pass for the scores, and members that repeat different iterations, the members end it.
    max_epochs = -1 if scores else settings.max_iter
    trainer = make_trainer(settings.trainer_params, max_epochs=max_epochs)
    if trainer.world_size > 1:
        rows.check_shared()
    starts: Starts | Callable[[], Starts] = find
    # A checkpoint makes a start needless. Of several processes that are there already, one finds
    # the starts; before new ones begin, this one does.
    if ckpt_path is None and (trainer.world_size == 1 or starts_processes_of_its_own(trainer)):
        starts = find()
    if ckpt_path is not None:
        check_file(ckpt_path)
    module = EMModule(rows, members, starts, scores=scores, sweep_progress=sweep_progress)
    try:
        run(trainer, module, ckpt_path)
    finally:
        module.close()
    return module.results()


def _run_and_tell(rows: RowSource, settings: FitSettings, progress: Progress) -> list[Restart]:
    """All starts at once, and their progress afterwards.

    To callbacks they are one fit: what has been seen of one start would count in the next.
    """
    silent = replace(settings, progress=None)
    (restarts,) = _run(rows, [silent], partial(find_starts, rows, [silent]))
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
        ((restart,),) = _run(rows, [settings], find)
        progress.end(restart.lower_bound, restart.converged)
        restarts.append(restart)
    return restarts

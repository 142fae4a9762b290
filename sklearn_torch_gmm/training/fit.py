"""The one door into training: rows and settings in, parameters out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.training.data import RowSource
from sklearn_torch_gmm.training.em_iterations import Restart
from sklearn_torch_gmm.training.em_module import EMModule
from sklearn_torch_gmm.training.quiet import quiet_lightning
from sklearn_torch_gmm.training.settings import FitSettings, Progress
from sklearn_torch_gmm.training.starts import Starts, find_starts
from sklearn_torch_gmm.training.trainer import make_trainer, run


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
    """

    parameters: MixtureParameters
    lower_bounds: list[float]
    converged: bool
    empty: list[int]


def fit_mixture(rows: RowSource, settings: FitSettings) -> FitResult:
    """Fit a mixture from ``settings.num_init`` starts and keep the likeliest.

    Parameters
    ----------
    rows : RowSource
    settings : FitSettings

    Raises
    ------
    IllDefinedCovarianceError
        If a covariance is not positive definite after regularization.
    NonFiniteLikelihoodError
        If the log-likelihood is not finite.
    """
    with quiet_lightning():
        if settings.max_iter == 0:
            starts = find_starts(rows, settings)
            return FitResult(starts.parameters[-1], lower_bounds=[], converged=False, empty=[])
        if settings.progress is None:
            restarts = _run(rows, settings, partial(find_starts, rows, settings))
        else:
            restarts = _run_one_by_one(rows, settings, settings.progress)
    best = max(restarts, key=lambda restart: restart.lower_bound)
    return FitResult(best.parameters, best.lower_bounds, best.converged, sorted(best.empty))


def _run(rows: RowSource, settings: FitSettings, find: Callable[[], Starts]) -> list[Restart]:
    """All starts in the same passes over the data."""
    trainer = make_trainer(settings.trainer_params, max_epochs=settings.max_iter)
    # Of several processes, one finds the starts, and only once all of them are there.
    starts = find() if trainer.world_size == 1 else None
    module = EMModule(rows, settings, starts or find)
    run(trainer, module)
    return module.results()


def _run_one_by_one(rows: RowSource, settings: FitSettings, progress: Progress) -> list[Restart]:
    """Each start by itself, so that its progress can be told in order."""
    starts = find_starts(rows, settings)
    restarts = []
    for index, start in enumerate(starts.parameters):
        progress.start(index)
        (restart,) = _run(rows, settings, partial(replace, starts, parameters=[start]))
        progress.end(restart.lower_bound, restart.converged)
        restarts.append(restart)
    return restarts

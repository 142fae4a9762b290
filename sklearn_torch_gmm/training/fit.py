"""The one door into training: rows and settings in, parameters out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.training.data import RowSource
from sklearn_torch_gmm.training.em_module import EMModule, Restart
from sklearn_torch_gmm.training.failures import raise_for_ill_defined
from sklearn_torch_gmm.training.initialization import sample_of, starting_parameters
from sklearn_torch_gmm.training.quiet import quiet_lightning
from sklearn_torch_gmm.training.settings import FitSettings
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
        data = rows.starting_rows(settings.num_components, settings.random_state)
        sample = sample_of(data)
        centre = sample.middle()
        starts = []
        for _ in range(settings.num_init):
            start = starting_parameters(data, settings)
            if not start.usable.all():
                raise_for_ill_defined(start, settings)
            starts.append(start.parameters)
        extents = (sample.evenly_spaced() - centre).abs().amax(0)
        del data, sample
        if settings.max_iter == 0:
            return FitResult(starts[-1], lower_bounds=[], converged=False, empty=[])
        if settings.progress is None:
            restarts = _run(rows, starts, centre, extents, settings)
        else:
            restarts = _run_one_by_one(rows, starts, centre, extents, settings)
    best = max(restarts, key=lambda restart: restart.lower_bound)
    return FitResult(best.parameters, best.lower_bounds, best.converged, sorted(best.empty))


def _run(
    rows: RowSource,
    starts: Sequence[MixtureParameters],
    centre: Tensor,
    extents: Tensor,
    settings: FitSettings,
) -> list[Restart]:
    """All starts in the same passes over the data."""
    trainer = make_trainer(settings.trainer_params, max_epochs=settings.max_iter)
    module = EMModule(starts, centre, extents, settings)
    batches = rows.batches(settings.batch_size, settings.num_workers)
    run(trainer, module, batches)
    return module.results()


def _run_one_by_one(
    rows: RowSource,
    starts: Sequence[MixtureParameters],
    centre: Tensor,
    extents: Tensor,
    settings: FitSettings,
) -> list[Restart]:
    """Each start by itself, so that its progress can be told in order."""
    progress = settings.progress
    assert progress is not None
    restarts = []
    for index, start in enumerate(starts):
        progress.start(index)
        (restart,) = _run(rows, [start], centre, extents, settings)
        progress.end(restart.lower_bound, restart.converged)
        restarts.append(restart)
    return restarts

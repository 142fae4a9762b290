"""All starts of a fit, and what the loop has to know of the data before its first pass."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.training.data import RowSource
from sklearn_torch_gmm.training.failures import raise_for_ill_defined
from sklearn_torch_gmm.training.initialization import sample_of, starting_parameters
from sklearn_torch_gmm.training.settings import FitSettings


@dataclass(frozen=True)
class Starts:
    """Where EM begins.

    Attributes
    ----------
    parameters : list of MixtureParameters
        ``[1, ...]`` each, float64, on the CPU.
    centre : Tensor [D]
        A point near the middle of the data.
    extents : Tensor [D]
        Distances from it that rows are known to reach in each feature.
    """

    parameters: list[MixtureParameters]
    centre: Tensor
    extents: Tensor


def find_starts(rows: RowSource, settings: FitSettings) -> Starts:
    """Draw ``settings.num_init`` starts, one after another.

    Raises
    ------
    IllDefinedCovarianceError
        If a covariance is not positive definite after regularization.
    """
    data = rows.starting_rows(settings.num_components, settings.random_state)
    sample = sample_of(data)
    centre = sample.middle()
    parameters = []
    for _ in range(settings.num_init):
        start = starting_parameters(data, settings)
        if not start.usable.all():
            raise_for_ill_defined(start, settings)
        parameters.append(start.parameters)
    extents = (sample.evenly_spaced() - centre).abs().amax(0)
    return Starts(parameters, centre, extents)

"""All starts of a fit, and what the loop has to know of the data before its first pass."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.training.data import RowSource
from sklearn_torch_gmm.training.failures import check_usable
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
    ValueError
        If there are fewer rows than components.
    IllDefinedCovarianceError
        If a covariance is not positive definite after regularization.
    """
    data = rows.starting_rows(settings.num_components, settings.random_state)
    if len(data.rows) < settings.num_components:
        # A stream tells its length only now.
        msg = (
            f"Expected n_samples >= n_components but got n_components = {settings.num_components}, "
            f"n_samples = {len(data.rows)}"
        )
        raise ValueError(msg)
    sample = sample_of(data)
    centre = sample.middle()
    parameters = []
    for _ in range(settings.num_init):
        start = starting_parameters(data, settings)
        check_usable(start, settings)
        parameters.append(start.parameters)
    extents = (sample.evenly_spaced() - centre).abs().amax(0)
    return Starts(parameters, centre, extents)

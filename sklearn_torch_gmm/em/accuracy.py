"""The choice between the fast and the exact E-step, from bounds on the rounding error."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.inference import TOLERATED_ERROR_OF_PREDICTIONS
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.rounding import (
    cancellation,
    cancellation_of_moments,
    cancellation_of_scatter,
    largest_moments,
)
from sklearn_torch_gmm.core.workspace import is_wide
from sklearn_torch_gmm.em.known_data import KnownData
from sklearn_torch_gmm.em.mixtures import Mixtures
from sklearn_torch_gmm.em.report import StepReport


class Accuracy:
    """Decides how exact the next pass of a fit has to be.

    Parameters
    ----------
    structure : CovarianceStructure
    data : KnownData
    components_in_pass : int
        Components of all mixtures that would share T(x), including those of this fit.
    tolerated : float
        Error of a fast pass that is tolerated, in nats.

    Attributes
    ----------
    is_wide : bool
        Whether T(x) has so many entries that every pass is exact.
    needs_exact : bool
        Whether the next pass works with residuals, the differences of rows to the means.
    about : Tensor [R, K, D] or None
        Points that the moments of the next exact pass are taken about; None for the means.
    """

    def __init__(
        self,
        structure: CovarianceStructure,
        data: KnownData,
        components_in_pass: int,
        tolerated: float,
    ) -> None:
        num_features = data.centre.shape[0]
        num_moments = 1 + structure.num_moments(num_features)
        self.is_wide = is_wide(num_moments, components_in_pass * num_features)
        self.needs_exact = False
        self.about: Tensor | None = None
        self._structure = structure
        self._data = data
        self._tolerated = tolerated
        self._largest: Tensor | None = None

    def errors(self, mixtures: Mixtures) -> Tensor:
        """Bounds ``[R]`` on the rounding error of the fast E-step, in nats."""
        parameters = mixtures.parameters
        if self.is_wide:
            return parameters.weights.new_full(parameters.weights.shape[:1], math.inf)
        largest = self._largest
        if largest is None:
            largest = largest_moments(self._data.max_deviations, self._structure)
            self._largest = largest if self._data.knows_all else None
        errors = cancellation(mixtures.natural, largest)
        if self._structure.has_pooled_scatter:
            factors = parameters.precisions_cholesky
            errors = errors + cancellation_of_scatter(factors, self._data.max_deviations)
        return errors

    def errors_of_new_rows(self, mixtures: Mixtures) -> Tensor | None:
        """:meth:`errors` after a fast pass that read rows for the first time, otherwise None."""
        return None if self.needs_exact or self._data.knows_all else self.errors(mixtures)

    def drifts(self, parameters: MixtureParameters, about: Tensor) -> Tensor | None:
        """Relative rounding errors ``[R]`` of covariances after an exact pass, otherwise None."""
        if not self.needs_exact:
            return None
        return cancellation_of_moments(parameters, about, self._structure)

    def must_repeat(self, report: StepReport, found: MixtureParameters) -> bool:
        """Whether the pass has lost too much precision; the next pass then avoids the loss."""
        if not self.needs_exact and not self._are_tolerated(report.errors):
            self.needs_exact = True
            return True
        if self.needs_exact and self.about is None and not self._are_tolerated(report.drifts):
            # Moments about the means that this pass has found do not cancel.
            self.about = found.means
            return True
        self.about = None
        return False

    def look_ahead(self, errors: Sequence[float]) -> None:
        """Choose the next pass from the bounds on the error of a fast one."""
        self.needs_exact = not self._are_tolerated(errors)

    def allows_fast_scores(self, mixtures: Mixtures) -> bool:
        """Whether the fast E-step computes likelihoods to the precision of predictions."""
        errors: list[float] = self.errors(mixtures).tolist()
        return all(error <= TOLERATED_ERROR_OF_PREDICTIONS for error in errors)

    def _are_tolerated(self, errors: Sequence[float]) -> bool:
        # Not `any(error > ...)`: a bound that is NaN is not tolerated either.
        return all(error <= self._tolerated for error in errors)

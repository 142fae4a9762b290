"""The choice between the fast and the exact E-step, and between the ways of the exact one.

Both follow from bounds on the rounding error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.inference import TOLERATED_ERROR_OF_PREDICTIONS
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.rounding import (
    MOST_RELATIVE_ERROR,
    TOLERATED_LOSS,
    cancellation,
    cancellation_of_moments,
    cancellation_of_products,
    cancellation_of_scatter,
    cancellation_of_whitening,
    growth_of_rounding,
    relative_error_of_products,
    rounding_of_moments,
    rounding_of_sums,
    rounding_of_whitening,
)
from sklearn_torch_gmm.core.ways import Allowed, Ways
from sklearn_torch_gmm.core.workspace import is_wide
from sklearn_torch_gmm.em.known_data import KnownData
from sklearn_torch_gmm.em.mixtures import Mixtures
from sklearn_torch_gmm.em.report import StepReport

FAR_ROWS = 30.0
"""Terms of a log-density, in multiples of the largest that an exponential can represent, from which
on many responsibilities may vanish.

With fewer, an operation more for each chunk would hardly ever pay. With twice the value, passes
over rows that are moderately far would take up to 1.7 times as long.
"""

TOLERATED_ERROR_OF_ENTROPY = 2e-11
"""Bound on the rounding error of log-densities, in nats, up to which a fast pass computes the
entropy of the responsibilities from its sums.

That takes no operation on a row, but both are subtracted: the errors of all rows add up, to 2e-4
for ten million at worst, where scikit-learn's tolerance for the sum is 1e-3. With half the value,
long columns with heavy tails would take a tenth to a quarter more time.
"""

FEWEST_TO_WHITEN = 5
"""Rows, in multiples of the features, from which on components are whitened if T(x) is too wide.

With fewer, computing covariances from whitened sums takes more time than whitening saves. With half
the value, an iteration of [4k, 1000] → 4 would take 1.15 times as long.
"""


MOST_TO_WHITEN = 128
"""Components that share a covariance, in multiples of the features, up to which they are whitened.

The work grows with the square of their number, and for residuals with the number times that of the
features. With twice the value, a pass of [50k, 2] → 512 would take a quarter more time.
"""


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
        Whether the next pass is exact, in the ways that :meth:`ways` chooses.
    many_vanish : bool
        Whether so many responsibilities may vanish in a fast pass that it is worth a look.
    has_exact_sums : bool
        Whether the sums of a fast pass are exact enough for the entropy of the responsibilities.
    about : MixtureParameters or None
        Parameters about whose means the moments of the next exact pass are taken; None for those
        of the pass.
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
        self.many_vanish = False
        self.has_exact_sums = False
        self.about: MixtureParameters | None = None
        self._structure = structure
        self._data = data
        self._tolerated = tolerated
        self._rounding: Tensor | None = None
        found = torch.finfo(data.centre.dtype)
        self._error_of_far_rows = -FAR_ROWS * found.eps * math.log(found.tiny)

    def errors(self, mixtures: Mixtures, *, may_vanish: bool = True) -> Tensor:
        """Bounds ``[R]`` on the rounding error of the fast E-step, in nats.

        Unless components ``may_vanish``, that of a mixture is infinite if one has no weight.
        """
        parameters = mixtures.parameters
        if self.is_wide:
            return parameters.weights.new_full(parameters.weights.shape[:1], math.inf)
        rounding = self._rounding
        if rounding is None:
            rounding = rounding_of_moments(self._data.max_deviations, self._structure)
            self._rounding = rounding if self._data.knows_all else None
        errors = cancellation(mixtures.natural, rounding, may_vanish=may_vanish)
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
        if not self.needs_exact and not self.are_tolerated(report.errors):
            self.needs_exact = True
            return True
        # The drift of a covariance that is not positive definite means nothing.
        is_precise = self.are_tolerated(report.drifts) and all(report.usable)
        if self.needs_exact and self.about is None and not is_precise:
            # Moments about the means that this pass has found do not cancel.
            self.about = found
            return True
        self.about = None
        return False

    def ways(self, parameters: MixtureParameters, tolerated: float | None = None) -> Ways:
        """The ways through an exact pass, with errors that are ``tolerated``; reads a device once.

        The number is by default that of the fit, in nats.
        """
        weights, structure = parameters.weights.flatten(), self._structure
        num_features = parameters.means.shape[-1]
        if self.is_wide and self._data.num_rows < FEWEST_TO_WHITEN * num_features:
            return Ways.all_residuals(len(weights))
        limit = self._tolerated if tolerated is None else tolerated
        allowed = self._allowed(parameters, limit)
        read: list[list[float]] = torch.cat([weights.unsqueeze(0), allowed.to(weights)]).tolist()
        by_way = [[is_allowed == 1.0 for is_allowed in own] for own in read[1:]]
        if self.is_wide:
            # T(x) is never written.
            nothing = [False] * len(weights)
            by_way = [nothing, nothing, by_way[-1]]
        if not structure.is_shared:
            has_matrices = not structure.has_independent_features
            return Allowed(*by_way).choose(read[0], num_features, has_matrices=has_matrices)
        are_few = parameters.means.shape[1] <= MOST_TO_WHITEN * num_features
        if structure.has_pooled_scatter and are_few and all(by_way[-1]):
            return Ways.all_whitened(len(weights))
        return Ways.all_residuals(len(weights))

    def _allowed(self, parameters: MixtureParameters, limit: float) -> Tensor:
        """Bools ``[3, R K]`` in the order of :class:`Allowed`."""
        structure, centre = self._structure, self._data.centre
        away = self._distances(parameters)
        away_of_found = away if self.about is None else self._distances(self.about)
        growth = growth_of_rounding(parameters, structure)
        products = cancellation_of_products(away, growth, len(centre)) <= limit
        # The sums that come with the products are taken about the centre, too.
        products &= rounding_of_sums(away_of_found) <= limit
        sifting = relative_error_of_products(growth) <= MOST_RELATIVE_ERROR
        sifting &= away < math.inf
        whitening = cancellation_of_whitening(away, len(centre)) <= limit
        loss = rounding_of_whitening(torch.maximum(away, away_of_found))
        # A loss below the rounding error of the covariance itself changes nothing.
        least = rounding_of_sums(growth)
        whitening &= (loss <= TOLERATED_LOSS[centre.dtype]) | (loss <= least)
        whitening &= least <= MOST_RELATIVE_ERROR
        return torch.stack([products, sifting, whitening]).flatten(1)

    def _distances(self, parameters: MixtureParameters) -> Tensor:
        """Bounds ``[R, K]`` on the distances from the means to the centre, in deviations."""
        away = parameters.means - self._data.centre
        return self._structure.distance_bounds(away, parameters.precisions_cholesky)

    def are_tolerated(self, errors: Sequence[float]) -> bool:
        """Whether the fast E-step may have these bounds on its error."""
        return _are_at_most(self._tolerated, errors)

    def look_ahead(self, errors: Sequence[float]) -> None:
        """Choose the next pass from the bounds on the error of a fast one."""
        self.needs_exact = not self.are_tolerated(errors)
        self.many_vanish = not _are_at_most(self._error_of_far_rows, errors)
        self.has_exact_sums = self._data.knows_all and _are_at_most(
            TOLERATED_ERROR_OF_ENTROPY, errors
        )

    def allows_fast_scores(self, mixtures: Mixtures) -> bool:
        """Whether the fast E-step computes likelihoods to the precision of predictions."""
        errors: list[float] = self.errors(mixtures).tolist()
        return _are_at_most(TOLERATED_ERROR_OF_PREDICTIONS, errors)


def _are_at_most(limit: float, errors: Sequence[float]) -> bool:
    """Whether no error exceeds the limit; one that is NaN does."""
    return all(map(limit.__ge__, errors))

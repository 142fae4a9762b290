"""The conditional distribution of the values that rows lack, given those that they have.

For a component with the precision Λ, a row with the observed features o and the missing ones u has,
with W = Λ_uu⁻¹ and d_o = x_o − μ_o,

    x_u | x_o  ~  N(μ_u − W Λ_uo d_o, W)
    log|Σ_oo|  =  log|Σ| + log|Λ_uu|
    d_oᵀ Σ_oo⁻¹ d_o  =  d̂ᵀ Λ d̂,  where d̂ is d_o completed by the conditional means,

so that only a matrix of the size of the gap is inverted, and d̂ holds residuals. The logarithms lose
eps times the condition number; the conditional means are refined where they would lose more.
W depends only on the pattern of the gaps, and is computed once for all rows that share it.

Source: Little and Rubin, Statistical Analysis with Missing Data (2019), section 11.2; Ghahramani
and Jordan, Supervised learning from incomplete data via an EM approach (1994).
"""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_torch_gmm.core.cached_property import cached_property
from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.covariance.base import LOG_2PI
from sklearn_torch_gmm.core.covariance.linalg import invert_triangular
from sklearn_torch_gmm.core.gap_chunks import GapChunk, among
from sklearn_torch_gmm.core.rounding import growth_of_factors, typical_distance

MOST_BY_ELEMENTS = 16
"""Largest matrices that are inverted element by element, for all patterns at once. Beyond, one call
of LAPACK for each of them takes less time: twice the value would cost up to twice as much there."""

TOLERATED_MOVE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Error of squared distances from which on conditional means are refined.

It takes two more products of a matrix of the size of the gap for each row and component. With twice
the value, log-densities could be off by twice as much.
"""

FEW_MATRICES = 64
"""Number of matrices for which LAPACK takes less time, whatever their size.

Element by element, the time hardly depends on the number. With twice the value, matrices of two and
three rows would take up to a third more time.
"""


def invert_definite(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Inverses and log-determinants ``[..., p]`` of positive definite ``matrices [..., c, c, p]``.

    If a matrix has a pivot that is not positive, its log-determinant is not finite.
    """
    size = matrices.shape[-2]
    if size == 1:
        return matrices.reciprocal(), matrices.flatten(-3).log()
    # On other devices, the host would have to wait for the outcome.
    are_few = matrices.numel() <= FEW_MATRICES * size * size and matrices.device.type == "cpu"
    if size > MOST_BY_ELEMENTS or are_few:
        lower, info = torch.linalg.cholesky_ex(matrices.movedim(-1, -3))
        if not info.any():
            log_determinants = 2.0 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            return torch.cholesky_inverse(lower).movedim(-3, -1), log_determinants
    return _swept(matrices)


def _swept(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """The same by the sweep operator, which needs no pivoting for such matrices.

    The p of them lie along the last axis, so that each step is one operation on all of them.

    Source: Goodnight, A tutorial on the SWEEP operator (1979).
    """
    size = matrices.shape[-2]
    swept = matrices.clone()
    pivots = torch.empty_like(matrices[..., 0, :])
    for j in range(size):
        column, pivot = swept.select(-2, j).clone(), pivots.select(-2, j)
        own = column.select(-2, j)
        pivot.copy_(own)
        # The pivot itself becomes −1/pivot, like the rest of its row and column.
        own.fill_(-1.0)
        scaled = column / pivot.unsqueeze(-2)
        swept.addcmul_(column.unsqueeze(-2), scaled.unsqueeze(-3), value=-1.0)
        swept.select(-2, j).copy_(scaled)
        swept.select(-3, j).copy_(scaled)
    return swept.neg_(), pivots.log_().sum(-2)


class Patterns(NamedTuple):
    """Common parts of the conditional distributions of a group's patterns."""

    covariances: Tensor
    """W ``[T, ..., K or 1, c, c, p]``: the 1 stands for components that share one covariance."""

    log_constants: Tensor
    """Terms of a log-density in addition to −½ d̂ᵀ Λ d̂: ``[T, ..., K, p]``, weights included."""


class Completed(NamedTuple):
    """Rows, completed by the conditional means of each component."""

    logits: Tensor
    """Joint log-densities of the observed values ``[T, ..., K, n]``, in nats."""

    residuals: Tensor
    """x̂ − μ ``[T, ..., K, D, n]``, with the conditional means in place of missing values."""


class Conditionals:
    """Conditional distributions under mixtures whose features depend on each other.

    Takes ``log_weights [..., K]``, ``means [..., K, D]`` and the factors of the precisions.

    Attributes
    ----------
    precisions : Tensor [..., K or 1, D, D]
        Λ: the 1 stands for components that share one covariance.
    """

    def __init__(
        self,
        log_weights: Tensor,
        means: Tensor,
        precisions_cholesky: Tensor,
        structure: CovarianceStructure,
    ) -> None:
        self.means = means
        self._log_weights = log_weights
        sizes = means.shape[-2:]
        self._find_log_determinants = partial(
            structure.log_determinants, precisions_cholesky, *sizes
        )
        self._find_growth = partial(growth_of_factors, precisions_cholesky, structure, *sizes)
        # In the shape of the covariances.
        self._factors = precisions_cholesky
        self.precisions = structure.precisions(precisions_cholesky)
        if structure.is_shared:
            self._factors = self._factors.unsqueeze(-3)
            self.precisions = self.precisions.unsqueeze(-3)

    @cached_property
    def _log_determinants(self) -> Tensor:
        """½ log|Λ| ``[..., K]``."""
        return self._find_log_determinants()

    @cached_property
    def _is_ill_conditioned(self) -> bool:
        """Whether the rounding of W may move a row's distance by more than is tolerated.

        With the largest growth g of rounding errors, W is rounded by eps g² of itself, and d̂ by as
        much. Since d̂ minimizes the squared distance, it changes by the square of that, in units of
        the narrowest direction: eps² g⁶ ‖z‖².
        """
        if self._factors.device.type != "cpu":
            # The host would wait for the answer longer than the device for the operations.
            return True
        dtype, num_features = self._factors.dtype, self.means.shape[-1]
        growth = self._find_growth()
        error = torch.finfo(dtype).eps ** 2 * growth**6 * typical_distance(num_features) ** 2
        # Not `any(... > ...)`: one that is NaN may be too large, too.
        return not bool((error <= TOLERATED_MOVE[dtype]).all())

    def of_patterns(self, chunk: GapChunk) -> Patterns:
        """The conditional distributions for the patterns of a chunk."""
        covariances, log_determinants = self.covariances_of(chunk)
        if chunk.lacks_all:
            constants = self._log_weights.unsqueeze(-1)
            return Patterns(covariances, constants.expand(len(covariances), *constants.shape))
        # Integers times a number of Python's would be float32.
        observed = self._among((chunk.num_features - chunk.counts).to(log_determinants))
        scales = -0.5 * (observed * LOG_2PI + log_determinants)
        constants = (self._log_weights + self._log_determinants).unsqueeze(-1)
        return Patterns(covariances, constants + scales)

    def covariances_of(self, chunk: GapChunk) -> tuple[Tensor, Tensor]:
        """W ``[T, ..., K or 1, c, c, p]`` for the patterns of a chunk, and log|Λ_uu|.

        The covariances are zero for features that a pattern does not lack, so that nothing that is
        computed with them changes at these features. The logarithms can be broadcast to ``[T, ...,
        K, p]``.
        """
        lanes, size, _ = chunk.missing.shape
        if chunk.lacks_all:
            # Nothing is given: the covariances themselves keep their full precision.
            inverse = invert_triangular(self._factors, upper=True)
            covariances = (inverse.mT @ inverse).unsqueeze(-1)
            logarithms = 2.0 * self._log_determinants.unsqueeze(-1)
            return covariances.expand(lanes, *covariances.shape), logarithms
        block = self.blocks_of(chunk)
        is_outside = None if chunk.is_outside is None else self._among(chunk.is_outside)
        if is_outside is not None:
            # An identity block has no part in the inverse or the determinant.
            identity = torch.eye(size, dtype=block.dtype, device=block.device).unsqueeze(-1)
            block = torch.where(is_outside, identity, block)
        covariances, log_determinants = invert_definite(block)
        if is_outside is not None:
            covariances = covariances.masked_fill(is_outside, 0.0)
        return covariances, log_determinants

    def blocks_of(self, chunk: GapChunk) -> Tensor:
        """Λ_uu ``[T, ..., K or 1, c, c, p]`` for the patterns, with other values for padding."""
        precisions = self.precisions.flatten(-2)
        return chunk.at_places(precisions.expand(len(chunk.missing), *precisions.shape))

    def complete(
        self, values: Tensor, observed: Tensor, chunk: GapChunk, patterns: Patterns
    ) -> Completed:
        """Complete the rows ``[T, D, n]`` of a chunk.

        They are given as :func:`~sklearn_torch_gmm.core.gaps.without_gaps` returns them.
        """
        residuals = residuals_of(values, observed, self.means)
        # The same rows for each component.
        place = self._among(chunk.missing_by_row)
        place = place.expand(*residuals.shape[:-2], *place.shape[-2:])
        pulled = (self.precisions @ residuals).gather(-2, place)
        covariances = chunk.by_row(patterns.covariances)
        filled = (covariances * pulled.unsqueeze(-3)).sum(-2).neg_()
        if not chunk.lacks_one and self._is_ill_conditioned:
            # One step of iterative refinement: what is still pulled, at the precision of Λ.
            blocks = chunk.by_row(self.blocks_of(chunk))
            pulled += (blocks * filled.unsqueeze(-3)).sum(-2)
            filled -= (covariances * pulled.unsqueeze(-3)).sum(-2)
        # Residuals are zero at the gaps.
        residuals.scatter_add_(-2, place, filled)
        distances = self.squared_distances(residuals)
        logits = chunk.by_row(patterns.log_constants) - 0.5 * distances
        return Completed(logits, residuals)

    def squared_distances(self, residuals: Tensor) -> Tensor:
        """Squared Mahalanobis distances ``[T, ..., K, n]`` of completed rows from the means."""
        return (self._factors.mT @ residuals).square_().sum(-2)

    def scaled(self, scale: float) -> Conditionals:
        """The same with other means, for rows that are multiplied by ``scale``."""
        other = copy(self)
        other.means = scale * self.means
        return other

    def _among(self, values: Tensor) -> Tensor:
        """``values [T, ...]`` of rows for all mixtures and components."""
        return among(values, self.means.ndim - 1)


def residuals_of(values: Tensor, observed: Tensor, means: Tensor) -> Tensor:
    """x − μ ``[T, ..., K, D, n]`` of rows ``[T, D, n]``, zero for gaps."""
    values, observed = (among(own, means.ndim - 1) for own in (values, observed))
    return torch.addcmul(values, means.unsqueeze(-1), observed, value=-1.0)


class IndependentConditionals:
    """The same for features that are independent of each other: the conditional means are μ."""

    def __init__(
        self,
        log_weights: Tensor,
        means: Tensor,
        precisions_cholesky: Tensor,
        structure: CovarianceStructure,
    ) -> None:
        self.means = means
        self._log_weights = log_weights
        # The roots of precisions have the shape of the variances.
        self._factors = structure.variances(precisions_cholesky, *means.shape[-2:])
        # The term of each observed value in a log-density, apart from its squared distance.
        self._log_scales = self._factors.log() - 0.5 * LOG_2PI

    @property
    def deviations(self) -> Tensor:
        """Standard deviations ``[..., K, D]`` of missing values."""
        return self._factors.reciprocal()

    def complete(self, values: Tensor, observed: Tensor) -> Completed:
        """Complete rows, given as in :meth:`Conditionals.complete`."""
        residuals = residuals_of(values, observed, self.means)
        distances = self.squared_distances(residuals)
        scales = self._log_scales @ among(observed, self.means.ndim - 2)
        constants = self._log_weights.unsqueeze(-1) + scales
        return Completed(constants - 0.5 * distances, residuals)

    def squared_distances(self, residuals: Tensor) -> Tensor:
        """The same as :meth:`Conditionals.squared_distances`."""
        return (residuals * self._factors.unsqueeze(-1)).square_().sum(-2)

    def scaled(self, scale: float) -> IndependentConditionals:
        """The same as :meth:`Conditionals.scaled`."""
        other = copy(self)
        other.means = scale * self.means
        return other

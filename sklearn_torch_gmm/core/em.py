"""Expectation–maximization for Gaussian mixtures as functions of tensors.

An iteration is one E-step over all rows, which accumulates :class:`Moments`, and one M-step, which
turns them into parameters. The E-step has two forms with the same result. The fast one expands the
square: two matrix products a chunk of rows. The exact one works with differences to the means and
costs more; it is for data whose spread is so large against the width of a component that the
expanded form loses its digits. :func:`cancellation` tells which one is needed.

Source: Bishop, Pattern Recognition and Machine Learning (2006), section 9.2; the exponential-family
form is equation (2.194) applied to the joint density of row and component.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.workspace import Workspace, subtract_transposed

TOLERATED_ERROR = {torch.float64: 2e-7, torch.float32: 1e-4}
"""Largest rounding error of a log-density, in nats, that the fast E-step may have.

:func:`cancellation` estimates it.
"""


SMALL_PRODUCT = 1_000_000
"""Multiplications below which a product for each mixture costs no more than one for all."""


def normalize_(logits: Tensor) -> Tensor:
    """Turn joint log-densities ``[R, K, n]`` into responsibilities in place.

    Returns
    -------
    Tensor [R, n]
        The log-density of each row, in nats.
    """
    largest = logits.amax(dim=1, keepdim=True)
    total = logits.sub_(largest).exp_().sum(dim=1, keepdim=True)
    logits.mul_(total.reciprocal())
    return largest.add_(total.log_()).squeeze(1)


def cancellation(natural: Tensor, extents: Tensor, structure: CovarianceStructure) -> Tensor:
    """Rounding error of the fast E-step's log-densities, in nats.

    A log-density is the product η · (1, T(x)). Each of its terms is rounded to eps of its size, and
    no term of T exceeds that of the extents: the error is about eps · Σ_p |η_p| max |T_p|. The
    largest error of many rows has been seen at up to 2.5 times that, since η is itself rounded.

    Parameters
    ----------
    natural : Tensor [R, K, 1 + P]
        Natural parameters about the centre.
    extents : Tensor [D]
        Largest distance of a row from the centre in each feature.

    Returns
    -------
    Tensor, one number
    """
    num_features = extents.shape[0]
    magnitudes = extents.new_empty(1 + structure.num_moments(num_features), 1)
    magnitudes[1 : num_features + 1, 0] = extents
    structure.complete_moments(magnitudes, num_features)
    coefficients = natural.abs()
    # The constant −∞ of a component without weight is not rounded.
    coefficients[..., 0].masked_fill_(natural[..., 0] == -math.inf, 0.0)
    epsilon = torch.finfo(natural.dtype).eps
    return epsilon * (coefficients @ magnitudes).max()


def cancellation_of_moments(
    parameters: MixtureParameters, centre: Tensor, structure: CovarianceStructure
) -> Tensor:
    """Rounding error of covariances that come from moments about ``centre [R, K, D]``.

    Relative to the covariances: eps · (μ − c)ᵀ Σ⁻¹ (μ − c), since (μ − c)(μ − c)ᵀ is subtracted.

    Returns
    -------
    Tensor, one number
    """
    deviations = parameters.means - centre
    linear = structure.linear_coefficients(deviations, parameters.precisions_cholesky)
    return torch.finfo(deviations.dtype).eps * (deviations * linear).sum(-1).max()


class EStep(ABC):
    """One pass over the rows under fixed parameters.

    Parameters
    ----------
    parameters : MixtureParameters
        Of R mixtures.
    centre : Tensor [D]
        A point near the middle of the data.
    structure : CovarianceStructure
    workspace : Workspace
        Memory that is reused from chunk to chunk and from iteration to iteration.

    Attributes
    ----------
    moments : Moments
        The sums over the rows added so far.
    """

    moments: Moments
    centre: Tensor
    """What the moments are about: ``[D]`` or ``[R, K, D]``."""

    def __init__(
        self,
        parameters: MixtureParameters,
        centre: Tensor,
        structure: CovarianceStructure,
        workspace: Workspace,
    ) -> None:
        self.parameters = parameters
        self.centre = centre
        self.structure = structure
        self.workspace = workspace
        restarts, components, features = parameters.means.shape
        moments = structure.num_moments(features)
        self.moments = Moments(
            sums=parameters.means.new_zeros(restarts, components, 1 + moments),
            log_likelihood=parameters.means.new_zeros(restarts),
        )

    def add(self, rows: Tensor, sample_weight: Tensor | None = None) -> None:
        """Add the moments of ``rows [N, D]`` with weights ``[N]``, a chunk at a time."""
        size = self.rows_per_chunk
        for start in range(0, rows.shape[0], size):
            chunk = rows[start : start + size]
            weights = None if sample_weight is None else sample_weight[start : start + size]
            self._add_chunk(chunk, weights)

    @property
    @abstractmethod
    def rows_per_chunk(self) -> int:
        """How many rows are worked on at once."""

    @abstractmethod
    def _add_chunk(self, rows: Tensor, sample_weight: Tensor | None) -> None: ...

    @abstractmethod
    def log_likelihood(self, moments: Moments) -> Tensor:
        """Σ log p(x) ``[R]``, in nats, from moments that may be summed over processes."""

    def _weigh(self, logits: Tensor, sample_weight: Tensor | None) -> None:
        """Normalize ``logits [R, K, n]`` into weighted responsibilities; add the likelihood."""
        log_densities = normalize_(logits)
        if sample_weight is not None:
            sample_weight = sample_weight.to(logits.dtype)
            logits.mul_(sample_weight)
            log_densities.mul_(sample_weight)
        self.moments.log_likelihood += log_densities.sum(-1)


class FastEStep(EStep):
    """Two matrix products a chunk: log-densities η T(x), then the sums R T(x)ᵀ.

    Rows lie along the last axis, where products with few components run fastest.

    Parameters
    ----------
    natural : Tensor [R, K, 1 + P]
        Natural parameters about ``centre``.
    extents : Tensor [D] or None
        If given, grows to the largest distance of a row from the centre in each feature.
    scatter : Tensor [1, D, D] or None
        For structures that share it: the sum over all rows where it is known from an earlier
        iteration; it does not change between iterations.
    """

    def __init__(
        self,
        parameters: MixtureParameters,
        centre: Tensor,
        structure: CovarianceStructure,
        workspace: Workspace,
        *,
        natural: Tensor,
        extents: Tensor | None = None,
        scatter: Tensor | None = None,
    ) -> None:
        super().__init__(parameters, centre, structure, workspace)
        self._natural = natural
        self._shift = centre.unsqueeze(-1)
        self._extents = extents
        self._collects_scatter = structure.has_shared_scatter and scatter is None
        if self._collects_scatter:
            scatter = centre.new_zeros(1, centre.shape[0], centre.shape[0])
        self.moments.scatter = scatter

    @property
    def rows_per_chunk(self) -> int:
        restarts, components, length = self._natural.shape
        return self.workspace.rows_per_chunk(length + 2 * restarts * components)

    def _add_chunk(self, rows: Tensor, sample_weight: Tensor | None) -> None:
        num_rows, num_features = rows.shape
        restarts, components, length = self._natural.shape
        features = self.workspace.take("features", length, num_rows)
        x = features[1 : num_features + 1]
        subtract_transposed(rows, self._shift, out=x)
        self.structure.complete_moments(features, num_features)

        logits = self.workspace.take("logits", restarts * components, num_rows)
        by_mixture = logits.view(restarts, components, num_rows)
        # A product for each mixture rounds as if the mixture were the only one; with much data one
        # product for all is up to twice as fast.
        if logits.numel() * length < SMALL_PRODUCT:
            each = features.expand(restarts, length, num_rows)
            torch.bmm(self._natural, each, out=by_mixture)
            self._weigh(by_mixture, sample_weight)
            self.moments.sums.baddbmm_(by_mixture, each.mT)
        else:
            torch.mm(self._natural.flatten(0, 1), features, out=logits)
            self._weigh(by_mixture, sample_weight)
            self.moments.sums.flatten(0, 1).addmm_(logits, features.T)

        if self._collects_scatter:
            assert self.moments.scatter is not None
            weighted = x if sample_weight is None else x * sample_weight.to(x.dtype)
            self.moments.scatter[0].addmm_(weighted, x.T)
        if self._extents is not None:
            torch.maximum(self._extents, x.abs().amax(dim=1), out=self._extents)

    def log_likelihood(self, moments: Moments) -> Tensor:
        if moments.scatter is None:
            return moments.log_likelihood
        factors = self.parameters.precisions_cholesky
        return moments.log_likelihood + self.structure.common_log_density(factors, moments.scatter)


class ExactEStep(EStep):
    """Differences to the means before any product, moments about the means or near the next ones.

    Parameters
    ----------
    about : Tensor [R, K, D] or None
        What the moments are about; None: the means of ``parameters``. Moments about points that are
        many widths from the next means lose the digits of the covariances.
    """

    def __init__(
        self,
        parameters: MixtureParameters,
        centre: Tensor,
        structure: CovarianceStructure,
        workspace: Workspace,
        *,
        about: Tensor | None = None,
    ) -> None:
        super().__init__(
            parameters, parameters.means if about is None else about, structure, workspace
        )
        if structure.has_shared_scatter:
            restarts, _, features = parameters.means.shape
            self.moments.scatter = centre.new_zeros(restarts, features, features)

    @property
    def rows_per_chunk(self) -> int:
        # Each chunk writes a matrix a component: with fewer rows that would be most of the work.
        size = self.workspace.rows_per_chunk(3 * self.parameters.means.numel())
        return max(size, self.parameters.means.shape[-1])

    def _add_chunk(self, rows: Tensor, sample_weight: Tensor | None) -> None:
        mixture, moments, structure = self.parameters, self.moments, self.structure
        num_features = rows.shape[1]
        x = rows.T.to(mixture.means.dtype)
        logits = structure.joint_log_densities(
            x, mixture.weights, mixture.means, mixture.precisions_cholesky
        )
        self._weigh(logits, sample_weight)
        differences = x - self.centre.unsqueeze(-1)
        moments.counts.add_(logits.sum(-1))
        moments.first(num_features).add_((differences @ logits.unsqueeze(-1)).squeeze(-1))
        second = structure.centred_second_moments(differences, logits)
        if moments.scatter is None:
            moments.second(num_features).add_(second)
        else:
            moments.scatter.add_(second)

    def log_likelihood(self, moments: Moments) -> Tensor:
        return moments.log_likelihood


@dataclass(frozen=True)
class MStepResult:
    """Parameters after an M-step, and what went wrong in it.

    Attributes
    ----------
    parameters : MixtureParameters
    usable : Tensor [R, K], bool
        Components whose covariance is positive definite.
    empty : Tensor [R, K], bool
        Components without weight, which kept their last mean and got the data's variance.
    """

    parameters: MixtureParameters
    usable: Tensor
    empty: Tensor


def m_step(
    moments: Moments,
    centre: Tensor,
    previous_means: Tensor,
    structure: CovarianceStructure,
    regularization: float,
    *,
    keep_rounding: bool = False,
) -> MStepResult:
    """Maximum-likelihood parameters from moments; nothing here waits for the device.

    Parameters
    ----------
    moments : Moments
        Of R mixtures, summed over all rows.
    centre : Tensor [D] or [R, K, D]
        What the moments are about.
    previous_means : Tensor [R, K, D]
        Means that components without weight keep.
    structure : CovarianceStructure
    regularization : float
        Added once to each variance, in squared units of the data.
    keep_rounding : bool, default=False
        Whether a component of a few equal rows has the variance that rounding gives it in
        scikit-learn, where features are independent.

    Returns
    -------
    MStepResult

    Notes
    -----
    Bishop (2006), equations (9.24) to (9.27). A component is empty when its weight is below the
    rounding error of a single row.
    """
    _, components, num_features = previous_means.shape
    epsilon = torch.finfo(previous_means.dtype).eps
    counts = moments.counts
    empty = counts <= 10 * epsilon
    divisors = counts.clamp_min(10 * epsilon)
    deviations = moments.first(num_features) / divisors.unsqueeze(-1)
    second = moments.second(num_features)
    covariances = structure.estimate(divisors, deviations, second, moments.scatter)
    means = torch.where(empty.unsqueeze(-1), previous_means, centre + deviations)
    if keep_rounding:
        covariances = structure.at_least_rounding(covariances, means, divisors)
    covariances = structure.regularize(covariances, regularization)

    weights = counts / counts.sum(-1, keepdim=True)
    spread = total_variances(weights, means, structure.variances(covariances, num_features))
    covariances = structure.fill_components(covariances, empty, spread)
    factors, usable = structure.precisions_cholesky(covariances, components)
    return MStepResult(MixtureParameters(weights, means, covariances, factors), usable, empty)


def total_variances(weights: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """Variance of each feature ``[R, 1, D]`` under the mixtures, by the law of total variance.

    Parameters
    ----------
    weights : Tensor [R, K]
    means : Tensor [R, K, D]
    variances : Tensor [R, K, D] or [R, 1, D]
    """
    shares = weights.unsqueeze(-1)
    overall = (shares * means).sum(-2, keepdim=True)
    # The square of a distance may overflow: no share of that is none.
    terms = torch.where(shares > 0, shares * (variances + (means - overall).square()), 0.0)
    return terms.sum(-2, keepdim=True)

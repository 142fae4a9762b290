"""Stepwise EM: parameters that follow the data batch by batch, reading each batch once.

Source: Cappé and Moulines, On-line expectation–maximization algorithm for latent data models
(2009), equation (5); Liang and Klein, Online EM for unsupervised models (2009).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.exact_step import ExactEStep
from sklearn_torch_gmm.core.fixed import FixedParts, keep_parts
from sklearn_torch_gmm.core.gap_pass import GapPass
from sklearn_torch_gmm.core.m_step import MStepResult, m_step
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.rounding import TOLERATED_ERROR, cancellation_of_moments
from sklearn_torch_gmm.core.splits import Splits
from sklearn_torch_gmm.core.workspace import Workspace


class StepwiseUpdate(NamedTuple):
    """The result of a pass over a batch."""

    result: MStepResult

    log_likelihood: Tensor
    """Mean log-likelihood ``[R]`` of the batch under the earlier parameters, in nats."""

    lost: Tensor
    """Relative rounding errors ``[R]`` of the new covariances.

    Means may move by many standard deviations, if no earlier moments of weight tie them to the old
    ones. A pass about the new means then keeps the precision.
    """

    @property
    def has_lost_precision(self) -> bool:
        """Whether another pass is needed, about the means that this one has found."""
        # Not `any(... > ...)`: an error that is NaN may be too large, too.
        return not bool((self.lost <= TOLERATED_ERROR[self.lost.dtype]).all())


def stepwise_update(
    parameters: MixtureParameters,
    rows: Tensor,
    sample_weight: Tensor | None,
    step_size: float,
    structure: CovarianceStructure,
    regularization: float,
    fixed: FixedParts | None = None,
    *,
    included: Tensor | None = None,
    missing: bool = False,
    about: Tensor | None = None,
) -> StepwiseUpdate:
    """Move the expected moments a step towards the moments of a batch, then do an M-step.

    Parameters
    ----------
    parameters : MixtureParameters
        The R current mixtures.
    rows : Tensor [n, D]
    sample_weight : Tensor [n] or None
    step_size : float
        γ in s ← (1 − γ) s + γ ŝ, where s are the expected moments of one row and ŝ the mean moments
        of the batch; 1 discards all earlier data.
    structure : CovarianceStructure
    regularization : float
        Added to the resulting covariances.
    fixed : mapping of str to Tensor [K], default=None
        Components of which a part stays fixed. A fixed weight serves as the expected weight.
    included : Tensor [K], default=None
        The regularization that the covariances of ``parameters`` include; None: the same.
    missing : bool, default=False
        Whether NaN marks a value that was not observed.
    about : Tensor [R, K, D], default=None
        The points about which the moments are taken; None: the means of ``parameters``.
    """
    means, fixed = parameters.means, fixed or {}

    workspace = Workspace(dtype=means.dtype, device=means.device)
    step = ExactEStep(parameters, means, structure, workspace, about=about)
    whole = GapPass([step], [step], Splits(), resident_rows=len(rows)) if missing else step
    whole.add(rows, sample_weight)
    batch = step.moments
    total = batch.counts.sum(-1)

    empirical = parameters.covariances
    if included is None:
        included = means.new_full(means.shape[1:2], regularization)
    unit = structure.unit_covariances(empirical)
    empirical = empirical - structure.along_components(included, empirical) * unit
    # Both are taken about the same points, so nothing cancels even if the data are far from zero.
    share = (step_size / total)[:, None, None]
    sums, scatter = share * batch.sums, batch.total_scatter
    scatter = None if scatter is None else share * scatter
    if step_size < 1:
        known = _known_moments(parameters, empirical, step.centre, structure)
        sums = torch.add(sums, known.sums, alpha=1 - step_size)
        if scatter is not None and known.scatter is not None:
            scatter = torch.add(scatter, known.scatter, alpha=1 - step_size)
    moments, kept = Moments(sums, batch.log_likelihood, scatter), fixed.get("means")
    result = m_step(moments, step.centre, means, structure, regularization, kept_means=kept)
    return StepwiseUpdate(
        keep_parts(result, parameters, fixed, structure),
        step.log_likelihood(batch) / total,
        cancellation_of_moments(result.parameters, step.centre, structure),
    )


def _known_moments(
    parameters: MixtureParameters,
    empirical: Tensor,
    points: Tensor,
    structure: CovarianceStructure,
) -> Moments:
    """Return the mean moments of one row about ``points [R, K, D]``, expected under the mixtures.

    The ``empirical`` covariances do not include a regularization.
    """
    weights, shifts = parameters.weights, parameters.means - points
    num_features = shifts.shape[-1]
    second = structure.second_moments_of(empirical, weights, num_features)
    second = second + structure.centred_second_moments(shifts.unsqueeze(-1), weights.unsqueeze(-1))
    first = torch.cat([weights.unsqueeze(-1), weights.unsqueeze(-1) * shifts], dim=-1)
    nothing = weights.new_zeros(len(weights))
    if structure.has_pooled_scatter:
        return Moments(first, nothing, second)
    return Moments(torch.cat([first, second], dim=-1), nothing)

"""Stepwise EM: parameters that follow the data batch by batch, reading each batch once.

Source: Cappé and Moulines, On-line expectation–maximization algorithm for latent data models
(2009), equation (5); Liang and Klein, Online EM for unsupervised models (2009).
"""

from __future__ import annotations

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.exact_step import ExactEStep
from sklearn_torch_gmm.core.fixed import FixedParts, keep_parts
from sklearn_torch_gmm.core.gap_pass import GapPass
from sklearn_torch_gmm.core.m_step import MStepResult, m_step
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.splits import Splits
from sklearn_torch_gmm.core.workspace import Workspace


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
) -> tuple[MStepResult, Tensor]:
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

    Returns
    -------
    MStepResult
    Tensor [R]
        Mean log-likelihood of the batch under ``parameters``, in nats.
    """
    means, fixed = parameters.means, fixed or {}
    num_features = means.shape[-1]
    splits = Splits()

    def added(step: ExactEStep) -> ExactEStep:
        one = GapPass([step], [step], splits, resident_rows=len(rows)) if missing else step
        one.add(rows, sample_weight)
        return step

    step = ExactEStep(
        parameters, means, structure, Workspace(dtype=means.dtype, device=means.device)
    )
    batch = added(step).moments
    if step_size == 1:
        # The means may move by many standard deviations, and no earlier moments tie the sums to
        # the old means: a second pass about the new ones keeps the precision.
        counts = batch.counts.unsqueeze(-1)
        about = torch.where(counts > 0, means + batch.first(num_features) / counts, means)
        step = ExactEStep(parameters, means, structure, step.workspace, about=about)
        batch = added(step).moments
    total = batch.counts.sum(-1)

    # Both are taken about the same means, so nothing cancels even if the data are far from zero.
    empirical = parameters.covariances
    if included is None:
        included = means.new_full(means.shape[1:2], regularization)
    unit = structure.unit_covariances(empirical)
    empirical = empirical - structure.along_components(included, empirical) * unit
    second = structure.second_moments_of(empirical, parameters.weights, num_features)
    known = Moments(batch.sums.new_zeros(batch.sums.shape), batch.log_likelihood)
    known.counts.copy_(parameters.weights)
    share = step_size / total
    scatter = None
    if structure.has_pooled_scatter:
        pooled = batch.total_scatter
        assert pooled is not None
        scatter = (1 - step_size) * second + share[:, None, None] * pooled
    else:
        known.second(num_features).copy_(second)
    sums = (1 - step_size) * known.sums + share[:, None, None] * batch.sums
    blended = Moments(sums, batch.log_likelihood, scatter)
    kept = fixed.get("means")
    result = m_step(blended, step.centre, means, structure, regularization, kept_means=kept)
    return keep_parts(result, parameters, fixed, structure), step.log_likelihood(batch) / total

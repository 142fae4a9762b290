"""Parts of a mixture, and those that an M-step leaves as they are.

The parts of an M-step depend on each other in one way only: covariances are second moments about
the means. So the conditional maximum beside fixed parts follows from the unconditional one, and an
M-step without fixed parts costs nothing more.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

import torch

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.m_step import MStepResult
from sklearn_torch_gmm.core.parameters import MixtureParameters

Part = Literal["weights", "means", "covariances"]
"""What a mixture consists of."""

PARTS: tuple[Part, ...] = get_args(Part)


def num_free_parameters(
    structure: CovarianceStructure,
    num_components: int,
    num_features: int,
    known: Collection[Part] = (),
) -> int:
    """Number of parameters that are estimated from data, where some parts are known."""
    numbers: dict[Part, int] = {
        "weights": num_components - 1,
        "means": num_components * num_features,
        "covariances": structure.num_covariance_parameters(num_components, num_features),
    }
    return sum(number for part, number in numbers.items() if part not in known)


def keep_parts(
    result: MStepResult,
    before: MixtureParameters,
    fixed: Collection[Part],
    structure: CovarianceStructure,
) -> MStepResult:
    """Put fixed parts back, and the likeliest of the others beside them.

    Parameters
    ----------
    result : MStepResult
        Where nothing is fixed.
    before : MixtureParameters
        Holds the parts that stay.
    fixed : collection of str
    structure : CovarianceStructure

    Notes
    -----
    Rows of a component that have the mean μ and the covariance Σ have the second moment
    Σ + (μ − m)(μ − m)ᵀ about a fixed mean m. Neither weights nor means depend on the covariances.
    """
    weights, means, covariances, factors = result.parameters.tensors()
    usable = result.usable
    if "covariances" in fixed:
        covariances, factors = before.covariances, before.precisions_cholesky
        usable = torch.ones_like(usable)
    elif "means" in fixed:
        distances = means - before.means
        # A component without rows is where it was: its distance is zero, whatever its share.
        shares = weights.clamp_min(torch.finfo(weights.dtype).tiny)
        second = structure.centred_second_moments(distances.unsqueeze(-1), shares.unsqueeze(-1))
        covariances = covariances + structure.estimate(
            shares, torch.zeros_like(distances), second, second
        )
        factors, usable = structure.precisions_cholesky(covariances, means.shape[-2])
    parameters = MixtureParameters(
        before.weights if "weights" in fixed else weights,
        before.means if "means" in fixed else means,
        covariances,
        factors,
    )
    return MStepResult(parameters, usable, result.empty)

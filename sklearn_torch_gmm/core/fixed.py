"""The parts of a mixture, and an M-step that leaves some of them fixed.

The parts depend on each other in one way only: covariances are second moments about the means. So
:func:`~sklearn_torch_gmm.core.m_step.m_step` has an option to keep the means, and fixed weights and
covariances simply replace its estimates.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

import torch

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.m_step import MStepResult
from sklearn_torch_gmm.core.parameters import MixtureParameters

Part = Literal["weights", "means", "covariances"]
"""A group of parameters of a mixture."""

PARTS: tuple[Part, ...] = get_args(Part)


def num_free_parameters(
    structure: CovarianceStructure,
    num_components: int,
    num_features: int,
    known: Collection[Part] = (),
) -> int:
    """Number of parameters estimated from the data if some parts are known."""
    numbers: dict[Part, int] = {
        "weights": num_components - 1,
        "means": num_components * num_features,
        "covariances": structure.num_covariance_parameters(num_components, num_features),
    }
    return sum(number for part, number in numbers.items() if part not in known)


def keep_parts(
    result: MStepResult, before: MixtureParameters, fixed: Collection[Part]
) -> MStepResult:
    """Restore the fixed weights and covariances of ``before``, on which nothing else depends.

    Fixed means must have been kept by the M-step itself.
    """
    weights, means, covariances, factors = result.parameters.tensors()
    usable = result.usable
    if "covariances" in fixed:
        covariances, factors = before.covariances, before.precisions_cholesky
        usable = torch.ones_like(usable)
    if "weights" in fixed:
        weights = before.weights
    parameters = MixtureParameters(weights, means, covariances, factors)
    return MStepResult(parameters, usable, result.empty)

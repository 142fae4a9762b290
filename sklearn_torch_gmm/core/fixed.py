"""The parts of a mixture, and an M-step that leaves some of them, or of their components, fixed.

The expected log-likelihood of rows and components together, which an M-step maximizes, is

    Σ_k N_k log π_k + Σ_k Q_k(μ_k, Σ_k)

where N_k is the weight of the rows of component k, and Q_k has its maximum at their mean and at
their scatter about μ_k, whatever Σ_k is. Hence

- a component with a fixed mean m has the scatter about m, and the other components are unaffected;
- a fixed covariance changes neither its component's mean nor another component. A covariance that
  all components share cannot be fixed for some of them;
- the weights must sum to one. With a Lagrange multiplier λ the derivatives for the free ones are
  N_k / π_k = λ: they share 1 − Σ π over the fixed ones in proportion to N_k.

So :func:`~sklearn_torch_gmm.core.m_step.m_step` has an option to keep means, and fixed covariances
and weights replace its estimates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.m_step import MStepResult
from sklearn_torch_gmm.core.parameters import MixtureParameters

Part = Literal["weights", "means", "covariances"]
"""A group of parameters of a mixture."""

PARTS: tuple[Part, ...] = get_args(Part)

FixedParts = Mapping[Part, Tensor]
"""Bool ``[K]`` for each part with fixed components, of which there is at least one."""


def fix_whole(parts: Collection[Part], num_components: int) -> dict[Part, Tensor]:
    """Return these parts with all of their components."""
    if not parts:
        return {}
    everything = torch.ones(num_components, dtype=torch.bool, device="cpu")
    return {part: everything for part in PARTS if part in parts}


def on_device(fixed: FixedParts, device: torch.device) -> FixedParts:
    """Return the same parts, with masks on a device."""
    return {part: chosen.to(device) for part, chosen in fixed.items()}


def is_all_fixed(fixed: FixedParts) -> bool:
    """Whether no parameter is free."""
    return len(fixed) == len(PARTS) and all(bool(chosen.all()) for chosen in fixed.values())


def parts_to_plain(fixed: FixedParts) -> list[Part] | dict[Part, list[int]]:
    """Return names of whole parts, or component numbers by part if some components are free."""
    if all(bool(chosen.all()) for chosen in fixed.values()):
        return [part for part in PARTS if part in fixed]
    return {part: fixed[part].nonzero().flatten().tolist() for part in PARTS if part in fixed}


def parts_from_plain(plain: object, num_components: int) -> dict[Part, Tensor]:
    """Return the inverse of :func:`parts_to_plain`; raises ValueError for any other value."""
    names_parts = isinstance(plain, (list, dict)) and all(part in PARTS for part in plain)
    if names_parts and isinstance(plain, list):
        return fix_whole(plain, num_components)
    names_components = isinstance(plain, dict) and all(
        isinstance(chosen, list)
        and len(chosen) > 0
        and all(type(number) is int and 0 <= number < num_components for number in chosen)
        for chosen in plain.values()
    )
    if not names_parts or not names_components:
        msg = f"{plain!r} does not name parts of {PARTS}, or components of them"
        raise ValueError(msg)
    assert isinstance(plain, dict)
    fixed = {}
    for part, chosen in plain.items():
        fixed[part] = torch.zeros(num_components, dtype=torch.bool, device="cpu")
        fixed[part][chosen] = True
    return fixed


def num_free_parameters(
    structure: CovarianceStructure,
    num_components: int,
    num_features: int,
    known: FixedParts | None = None,
) -> int:
    """Return the number of parameters that are estimated if some of them are known."""
    known = known or {}
    num_known = {part: int(chosen.sum()) for part, chosen in known.items()}
    free = {part: num_components - num_known.get(part, 0) for part in PARTS}
    covariances = 0
    if free["covariances"] > 0:
        covariances = structure.num_covariance_parameters(free["covariances"], num_features)
    # The last free weight follows from the others.
    return max(free["weights"] - 1, 0) + free["means"] * num_features + covariances


def keep_parts(
    result: MStepResult,
    before: MixtureParameters,
    fixed: FixedParts,
    structure: CovarianceStructure,
) -> MStepResult:
    """Restore the fixed weights and covariances of ``before``, on which nothing else depends.

    Fixed means must have been kept by the M-step itself.
    """
    weights, means, covariances, factors = result.parameters.tensors()
    usable = result.usable
    if "covariances" in fixed:
        chosen = fixed["covariances"]
        stays = structure.along_components(chosen, covariances)
        covariances = torch.where(stays, before.covariances, covariances)
        factors = torch.where(stays, before.precisions_cholesky, factors)
        usable = usable | chosen
    if "weights" in fixed:
        weights = _share_rest(weights, before.weights, fixed["weights"])
    parameters = MixtureParameters(weights, means, covariances, factors)
    return MStepResult(parameters, usable, result.empty)


def _share_rest(weights: Tensor, before: Tensor, chosen: Tensor) -> Tensor:
    """Return weights ``[R, K]`` whose free ones share the rest of the ``chosen [K]`` ones.

    If all free components are empty, their weights stay unchanged as well.
    """
    rest = (1.0 - torch.where(chosen, before, 0.0).sum(-1, keepdim=True)).clamp_min(0.0)
    free = torch.where(chosen, 0.0, weights)
    total = free.sum(-1, keepdim=True)
    shared = torch.where(total > 0, rest * (free / total), before)
    return torch.where(chosen, before, shared)

"""Short ways to set up what `core` works on."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure, get_structure
from sklearn_torch_gmm.core.e_step import EStep
from sklearn_torch_gmm.core.exact_step import ExactEStep
from sklearn_torch_gmm.core.fast_step import FastEStep
from sklearn_torch_gmm.core.fixed import FixedParts, fix_whole, keep_parts, parts_from_plain
from sklearn_torch_gmm.core.inference import Inference
from sklearn_torch_gmm.core.m_step import MStepResult, m_step
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.workspace import Workspace
from tests.core.families import FAMILIES
from tests.core.oracle import Fixed, Mixture, random_matrices, with_structure

E_STEPS = ["fast", "exact"]

needs_extended_precision = pytest.mark.skipif(
    np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps, reason="no extended precision"
)


def make_parameters(
    structure: CovarianceStructure, weights: Tensor, means: Tensor, covariances: Tensor
) -> MixtureParameters:
    """Parameters from tensors with a leading dimension R."""
    factors, usable = structure.precisions_cholesky(covariances, means.shape[-2])
    assert usable.all()
    return MixtureParameters(weights, means, covariances, factors)


def mixture_of(
    rng: np.random.Generator, name: str, components: int = 3, features: int = 2
) -> Mixture:
    """Components that overlap, with covariances that the structure can hold."""
    weights = rng.dirichlet(np.full(components, 5.0))
    means = 2.0 * rng.standard_normal((components, features))
    matrices = random_matrices(rng, components, features)
    return with_structure(name, Mixture(weights, means, matrices), weights)


def as_parameters(name: str, *mixtures: Mixture) -> MixtureParameters:
    """Parameters [R, ...] of mixtures whose covariances the structure can hold."""
    project = FAMILIES[name].project
    equal = [np.full(len(m.weights), 1 / len(m.weights)) for m in mixtures]
    covariances = np.stack([project(m.matrices, e) for m, e in zip(mixtures, equal, strict=True)])
    return make_parameters(
        get_structure(name),
        tensor(np.stack([mixture.weights for mixture in mixtures])),
        tensor(np.stack([mixture.means for mixture in mixtures])),
        tensor(covariances),
    )


def natural_parameters(
    parameters: MixtureParameters, centre: Tensor, structure: CovarianceStructure
) -> Tensor:
    return structure.natural_parameters(
        parameters.log_weights, parameters.means - centre, parameters.precisions_cholesky
    )


def make_e_step(
    kind: str,
    parameters: MixtureParameters,
    centre: Tensor,
    structure: CovarianceStructure,
    *,
    chunk_bytes: int | None = None,
    extents: Tensor | None = None,
    scatter: Tensor | None = None,
    with_certainty: bool = False,
    with_entropy: bool = False,
    num_lanes: int | None = None,
    classes: Tensor | None = None,
) -> EStep:
    means = parameters.means
    workspace = Workspace(means.dtype, means.device, chunk_bytes, num_lanes)
    if kind == "exact":
        return ExactEStep(
            parameters,
            centre,
            structure,
            workspace,
            with_certainty=with_certainty,
            with_entropy=with_entropy,
            classes=classes,
        )
    natural = natural_parameters(parameters, centre, structure)
    return FastEStep(
        parameters,
        centre,
        structure,
        workspace,
        natural=natural,
        extents=extents,
        scatter=scatter,
        with_certainty=with_certainty,
        with_entropy=with_entropy,
        classes=classes,
    )


def make_inference(parameters: MixtureParameters, structure: CovarianceStructure) -> Inference:
    """What the first of the mixtures says of rows."""
    log_weights, means, factors = (
        values[0]
        for values in (parameters.log_weights, parameters.means, parameters.precisions_cholesky)
    )
    return Inference(log_weights, means, factors, structure)


def iterate(
    kind: str,
    parameters: MixtureParameters,
    rows: Tensor,
    structure: CovarianceStructure,
    *,
    sample_weight: Tensor | None = None,
    regularization: float = 0.0,
    kept_means: Tensor | None = None,
    chunk_bytes: int | None = None,
    splits: list[int] | None = None,
    centre: Tensor | None = None,
) -> tuple[MStepResult, Tensor]:
    """One iteration of EM; returns the M-step and the log-likelihoods [R] before it."""
    if centre is None:
        centre = rows.mean(0).to(parameters.means)
    step = make_e_step(kind, parameters, centre, structure, chunk_bytes=chunk_bytes)
    edges = [0, *(splits or []), rows.shape[0]]
    for start, stop in pairwise(edges):
        weight = None if sample_weight is None else sample_weight[start:stop]
        step.add(rows[start:stop], weight)
    result = m_step(
        step.moments,
        step.centre,
        parameters.means,
        structure,
        regularization,
        kept_means=kept_means,
    )
    return result, step.log_likelihood(step.moments)


def masks_of(fixed: Fixed, components: int) -> FixedParts:
    """Fixed parts in the form of `core`."""
    if isinstance(fixed, Mapping):
        return parts_from_plain(dict(fixed), components)
    return fix_whole(fixed, components)


def iterate_beside(
    fixed: Fixed,
    kind: str,
    name: str,
    mixtures: Sequence[Mixture],
    rows: np.ndarray,
    weights: np.ndarray | None = None,
    regularization: float = 0.0,
) -> tuple[MStepResult, MixtureParameters]:
    """One iteration of EM that keeps some parts, and what it started from."""
    before, structure = as_parameters(name, *mixtures), get_structure(name)
    masks = masks_of(fixed, before.weights.shape[1])
    result, _ = iterate(
        kind,
        before,
        tensor(rows),
        structure,
        sample_weight=None if weights is None else tensor(weights),
        regularization=regularization,
        kept_means=masks.get("means"),
    )
    return keep_parts(result, before, masks, structure), before


def assert_same_mixtures(
    actual: MixtureParameters, expected: MixtureParameters, *, rtol: float, atol: float
) -> None:
    for name in ("weights", "means", "covariances", "precisions_cholesky"):
        torch.testing.assert_close(
            getattr(actual, name),
            getattr(expected, name),
            rtol=rtol,
            atol=atol,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def tensor(array: np.ndarray) -> Tensor:
    """A copy: what works in place must not write to a test's own arrays."""
    return torch.tensor(array)

"""Many mixtures in the same products give what each gives alone."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from scipy.stats import multivariate_normal

from sklearn_torch_gmm.core import e_step
from sklearn_torch_gmm.core.covariance import STRUCTURES, get_structure
from sklearn_torch_gmm.core.e_step import FastPass
from tests.core.steps import E_STEPS, as_parameters, make_e_step, mixture_of, tensor

TYPES = sorted(STRUCTURES)
SIZES = [(1, 2), (3, 5), (2, 3)]
"""Starts and components of the steps that share a pass."""


def mixtures(rng, name):
    return [
        as_parameters(name, *(mixture_of(rng, name, components) for _ in range(restarts)))
        for restarts, components in SIZES
    ]


def steps_for(rng, name, extents=None, **options):
    structure, centre = get_structure(name), tensor(rng.standard_normal(2))
    scatter = centre.new_zeros(1, 2, 2) if structure.has_shared_scatter else None
    return [
        make_e_step(
            "fast", parameters, centre, structure, extents=extents, scatter=scatter, **options
        )
        for parameters in mixtures(rng, name)
    ]


@pytest.fixture
def rows(rng):
    return tensor(3.0 * rng.standard_normal((500, 2)))


def assert_same_moments(steps, expected):
    for step, alone in zip(steps, expected, strict=True):
        # Sums of 500 rows; the products may add in another order.
        torch.testing.assert_close(vars(step.moments), vars(alone.moments), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("small_product", [0, 10**9], ids=["one product", "a product each"])
@pytest.mark.parametrize("most_components", [1, 6, 256])
def test_steps_that_share_a_pass_give_what_each_gives_alone(
    rng, rows, monkeypatch, name, weighted, small_product, most_components
):
    weights = tensor(rng.uniform(0.0, 2.0, 500)) if weighted else None
    state = rng.bit_generator.state
    alone = steps_for(rng, name)
    for step in alone:
        step.add(rows, weights)

    monkeypatch.setattr(e_step, "SMALL_PRODUCT", small_product)
    monkeypatch.setattr(e_step, "MOST_COMPONENTS", most_components)
    rng.bit_generator.state = state
    # About ninety rows a chunk.
    together = steps_for(rng, name, chunk_bytes=20_000)
    shared = FastPass(together)
    for part in (slice(0, 123), slice(123, 500)):
        shared.add(rows[part], None if weights is None else weights[part])
    assert_same_moments(together, alone)
    for step, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(
            step.log_likelihood(step.moments), expected.log_likelihood(expected.moments)
        )


def test_what_the_data_tell_is_gathered_once_for_all_steps(rng, rows):
    structure, centre = get_structure("tied"), rows.mean(0)
    extents = torch.zeros(2, dtype=torch.float64)
    steps = [
        make_e_step("fast", parameters, centre, structure, extents=extents)
        for parameters in mixtures(rng, "tied")
    ]
    FastPass(steps).add(rows)
    x = rows - centre
    for step in steps:
        torch.testing.assert_close(step.moments.scatter[0], x.T @ x)
    torch.testing.assert_close(extents, x.abs().amax(0), rtol=0, atol=0)


@pytest.mark.parametrize("most_components", [1, 6, 7, 256])
def test_chunks_depend_on_the_components_of_a_group_alone(rng, monkeypatch, most_components):
    monkeypatch.setattr(e_step, "MOST_COMPONENTS", most_components)
    steps = steps_for(rng, "full", chunk_bytes=2**20)
    # D = 2: 1 and five moments. A mixture is never divided, and the order is kept: 2, 5, 5, 5,
    # 3 and 3 components.
    largest = {1: 5, 6: 6, 7: 7, 256: 23}[most_components]
    assert FastPass(steps).rows_per_chunk == 2**20 // (8 * (6 + 2 * largest))


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("kind", E_STEPS)
def test_certainty_is_the_log_of_the_largest_responsibility(rng, rows, name, kind):
    weights = rng.uniform(0.0, 2.0, 500)
    models = [mixture_of(rng, name) for _ in range(2)]
    parameters = as_parameters(name, *models)
    step = make_e_step(
        kind, parameters, rows.mean(0), get_structure(name), with_certainty=True, chunk_bytes=9000
    )
    step.add(rows, tensor(weights))
    for model, certainty in zip(models, step.moments.certainty, strict=True):
        joint = [
            np.log(weight) + multivariate_normal(mean, matrix).logpdf(rows.numpy())
            for weight, mean, matrix in zip(model.weights, model.means, model.matrices, strict=True)
        ]
        expected = weights @ log_softmax(joint, axis=0).max(0)
        assert certainty.item() == pytest.approx(expected, rel=1e-10)

"""Predictions for rows with gaps are those of row-by-row NumPy."""

import numpy as np
import pytest
import torch

from sklearn_torch_gmm.core import gaps
from sklearn_torch_gmm.core.covariance import STRUCTURES, get_structure
from sklearn_torch_gmm.core.gap_inference import GapInference
from tests.core import gap_oracle
from tests.core.oracle import draw_rows
from tests.core.steps import as_parameters, make_inference, mixture_of, tensor

TYPES = sorted(STRUCTURES)

ROUNDING = {"rtol": 1e-10, "atol": 1e-10}


def inference_of(name, mixture, kind=GapInference):
    structure, parameters = get_structure(name), as_parameters(name, mixture)
    log_weights = parameters.log_weights[0]
    return kind(log_weights, parameters.means[0], parameters.precisions_cholesky[0], structure)


@pytest.fixture(params=TYPES)
def name(request):
    return request.param


@pytest.mark.parametrize("features", [1, 2, 5])
@pytest.mark.parametrize(("block_bytes", "few_rows"), [(400, 128), (2**23, 128), (2**23, 0)])
def test_predictions_are_those_of_brute_force(
    rng, monkeypatch, name, features, block_bytes, few_rows
):
    monkeypatch.setattr(gaps, "FEW_ROWS_OF_A_GROUP", few_rows)
    monkeypatch.setattr(gaps, "BLOCK_BYTES", block_bytes)
    mixture = mixture_of(rng, name, 3, features)
    rows = gap_oracle.with_gaps(rng, draw_rows(rng, mixture, 60))
    expected, inference = gap_oracle.expected(mixture, rows), inference_of(name, mixture)
    shares = inference.responsibilities(tensor(rows))
    np.testing.assert_allclose(shares, expected.responsibilities, **ROUNDING)
    np.testing.assert_array_equal(inference.labels(tensor(rows)), shares.argmax(1))
    np.testing.assert_allclose(
        inference.log_densities(tensor(rows)), expected.log_densities, **ROUNDING
    )
    by_component = [[one.log_density for one in row] for row in expected.components]
    np.testing.assert_allclose(
        inference.component_log_densities(tensor(rows)), by_component, **ROUNDING
    )
    # A row without any value.
    np.testing.assert_allclose(shares[0], mixture.weights, rtol=1e-12)
    assert abs(inference.log_densities(tensor(rows))[0]) < 1e-12


def test_complete_rows_have_the_same_predictions_to_the_bit(rng, name):
    mixture = mixture_of(rng, name, 3, 5)
    rows = tensor(draw_rows(rng, mixture, 5000))
    plain = make_inference(as_parameters(name, mixture), get_structure(name))
    assert torch.equal(inference_of(name, mixture).log_densities(rows), plain.log_densities(rows))


@pytest.mark.parametrize("features", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gaps_are_filled_with_expected_values(rng, name, features, dtype):
    mixture = mixture_of(rng, name, 3, features)
    rows = gap_oracle.with_gaps(rng, draw_rows(rng, mixture, 50))
    given = tensor(rows).to(dtype)
    found = inference_of(name, mixture).completed(given)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    expected = gap_oracle.completed(mixture, rows)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    assert found.dtype == dtype
    assert torch.equal(found[~given.isnan()], given[~given.isnan()])


@pytest.mark.parametrize("pattern", [[True, False, False], [True, False, True], [True] * 3])
def test_draws_have_the_conditional_distribution(rng, name, pattern):
    mixture = mixture_of(rng, name, 2, 3)
    row = np.where(pattern, np.nan, draw_rows(rng, mixture, 1))
    expected = gap_oracle.expected(mixture, row)
    shares, components = expected.responsibilities[0], expected.components[0]
    mean = sum(share * one.mean for share, one in zip(shares, components, strict=True))
    second = sum(
        share * (one.covariance + np.outer(one.mean - mean, one.mean - mean))
        for share, one in zip(shares, components, strict=True)
    )
    size = 40_000

    def noise(num_rows, num_features):
        uniform = torch.from_numpy(rng.random(num_rows))
        return uniform, torch.from_numpy(rng.standard_normal((num_rows, num_features)))

    drawn = inference_of(name, mixture).drawn(tensor(np.repeat(row, size, axis=0)), noise).numpy()
    # Standard errors of means and variances of 40,000 draws, five times.
    deviations = np.sqrt(np.diag(second).max())
    np.testing.assert_allclose(drawn.mean(0), mean, atol=5 * deviations / size**0.5)
    covariance = np.cov(drawn.T, bias=True)
    np.testing.assert_allclose(covariance, second, atol=10 * deviations**2 / size**0.5)


def test_draws_of_joined_groups_are_those_of_each(rng, monkeypatch, name):
    mixture = mixture_of(rng, name, 2, 4)
    rows = tensor(gap_oracle.with_gaps(rng, draw_rows(rng, mixture, 40)))
    uniform, normal = torch.rand(40).double(), torch.randn(40, 4).double()
    drawn = []
    for few_rows in (0, 128):
        monkeypatch.setattr(gaps, "FEW_ROWS_OF_A_GROUP", few_rows)
        drawn.append(inference_of(name, mixture).drawn(rows, lambda *shape: (uniform, normal)))
    torch.testing.assert_close(*drawn, **ROUNDING)


def test_rows_far_from_all_components_keep_a_log_density(name):
    mixture = mixture_of(np.random.default_rng(0), name, 2, 2)
    rows = torch.tensor([[1e200, torch.nan], [torch.nan, 1.0]], dtype=torch.float64)
    found = inference_of(name, mixture).log_densities(rows)
    assert found[0] == -torch.inf
    assert found[1].isfinite()


@pytest.mark.parametrize("size", [1e160, -1e300, 1.7e308])
def test_rows_without_any_density_belong_to_the_nearest_component(rng, name, size):
    mixture = mixture_of(rng, name, 3, 3)
    # In units of such a size all means are zero, and squares do not overflow.
    unit = size / 4.0
    gappy = np.array(
        [[4.0, np.nan, 0.0], [np.nan, np.nan, 4.0], [4.0, 1.0, np.nan], [1.0, 2.0, 4.0]]
    )
    near = mixture._replace(means=np.zeros((3, 3)))
    distances = [
        [row[~np.isnan(row)] @ np.linalg.solve(own, row[~np.isnan(row)]) for own in matrices]
        for row, matrices in (
            (row, mixture.matrices[:, ~np.isnan(row)][:, :, ~np.isnan(row)]) for row in gappy
        )
    ]
    nearest = np.isclose(distances, np.min(distances, axis=1, keepdims=True), rtol=1e-12)
    rows, inference = tensor(unit * gappy), inference_of(name, mixture)
    # Those of the same distance share the row.
    expected = nearest / nearest.sum(1, keepdims=True)
    np.testing.assert_allclose(inference.responsibilities(rows), expected)
    assert (inference.log_densities(rows) == -np.inf).all()
    # The nearest component completes the row: with equal shares, the mean of several.
    means = [[one.mean for one in row] for row in gap_oracle.expected(near, gappy).components]
    filled = np.einsum("nk,nkf->nf", expected, means)
    found = inference.completed(rows).numpy() / unit
    np.testing.assert_allclose(found, filled, rtol=1e-9, atol=1e-9)
    generator = np.random.default_rng(0)
    noise = lambda n, d: (torch.zeros(n), tensor(generator.standard_normal((n, d))))  # noqa: E731
    assert inference.drawn(rows, noise).isfinite().all()

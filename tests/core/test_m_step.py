import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from torch import Tensor

from sklearn_torch_gmm.core.covariance import (
    FEW_ROWS,
    STRUCTURES,
    CovarianceStructure,
    get_structure,
)
from sklearn_torch_gmm.core.e_step import SEPARATE_VALUES, normalize_, normalize_for_entropy_
from sklearn_torch_gmm.core.exact_step import ExactEStep
from sklearn_torch_gmm.core.m_step import m_step, total_variances
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.rounding import (
    TOLERATED_ERROR,
    cancellation,
    cancellation_of_scatter,
    rounding_of_moments,
)
from tests.core.steps import (
    E_STEPS,
    assert_same_mixtures,
    iterate,
    make_e_step,
    make_parameters,
    natural_parameters,
    needs_extended_precision,
    tensor,
)

TYPES = sorted(STRUCTURES)
SHIFTS = [-1e5, 0.0, 1e5]


def clusters(rng: np.random.Generator, num_rows: int = 200, features: int = 3) -> np.ndarray:
    centres = 2.0 * rng.standard_normal((4, features))
    return centres[rng.integers(4, size=num_rows)] + rng.standard_normal((num_rows, features))


def random_start(
    structure: CovarianceStructure, rows: Tensor, components: int
) -> MixtureParameters:
    """Standard normal components about the first rows."""
    shape = structure.covariance_shape(components, rows.shape[1])
    return make_parameters(
        structure,
        rows.new_full((1, components), 1 / components),
        rows[:components].unsqueeze(0),
        structure.unit_covariances(rows.new_empty(1, *shape)),
    )


# -- normalization --------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", SHIFTS)
def test_normalizing_gives_the_softmax_in_place_and_returns_the_logsumexp(rng, shift):
    logits = shift + 10.0 * rng.standard_normal((2, 3, 50))
    responsibilities = tensor(logits)
    log_densities, log_share = normalize_(responsibilities)
    # The rounding of numbers of size 1e5 is 1.5e-11.
    np.testing.assert_allclose(responsibilities, softmax(logits, axis=1), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(log_densities, logsumexp(logits, axis=1), rtol=1e-12)
    np.testing.assert_allclose(log_share.exp(), softmax(logits, axis=1).max(1), rtol=1e-10)


def test_normalizing_leaves_a_component_without_density_without_responsibility():
    logits = torch.tensor([[[-torch.inf, 0.0], [1.0, -torch.inf]]])
    log_densities, _ = normalize_(logits)
    assert logits.tolist() == [[[0.0, 1.0], [1.0, 0.0]]]
    assert log_densities.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("many_vanish", [False, True])
@pytest.mark.parametrize("repeats", [1, SEPARATE_VALUES])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_normalizing_in_any_way_gives_the_softmax_and_the_entropy(dtype, repeats, many_vanish):
    # In the last column the smallest responsibilities are less than any positive number.
    logits = torch.tensor([[0.0, 3.0, -5e5], [-50.0, 2.0, 0.0], [-torch.inf, 3.0, -1e17]])
    own, by_entropy = (logits.to(dtype).repeat(1, repeats) for _ in range(2))
    expected, log_densities = own.softmax(0), own.logsumexp(0)
    relative = torch.empty_like(own)
    for found, (sums, log_shares) in (
        (own, normalize_(own, many_vanish=many_vanish)),
        (by_entropy, normalize_for_entropy_(by_entropy, relative, many_vanish=many_vanish)),
    ):
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(sums, log_densities)
        torch.testing.assert_close(log_shares.exp(), expected.amax(0))
    entropies = -log_shares - (expected * relative).sum(0)
    torch.testing.assert_close(entropies, -torch.special.xlogy(expected, expected).sum(0))


# -- cancellation ---------------------------------------------------------------------------------

ERROR_FACTOR = 4.0
"""The estimate counts one rounding for each term. The natural parameters are rounded too: the
largest error seen in thousands of trials was 2.5 times the estimate."""

MARGIN_OF_USE = 1000.0
"""An estimate beyond this many times the error would send fits to the exact path needlessly."""


def exact_log_densities(
    parameters: MixtureParameters, x: Tensor, structure: CovarianceStructure
) -> np.ndarray:
    """Log π_k + log N(x | μ_k, Σ_k) [K, N], without the term that a shared scatter leaves out.

    From differences in extended precision, for the given factors.
    """
    components, features = parameters.means.shape[1:]
    factors = structure.matrices(parameters.precisions_cholesky, components, features)[0]
    wide = [
        array.numpy().astype(np.longdouble)
        for array in (parameters.weights[0], parameters.means[0], factors, x)
    ]
    result = []
    for weight, mean, factor in zip(*wide[:3], strict=True):
        squares = (((wide[3] - mean) @ factor) ** 2).sum(1)
        if structure.has_pooled_scatter:
            squares = squares - ((wide[3] @ factor) ** 2).sum(1)
        constant = np.log(weight) + np.log(np.diag(factor)).sum()
        constant -= np.longdouble(0.5 * features) * np.log(2 * np.longdouble(np.pi))
        result.append(constant - squares / 2)
    return np.stack(result)


def estimate_and_error(
    structure: CovarianceStructure,
    dtype: torch.dtype,
    rng: np.random.Generator,
    *,
    spread: float,
    offset: float = 0.0,
    num_rows: int = 200,
) -> tuple[float, float]:
    """The estimate and the largest error of log-densities; components have the width 1."""
    components, features = 3, 4
    means = rng.uniform(-spread, spread, (1, components, features))
    rows = rng.uniform(-spread, spread, (num_rows, features))
    # Rows within a component, where responsibilities are decided.
    rows[:components] = means[0] + rng.standard_normal((components, features))
    shape = structure.covariance_shape(components, features)
    parameters = make_parameters(
        structure,
        torch.full((1, components), 1 / components, dtype=torch.float64),
        tensor(means + offset),
        structure.unit_covariances(torch.empty(1, *shape, dtype=torch.float64)),
    ).to(dtype=dtype)
    x = tensor(rows).to(dtype)
    natural = natural_parameters(parameters, torch.zeros(features, dtype=dtype), structure)
    estimate = cancellation(natural, rounding_of_moments(x.abs().amax(0), structure)).item()

    terms = torch.empty(natural.shape[-1], num_rows, dtype=dtype)
    terms[1 : features + 1] = x.T
    structure.complete_moments(terms, features)
    computed = (natural[0] @ terms).numpy().astype(np.longdouble)
    error = np.abs(computed - exact_log_densities(parameters, x, structure)).max()
    return estimate, float(error)


@needs_extended_precision
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("spread", [1e2, 1e3, 1e4, 1e5, 1e6, 1e7])
@pytest.mark.parametrize("name", TYPES)
def test_cancellation_is_the_size_of_the_observed_error(rng, name, spread, dtype):
    estimate, error = estimate_and_error(get_structure(name), dtype, rng, spread=spread)
    assert error <= ERROR_FACTOR * estimate
    assert estimate <= MARGIN_OF_USE * error


@needs_extended_precision
@pytest.mark.parametrize("offset", [1e3, 1e6, 1e8])
@pytest.mark.parametrize("name", TYPES)
def test_cancellation_sees_means_far_from_all_rows(rng, name, offset):
    estimate, error = estimate_and_error(
        get_structure(name), torch.float64, rng, spread=1.0, offset=offset
    )
    assert error <= ERROR_FACTOR * estimate


@pytest.mark.parametrize("name", TYPES)
def test_cancellation_grows_with_the_square_of_spread_over_width(rng, name):
    structure = get_structure(name)
    rows = tensor(clusters(rng))
    start = random_start(structure, rows, 3)
    extents = rows.abs().amax(0)

    def estimate(spread: float, width: float) -> float:
        parameters = make_parameters(
            structure, start.weights, spread * start.means, width**2 * start.covariances
        )
        natural = natural_parameters(parameters, torch.zeros(3), structure)
        return cancellation(natural, rounding_of_moments(spread * extents, structure)).item()

    # The constants that are no squares are of size ten, the squares of size a million and more.
    assert estimate(1e4, 1.0) == pytest.approx(100 * estimate(1e3, 1.0), rel=1e-3)
    assert estimate(1e3, 0.1) == pytest.approx(100 * estimate(1e3, 1.0), rel=1e-3)
    assert estimate(1e4, 10.0) == pytest.approx(estimate(1e3, 1.0), rel=1e-3)


def test_cancellation_of_one_component_by_hand():
    # log N(x | 3, 2²) = −½ log 2π − log 2 − 9/8 + ¾ x − x²/8, and x reaches 10.
    structure = get_structure("diag")
    parameters = make_parameters(
        structure, torch.ones(1, 1), torch.tensor([[[3.0]]]), torch.tensor([[[4.0]]])
    )
    natural = natural_parameters(parameters, torch.zeros(1), structure)
    constant = 0.5 * np.log(2 * np.pi) + np.log(2) + 9 / 8
    expected = np.finfo(np.float32).eps * (constant + 7.5 + 12.5)
    actual = cancellation(natural, rounding_of_moments(torch.tensor([10.0]), structure)).item()
    assert actual == pytest.approx(expected, rel=1e-5)


@needs_extended_precision
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("spread", [1e1, 1e3, 1e5])
def test_cancellation_of_a_scatter_is_the_size_of_the_observed_error(rng, spread, dtype):
    """Of two features that are equal but for a difference of width one."""
    errors, estimates = zip(
        *(scatter_error_and_estimate(rng, spread, dtype) for _ in range(10)), strict=True
    )
    # Errors of both signs add up by chance to less, but not in each of ten draws.
    assert max(errors) <= ERROR_FACTOR * min(estimates)
    assert max(estimates) <= MARGIN_OF_USE * max(errors)


def scatter_error_and_estimate(
    rng: np.random.Generator, spread: float, dtype: torch.dtype
) -> tuple[float, float]:
    structure = get_structure("tied")
    x = spread * rng.standard_normal((1000, 1)) + rng.standard_normal((1000, 2)) / np.sqrt(2)
    covariances = tensor(np.cov(x.T)[None])
    factors, usable = structure.precisions_cholesky(covariances, 1)
    assert usable.all()
    factors, rows = factors.to(dtype), tensor(x).to(dtype)
    mean = structure.common_log_likelihood(factors, rows.T @ rows).item() / 1000
    whitened = rows.numpy().astype(np.longdouble) @ factors[0].numpy().astype(np.longdouble)
    error = abs(mean + (whitened**2).sum() / 2000)
    return float(error), cancellation_of_scatter(factors, rows.abs().amax(0)).item()


def test_cancellation_of_a_scatter_by_hand():
    # U = (1, −2; 0, 3): the largest distances 10 and 1 make 10 · 1 and 10 · 2 + 1 · 3.
    factors = torch.tensor([[[1.0, -2.0], [0.0, 3.0]]], dtype=torch.float64)
    extents = torch.tensor([10.0, 1.0], dtype=torch.float64)
    expected = 0.5 * np.finfo(float).eps * (10.0**2 + 23.0**2)
    assert cancellation_of_scatter(factors, extents).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", TYPES)
def test_cancellation_ignores_the_constant_of_a_component_without_weight(rng, name):
    structure = get_structure(name)
    rows = tensor(clusters(rng))
    parameters = random_start(structure, rows, 3)
    parameters.weights[0] = torch.tensor([0.5, 0.5, 0.0])
    natural = natural_parameters(parameters, torch.zeros(3), structure)
    assert torch.isfinite(cancellation(natural, rounding_of_moments(rows.abs().amax(0), structure)))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("position", [0, 1])
def test_cancellation_of_broken_parameters_is_not_finite(value, position):
    natural = torch.zeros(1, 2, 3)
    natural[0, 1, position] = value
    # Only a weight of zero makes the constant infinite without any other coefficient.
    is_without_weight = position == 0 and abs(value) == torch.inf
    bound = cancellation(natural, rounding_of_moments(torch.ones(1), get_structure("diag")))
    assert torch.isfinite(bound).item() == is_without_weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", TYPES)
def test_fast_iteration_is_exact_where_its_error_is_tolerated(rng, name, dtype):
    structure = get_structure(name)
    directions = rng.standard_normal((3, 2))
    noise = rng.standard_normal((60, 2))
    outcomes = set()
    for spread in 10.0 ** np.arange(-1, 7):
        means = tensor(spread * directions)
        rows = (means[torch.arange(60) % 3] + tensor(noise)).to(dtype).double()
        start = random_start(structure, means, 3)
        centre = rows.mean(0)
        natural = natural_parameters(start, centre, structure)
        extents = (rows - centre).abs().amax(0)
        largest = rounding_of_moments(extents.to(dtype), structure)
        estimate = cancellation(natural.to(dtype), largest).item()
        is_tolerated = estimate <= TOLERATED_ERROR[dtype]
        outcomes.add(is_tolerated)
        if is_tolerated:
            exact, _ = iterate("exact", start, rows, structure)
            fast, _ = iterate("fast", start.to(dtype=dtype), rows, structure)
            # Responsibilities and covariances in units of the width, which is 1, are off by the
            # error of a logit times a small number, and the rounding of sums of 60 rows.
            tolerance = 10 * TOLERATED_ERROR[dtype]
            assert_same_mixtures(
                fast.parameters.to(dtype=torch.float64),
                exact.parameters,
                rtol=tolerance,
                atol=tolerance,
            )
    assert outcomes == {True, False}


# -- one iteration --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TYPES)
def test_extents_grow_to_the_largest_distance_from_the_centre(rng, name):
    structure = get_structure(name)
    rows = tensor(clusters(rng))
    centre = rows.mean(0) + 1.0
    extents = torch.tensor([0.0, 0.0, 1e6], dtype=torch.float64)
    step = make_e_step("fast", random_start(structure, rows, 2), centre, structure, extents=extents)
    step.add(rows[:77])
    step.add(rows[77:])
    expected = (rows - centre).abs().amax(0)
    expected[2] = 1e6
    torch.testing.assert_close(extents, expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", E_STEPS)
@pytest.mark.parametrize("name", TYPES)
def test_likelihood_never_falls(rng, name, kind):
    structure = get_structure(name)
    rows = tensor(clusters(rng))
    parameters = random_start(structure, rows, 3)
    likelihoods = []
    for _ in range(20):
        result, likelihood = iterate(kind, parameters, rows, structure)
        assert result.usable.all()
        parameters = result.parameters
        likelihoods.append(likelihood.item())
    # A likelihood of size 1e3 is rounded at 1e-13 of that, and summed over 200 rows.
    assert np.diff(likelihoods).min() >= -1e-9
    assert likelihoods[-1] > likelihoods[0] + 1.0


@pytest.mark.parametrize("name", ["full", "tied", "diag"])
def test_fitted_mixture_has_the_mean_and_the_variances_of_the_data(rng, name):
    structure = get_structure(name)
    rows = tensor(clusters(rng))
    result, _ = iterate("fast", random_start(structure, rows, 3), rows, structure)
    parameters = result.parameters
    variances = structure.variances(parameters.covariances, 3, 3)
    total = total_variances(parameters.weights, parameters.means, variances)
    np.testing.assert_allclose(total, rows.numpy().var(0)[None, None], rtol=1e-11)
    mean = (parameters.weights.unsqueeze(-1) * parameters.means).sum(1)
    np.testing.assert_allclose(mean, rows.numpy().mean(0)[None], rtol=1e-11)


def test_fitted_spherical_mixture_has_the_total_variance_of_the_data(rng):
    structure = get_structure("spherical")
    rows = tensor(clusters(rng))
    parameters = iterate("fast", random_start(structure, rows, 3), rows, structure)[0].parameters
    variances = structure.variances(parameters.covariances, 3, 3)
    total = total_variances(parameters.weights, parameters.means, variances)
    np.testing.assert_allclose(total.sum(), rows.numpy().var(0).sum(), rtol=1e-11)


def test_total_variance_by_hand():
    # Variances ½·1 + ½·3 within, and means ±2 about 0: 2 + 4.
    total = total_variances(
        torch.tensor([[0.5, 0.5]]),
        torch.tensor([[[-2.0], [2.0]]]),
        torch.tensor([[[1.0], [3.0]]]),
    )
    assert total.tolist() == [[[6.0]]]


# -- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", E_STEPS)
@pytest.mark.parametrize("name", TYPES)
def test_empty_component_keeps_its_mean_and_gets_the_variance_of_the_data(rng, name, kind):
    structure = get_structure(name)
    rows = tensor(clusters(rng))
    start = random_start(structure, rows, 3)
    start.weights[0] = torch.tensor([0.5, 0.0, 0.5])
    result, _ = iterate(kind, start, rows, structure)
    assert result.empty.tolist() == [[False, True, False]]
    assert result.usable.all()
    parameters = result.parameters
    assert parameters.weights[0, 1] == 0.0
    torch.testing.assert_close(parameters.means[0, 1], start.means[0, 1], rtol=0, atol=0)

    variances = rows.numpy().var(0)
    expected = {
        "full": np.diag(variances),
        "diag": np.diag(variances),
        "spherical": variances.mean() * np.eye(3),
        # The one covariance is that of the components with rows.
        "tied": structure.matrices(parameters.covariances, 3, 3)[0, 0].numpy(),
    }
    actual = structure.matrices(parameters.covariances, 3, 3)[0, 1]
    np.testing.assert_allclose(actual, expected[name], rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("kind", E_STEPS)
@pytest.mark.parametrize("name", TYPES)
def test_components_with_rows_do_not_notice_an_empty_one(rng, name, kind):
    structure = get_structure(name)
    rows = tensor(clusters(rng))
    start = random_start(structure, rows, 3)
    start.weights[0] = torch.tensor([0.5, 0.5, 0.0])
    with_empty = iterate(kind, start, rows, structure)[0].parameters
    without = iterate(kind, random_start(structure, rows, 2), rows, structure)[0].parameters
    for component in range(2):
        torch.testing.assert_close(
            structure.matrices(with_empty.covariances, 3, 3)[0, component],
            structure.matrices(without.covariances, 2, 3)[0, component],
            rtol=1e-11,
            atol=1e-14,
        )
    torch.testing.assert_close(with_empty.means[:, :2], without.means, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("kind", E_STEPS)
@pytest.mark.parametrize("name", TYPES)
def test_an_empty_component_stays_empty_and_does_no_harm(rng, name, kind):
    structure = get_structure(name)
    rows = tensor(clusters(rng))
    parameters = random_start(structure, rows, 3)
    parameters.weights[0] = torch.tensor([0.5, 0.5, 0.0])
    for _ in range(3):
        result, likelihood = iterate(kind, parameters, rows, structure)
        parameters = result.parameters
        assert torch.isfinite(likelihood).all()
        assert result.empty.tolist() == [[False, False, True]]


@pytest.mark.parametrize("kind", E_STEPS)
@pytest.mark.parametrize("name", ["full", "diag", "spherical"])
def test_a_component_with_one_row_is_unusable_without_regularization(rng, name, kind):
    structure = get_structure(name)
    rows = tensor(rng.standard_normal((50, 2)))
    # Integers and a centre at the origin: no rounding hides that the variance is zero.
    rows[0] = 1024.0
    start = random_start(structure, rows, 2)
    origin = torch.zeros(2, dtype=torch.float64)
    bare, _ = iterate(kind, start, rows, structure, centre=origin)
    assert bare.usable.tolist() == [[False, True]]
    regularized, _ = iterate(kind, start, rows, structure, centre=origin, regularization=1e-3)
    assert regularized.usable.all()


@pytest.mark.parametrize("kind", E_STEPS)
@pytest.mark.parametrize("name", ["full", "tied", "diag"])
def test_a_constant_feature_makes_every_component_unusable(rng, name, kind):
    structure = get_structure(name)
    rows = tensor(rng.standard_normal((50, 2)))
    rows[:, 1] = 0.0
    start = random_start(structure, rows, 2)
    result, _ = iterate(kind, start, rows, structure)
    assert result.usable.tolist() == [[False, False]]


def test_only_the_restart_with_the_singular_covariance_is_unusable(rng):
    structure = get_structure("diag")
    rows = tensor(rng.standard_normal((50, 2)))
    rows[0] = 1024.0
    good = random_start(structure, rows[1:], 2)
    bad = random_start(structure, rows, 2)
    step = make_e_step("exact", MixtureParameters.stack([good, bad]), rows.mean(0), structure)
    step.add(rows[1:])
    step.add(rows[:1])
    result = m_step(step.moments, step.centre, step.parameters.means, structure, 0.0)
    assert result.usable[1].tolist() == [False, True]
    assert result.usable[0].all()


@pytest.mark.parametrize("keep_rounding", [False, True])
@pytest.mark.parametrize("name", TYPES)
def test_where_all_components_have_rows_nothing_is_done_for_rare_cases(rng, name, keep_rounding):
    structure = get_structure(name)
    rows = tensor(rng.standard_normal((200, 3)))
    start = random_start(structure, rows, 3)
    step = make_e_step("fast", start, rows.mean(0), structure)
    step.add(rows)
    assert step.moments.counts.min() > FEW_ROWS
    careful, plain = (
        m_step(
            step.moments,
            step.centre,
            start.means,
            structure,
            1e-6,
            keep_rounding=keep_rounding,
            rare_cases=rare_cases,
        )
        for rare_cases in (True, False)
    )
    for one, other in zip(careful.parameters.tensors(), plain.parameters.tensors(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(careful.usable, plain.usable)
    assert plain.empty is None


@pytest.mark.parametrize("name", ["diag", "spherical"])
def test_differences_to_many_means_stay_within_the_memory_of_a_chunk(rng, name):
    """Only a structure that sums up matrices gains from as many rows as there are features."""
    num_components, num_features, chunk_bytes = 40, 1000, 2**23
    structure = get_structure(name)
    unit = structure.unit_covariances(
        torch.empty(1, *structure.covariance_shape(num_components, num_features)).double()
    )
    means = tensor(rng.standard_normal((1, num_components, num_features)))
    weights = torch.full((1, num_components), 1 / num_components).double()
    parameters = make_parameters(structure, weights, means, unit)
    step = make_e_step("exact", parameters, means[0, 0], structure, chunk_bytes=chunk_bytes)
    assert isinstance(step, ExactEStep)
    # The differences, their squares, and one more.
    assert 3 * 8 * num_components * num_features * step.rows_per_chunk <= chunk_bytes

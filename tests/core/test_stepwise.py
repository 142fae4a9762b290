import numpy as np
import pytest
import torch

from sklearn_torch_gmm.core.covariance import STRUCTURES, get_structure
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.rounding import TOLERATED_ERROR
from sklearn_torch_gmm.core.stepwise import stepwise_update
from tests.core.oracle import Mixture, draw_rows, log_densities, moved, with_structure
from tests.core.steps import (
    as_parameters,
    assert_same_mixtures,
    iterate,
    mixture_of,
    tensor,
)

TYPES = sorted(STRUCTURES)
STEPS = [1.0, 0.3, 1e-3]

each_type = pytest.mark.parametrize("name", TYPES)
each_step = pytest.mark.parametrize("step_size", STEPS)


def update(name, parameters, rows, sample_weight=None, step_size=0.3, regularization=0.0):
    if sample_weight is not None:
        sample_weight = tensor(np.asarray(sample_weight, dtype=float))
    arguments = tensor(rows), sample_weight, step_size, get_structure(name), regularization
    found = stepwise_update(parameters, *arguments)
    if found.has_lost_precision:
        found = stepwise_update(parameters, *arguments, about=found.result.parameters.means)
    assert found.result.usable.all()
    return found.result.parameters, found.log_likelihood


@each_type
@each_step
@pytest.mark.parametrize("regularization", [0.0, 0.05])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_rule_by_hand(rng, name, step_size, regularization, weighted):
    """Two mixtures at once, each against NumPy's raw moments about the origin."""
    mixtures = [mixture_of(rng, name) for _ in range(2)]
    rows = draw_rows(rng, mixtures[0], 40)
    weights = rng.uniform(size=40) if weighted else np.ones(40)
    actual, log_likelihoods = update(
        name,
        as_parameters(name, *mixtures),
        rows,
        weights if weighted else None,
        step_size,
        regularization,
    )
    expected = [
        moved(name, mixture, rows, weights, step_size, regularization) for mixture in mixtures
    ]
    assert_same_mixtures(actual, as_parameters(name, *expected), rtol=1e-9, atol=1e-10)
    for mixture, log_likelihood in zip(mixtures, log_likelihoods, strict=True):
        mean = np.average(log_densities(mixture, rows), weights=weights)
        assert log_likelihood.item() == pytest.approx(mean, rel=1e-12)


@each_type
def test_a_step_of_one_is_an_iteration_of_em(rng, name):
    mixture = mixture_of(rng, name)
    rows = draw_rows(rng, mixture, 60)
    parameters = as_parameters(name, mixture)
    weights = rng.uniform(size=60)
    expected, _ = iterate(
        "fast",
        parameters,
        tensor(rows),
        get_structure(name),
        sample_weight=tensor(weights),
        regularization=0.1,
    )
    actual, _ = update(name, parameters, rows, weights, 1.0, 0.1)
    assert_same_mixtures(actual, expected.parameters, rtol=1e-9, atol=1e-10)


@each_type
def test_a_step_of_nothing_changes_nothing(rng, name):
    mixture = mixture_of(rng, name)
    parameters = as_parameters(name, mixture)
    before = MixtureParameters(*(values.clone() for values in parameters.tensors()))
    actual, _ = update(name, parameters, draw_rows(rng, mixture, 20), None, 1e-15, 0.05)
    assert_same_mixtures(actual, before, rtol=1e-12, atol=1e-12)
    # What was given is left as it was.
    assert_same_mixtures(parameters, before, rtol=0, atol=0)


@each_type
def test_weights_are_repetitions_and_only_their_ratios_matter(rng, name):
    mixture = mixture_of(rng, name)
    rows = draw_rows(rng, mixture, 30)
    counts = rng.integers(0, 4, size=30)
    parameters = as_parameters(name, mixture)
    expected, expected_bound = update(name, parameters, rows.repeat(counts, axis=0))
    for factor in (1.0, 1e-6, 1e6):
        actual, bound = update(name, parameters, rows, factor * counts)
        assert_same_mixtures(actual, expected, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(bound, expected_bound, rtol=1e-12, atol=0)


@each_type
def test_far_from_the_origin_only_the_means_are_elsewhere(rng, name):
    """At 1e8 a number is rounded to 1.5e-8: more is not lost, although 1e8 squared is 1e16."""
    mixture = mixture_of(rng, name)
    offset = 1e8
    rows = draw_rows(rng, mixture, 200)
    near, near_bound = update(name, as_parameters(name, mixture), rows, None, 0.3, 0.01)
    shifted = mixture._replace(means=mixture.means + offset)
    far, far_bound = update(name, as_parameters(name, shifted), rows + offset, None, 0.3, 0.01)
    far = MixtureParameters(far.weights, far.means - offset, *far.tensors()[2:])
    assert_same_mixtures(far, near, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(far_bound, near_bound, rtol=1e-7, atol=0)


@each_type
def test_covariances_stay_positive_definite_row_by_row(rng, name):
    mixture = mixture_of(rng, name)
    parameters = as_parameters(name, mixture)
    for number, row in enumerate(draw_rows(rng, mixture, 300)):
        parameters, _ = update(name, parameters, row[None], None, (number + 2) ** -0.6, 1e-6)
        assert parameters.weights.sum().item() == pytest.approx(1.0, rel=1e-12)
    assert parameters.covariances.isfinite().all()


@each_type
def test_a_regularization_set_later_does_not_undo_the_earlier(rng, name):
    """More is subtracted than there is, and added again: never less than before is left."""
    mixture = mixture_of(rng, name)
    rows = draw_rows(rng, mixture, 50)
    update(name, as_parameters(name, mixture), rows, None, 0.1, 100.0)


@pytest.mark.parametrize("name", ["full", "diag", "spherical"])
def test_a_component_without_weight_stays_where_it_is(rng, name):
    mixture = mixture_of(rng, name)
    mixture = mixture._replace(weights=np.array([0.4, 0.6, 0.0]))
    rows = draw_rows(rng, mixture, 30)
    result, *_ = stepwise_update(
        as_parameters(name, mixture), tensor(rows), None, 0.5, get_structure(name), 0.01
    )
    assert result.usable.all()
    assert result.empty.tolist() == [[False, False, True]]
    assert result.parameters.weights[0, 2] == 0.0
    np.testing.assert_allclose(result.parameters.means[0, 2], mixture.means[2])


@each_type
def test_rows_of_float32_are_worked_on_in_the_type_of_the_parameters(rng, name):
    mixture = mixture_of(rng, name)
    rows = draw_rows(rng, mixture, 30).astype(np.float32)
    parameters = as_parameters(name, mixture)
    actual, _ = update(name, parameters, rows)
    expected, _ = update(name, parameters, rows.astype(np.float64))
    assert actual.means.dtype == torch.float64
    assert_same_mixtures(actual, expected, rtol=0, atol=0)


@each_type
@pytest.mark.parametrize("distance", [1e4, 1e7])
def test_a_component_that_moves_far_keeps_its_digits(rng, name, distance):
    """Earlier rows of little weight do not tie the sums to the place where the means were."""
    unit = np.stack([np.eye(2)] * 2)
    mixture = Mixture(np.array([1 - 1e-9, 1e-9]), np.array([[0.0, 0.0], [10.0, 10.0]]), unit)
    near = rng.standard_normal((200, 2))
    rows = np.concatenate([near, distance + rng.standard_normal((200, 2))])
    found, _ = update(name, as_parameters(name, mixture), rows, step_size=0.5)
    # All rows there belong to the second component, and the others to the first.
    groups, shares = (near, rows[200:]), np.array([0.5, 0.5])
    weights = 0.5 * mixture.weights + 0.5 * shares
    means, matrices = [], []
    for k, group in enumerate(groups):
        old, new = 0.5 * mixture.weights[k] / weights[k], 0.25 / weights[k]
        mean = old * mixture.means[k] + new * group.mean(0)
        away = np.subtract(mixture.means[k], mean)
        residuals = group - mean
        matrix = old * (np.eye(2) + np.outer(away, away)) + new * residuals.T @ residuals / 200
        means.append(mean)
        matrices.append(matrix)
    blended = Mixture(weights, np.array(means), np.array(matrices))
    expected = as_parameters(name, with_structure(name, blended, weights))
    # Up to this loss, one pass is enough; that of the second pass is less.
    lost = TOLERATED_ERROR[torch.float64]
    torch.testing.assert_close(found.covariances, expected.covariances, rtol=lost, atol=lost)
    # A number there is rounded to eps times the distance.
    torch.testing.assert_close(found.means, expected.means, rtol=1e-14, atol=1e-14 * distance)

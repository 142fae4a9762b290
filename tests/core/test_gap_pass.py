"""EM with gaps is what row-by-row NumPy finds, however the rows are read."""

import itertools

import numpy as np
import pytest
import torch

from sklearn_torch_gmm.core import gap_chunks, gaps
from sklearn_torch_gmm.core.covariance import STRUCTURES, get_structure
from sklearn_torch_gmm.core.fast_step import FastPass
from sklearn_torch_gmm.core.gap_pass import GapPass
from sklearn_torch_gmm.core.m_step import m_step
from sklearn_torch_gmm.core.rounding import TOLERATED_ERROR
from sklearn_torch_gmm.core.splits import Splits
from tests.core import gap_oracle
from tests.core.oracle import Mixture, draw_rows
from tests.core.steps import (
    E_STEPS,
    as_parameters,
    assert_same_mixtures,
    make_e_step,
    natural_parameters,
    tensor,
)
from tests.core.steps import mixture_of as random_mixture

TYPES = sorted(STRUCTURES)

ROUNDING = {"rtol": 1e-10, "atol": 1e-10}

TOLERATED = TOLERATED_ERROR[torch.float64]


def gap_pass_of(step, splits, **options):
    shared = FastPass([step]) if hasattr(step, "natural") else step
    return GapPass([step], [shared], splits, **options)


def iterate(
    kind, parameters, rows, name, weights=None, *, splits=None, edges=(), labels=None, **options
):
    """One iteration about zero; returns the parameters and the log-likelihoods [R] before it."""
    structure = get_structure(name)
    centre = parameters.means.new_zeros(rows.shape[1])
    step = make_e_step(kind, parameters, centre, structure, extents=centre.clone(), **options)
    whole = gap_pass_of(
        step, splits or Splits(), resident_rows=None if splits is None else len(rows)
    )
    bounds = [0, *edges, len(rows)]
    for start, stop in itertools.pairwise(bounds):
        part = slice(start, stop)
        whole.add(
            tensor(rows[part]),
            None if weights is None else tensor(weights[part]),
            None if labels is None else labels[part],
        )
    found = m_step(step.moments, step.centre, parameters.means, structure, 1e-6)
    return found.parameters, step.log_likelihood(step.moments)


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("kind", E_STEPS)
@pytest.mark.parametrize(("features", "few_rows"), [(1, 128), (2, 128), (5, 128), (5, 0)])
def test_fifteen_iterations_are_those_of_brute_force(
    rng, monkeypatch, name, kind, features, few_rows
):
    # Groups of few rows are joined, or each number of gaps has its own.
    monkeypatch.setattr(gaps, "FEW_ROWS_OF_A_GROUP", few_rows)
    expected = random_mixture(rng, name, 3, features)
    parameters = as_parameters(name, expected)
    rows = gap_oracle.with_gaps(rng, draw_rows(rng, expected, 40))
    weights = rng.uniform(0.5, 2.0, 40)
    splits = Splits()
    for _ in range(15):
        parameters, bound = iterate(kind, parameters, rows, name, weights, splits=splits)
        expected, wanted = gap_oracle.iterate(name, expected, rows, weights, 1e-6)
        np.testing.assert_allclose(bound / weights.sum(), [wanted], **ROUNDING)
    assert_same_mixtures(parameters, as_parameters(name, expected), **ROUNDING)


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("kind", E_STEPS)
def test_restarts_are_what_each_is_alone(rng, name, kind):
    mixtures = [random_mixture(rng, name, 3, 4) for _ in range(2)]
    rows = gap_oracle.with_gaps(rng, draw_rows(rng, mixtures[0], 200))
    together, _ = iterate(kind, as_parameters(name, *mixtures), rows, name)
    alone = [iterate(kind, as_parameters(name, one), rows, name)[0] for one in mixtures]
    for own, expected in zip(together.split(), alone, strict=True):
        assert_same_mixtures(own, expected, **ROUNDING)


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("kind", E_STEPS)
def test_batches_blocks_and_chunks_change_nothing(rng, monkeypatch, name, kind):
    mixture = random_mixture(rng, name, 3, 5)
    rows = gap_oracle.with_gaps(rng, draw_rows(rng, mixture, 300))
    # A batch without gaps, and one of nothing else.
    rows[40:80] = draw_rows(rng, mixture, 40)
    rows[80:120, 2] = np.nan
    parameters = as_parameters(name, mixture)
    expected, bound = iterate(kind, parameters, rows, name)
    monkeypatch.setattr(gaps, "BLOCK_BYTES", 7 * 40)
    monkeypatch.setattr("sklearn_torch_gmm.core.splits.COPIED_BYTES", 0)
    splits = Splits()
    for _ in range(2):
        actual, same = iterate(
            kind, parameters, rows, name, splits=splits, edges=(40, 80, 120), chunk_bytes=1000
        )
        assert_same_mixtures(actual, expected, **ROUNDING)
        torch.testing.assert_close(same, bound, **ROUNDING)


@pytest.mark.parametrize("name", TYPES)
def test_a_pass_that_is_renewed_is_one_with_other_parameters(rng, name):
    mixtures = [random_mixture(rng, name, 3, 4) for _ in range(2)]
    rows = tensor(gap_oracle.with_gaps(rng, draw_rows(rng, mixtures[0], 90)))
    first, second = (as_parameters(name, one) for one in mixtures)
    structure, centre = get_structure(name), rows.nanmean(0)
    # That of the complete rows is known; it is the same in each pass.
    scatter = torch.eye(4).double().unsqueeze(0)
    step = make_e_step("fast", first, centre, structure, scatter=scatter)
    whole = gap_pass_of(step, Splits(), resident_rows=len(rows))
    for parameters in (first, second, first):
        expected = make_e_step("fast", parameters, centre, structure, scatter=scatter)
        gap_pass_of(expected, Splits(), resident_rows=len(rows)).add(rows)
        step.renew(parameters, natural_parameters(parameters, centre, structure))
        whole.renew()
        whole.add(rows)
        wanted, found = vars(expected.moments), vars(step.moments)
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("kind", E_STEPS)
@pytest.mark.parametrize("num_lanes", [2, 3, 7])
@pytest.mark.parametrize("least_rows", [1, 64])
@pytest.mark.parametrize("known", [False, True])
def test_lanes_change_nothing(rng, monkeypatch, name, kind, num_lanes, least_rows, known):
    monkeypatch.setattr(gap_chunks, "LEAST_ROWS", least_rows)
    mixture = random_mixture(rng, name, 3, 4)
    rows = gap_oracle.with_gaps(rng, draw_rows(rng, mixture, 611))
    # As many patterns as rows in all lanes of a group, or in some.
    weights = rng.uniform(0.5, 2.0, 611) if known else None
    labels = torch.from_numpy(rng.integers(-1, 3, 611)) if known else None
    parameters, found = as_parameters(name, mixture), []
    for lanes in (1, num_lanes):
        options = {"classes": torch.arange(3)} if known else {}
        found.append(
            iterate(
                kind, parameters, rows, name, weights, labels=labels, num_lanes=lanes, **options
            )
        )
    (expected, bound), (actual, same) = found
    assert_same_mixtures(actual, expected, **ROUNDING)
    torch.testing.assert_close(same, bound, **ROUNDING)


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("kind", E_STEPS)
def test_without_gaps_nothing_differs_by_a_bit(rng, name, kind):
    mixture = random_mixture(rng, name, 3, 4)
    rows, structure = tensor(draw_rows(rng, mixture, 200)), get_structure(name)
    parameters = as_parameters(name, mixture)
    found = []
    for takes_gaps in (False, True):
        step = make_e_step(kind, parameters, rows.mean(0), structure)
        one = FastPass([step]) if kind == "fast" else step
        (GapPass([step], [one], Splits()) if takes_gaps else one).add(rows)
        found.append(m_step(step.moments, step.centre, parameters.means, structure, 0.0).parameters)
    assert_same_mixtures(*found, rtol=0, atol=0)


@pytest.mark.parametrize("name", TYPES)
def test_labels_and_certainty_count_rows_with_gaps(rng, name):
    mixture = random_mixture(rng, name, 3, 3)
    rows = gap_oracle.with_gaps(rng, draw_rows(rng, mixture, 80))
    shares = gap_oracle.expected(mixture, rows).responsibilities
    parameters, structure = as_parameters(name, mixture), get_structure(name)
    step = make_e_step(
        "fast", parameters, torch.zeros(3, dtype=torch.float64), structure, with_certainty=True
    )
    gap_pass_of(step, Splits()).add(tensor(rows))
    np.testing.assert_allclose(step.moments.certainty, [np.log(shares.max(1)).sum()], rtol=1e-10)

    labels = torch.from_numpy(rng.integers(-1, 3, 80))
    classes = torch.arange(3)
    step = make_e_step(
        "fast", parameters, torch.zeros(3, dtype=torch.float64), structure, classes=classes
    )
    gap_pass_of(step, Splits()).add(tensor(rows), torch.ones(80), labels)
    shares[labels >= 0] = np.eye(3)[labels[labels >= 0]]
    np.testing.assert_allclose(step.moments.counts[0], shares.sum(0), rtol=1e-10)


@pytest.mark.parametrize("name", TYPES)
def test_extents_include_the_observed_values_of_rows_with_gaps(rng, name):
    rows = np.array([[1.0, 2.0], [np.nan, -7.0], [3.0, np.nan], [0.0, 0.0]])
    extents = torch.zeros(2, dtype=torch.float64)
    parameters = as_parameters(name, random_mixture(rng, name, 2, 2))
    step = make_e_step(
        "fast", parameters, torch.ones(2).double(), get_structure(name), extents=extents
    )
    gap_pass_of(step, Splits()).add(tensor(rows))
    assert extents.tolist() == [2.0, 8.0]


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("kind", E_STEPS)
def test_the_likelihood_never_falls(rng, name, kind):
    mixture = random_mixture(rng, name, 3, 4)
    rows = gap_oracle.with_gaps(rng, draw_rows(rng, mixture, 150), 0.5)
    parameters = as_parameters(name, random_mixture(rng, name, 3, 4))
    bounds = []
    for _ in range(30):
        parameters, bound = iterate(kind, parameters, rows, name)
        bounds.append(bound.item())
    # The regularization of 1e-6 and the rounding of sums of 150 terms.
    assert np.diff(bounds).min() > -1e-5


@pytest.mark.parametrize("kind", E_STEPS)
def test_features_that_nearly_depend_on_each_other_keep_their_digits(rng, kind):
    # Condition number 1e6: brute force itself is exact to 1e-9 or so.
    mixture = random_mixture(rng, "full", 2, 4)
    basis = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    matrices = np.stack([basis * [1e-3, 1.0, 1.0, 1e3] @ basis.T] * 2)
    mixture = mixture._replace(matrices=0.5 * (matrices + matrices.transpose(0, 2, 1)))
    rows = gap_oracle.with_gaps(rng, draw_rows(rng, mixture, 60))
    _, bound = iterate(kind, as_parameters("full", mixture), rows, "full")
    np.testing.assert_allclose(
        bound, [gap_oracle.expected(mixture, rows).log_densities.sum()], rtol=1e-8
    )


def test_features_that_are_nearly_equal_keep_their_digits_under_a_shared_covariance(rng):
    """Three sensors of one quantity, of which one differs between the groups, and another one."""
    size = 120
    noise = rng.standard_normal((size, 4)) * [1e-4, 1e-4, 1e-4, 1.0]
    common, group = rng.standard_normal((size, 1)), np.arange(size) % 2
    means = np.array([[0.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.0]])
    rows = common * [1.0, 1.0, 1.0, 0.5] + noise + means[group]
    rows = gap_oracle.with_gaps(rng, rows, 0.3)
    # Rows that tell nothing about the difference between the sensors.
    rows[:20, :3], rows[20:25] = np.nan, np.nan
    matrix = np.diag([1e-8, 1e-8, 1e-8, 1.0]) + np.outer([1, 1, 1, 0.5], [1, 1, 1, 0.5])
    mixture = Mixture(np.array([0.5, 0.5]), means, np.stack([matrix] * 2))
    parameters = as_parameters("tied", mixture)
    (found, bound), (exact, _) = (iterate(kind, parameters, rows, "tied") for kind in E_STEPS)
    # As exact as the fast step is to be; brute force is exact to 1e-8 for each row.
    expected = gap_oracle.expected(mixture, rows).log_densities.sum()
    np.testing.assert_allclose(bound, [expected], rtol=0, atol=size * TOLERATED)
    torch.testing.assert_close(found.means, exact.means, rtol=0, atol=1e-8)
    # In units of the covariance, where the regularization of 1e-6 hides no difference.
    factors = parameters.precisions_cholesky
    whitened = factors.mT @ (found.covariances - exact.covariances) @ factors
    torch.testing.assert_close(whitened, torch.zeros_like(whitened), rtol=0, atol=1e-6)

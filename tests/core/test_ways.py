"""Each way through an E-step gives what residuals give, and the cheapest allowed one is chosen."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from sklearn_torch_gmm.core import processor, shared_whitening
from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.core.e_step import normalize_, normalize_for_entropy_
from sklearn_torch_gmm.core.exact_step import ExactEStep
from sklearn_torch_gmm.core.m_step import m_step
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.shared_whitening import VALUES_OF_PAIRS
from sklearn_torch_gmm.core.ways import (
    FEW_MATRICES,
    MANY_MATRICES,
    SMALL_SHARE,
    Allowed,
    Selection,
    Ways,
)
from sklearn_torch_gmm.core.workspace import Workspace
from tests.core.steps import as_parameters, mixture_of, tensor

COMPONENTS, FEATURES, RESTARTS = 5, 9, 2
NUMBER = RESTARTS * COMPONENTS
CPU = torch.device("cpu")

ALL = range(NUMBER)
WAYS = {
    "products": Ways(ALL, (), (), ()),
    "sifted": Ways((), ALL, (), ()),
    "some sifted": Ways((0, 1, 7, 9), (2, 3, 4, 5, 6, 8), (), ()),
    "whitened": Ways.all_whitened(NUMBER),
    "some whitened": Ways((), (), (0, 2, 4, 5, 6), (1, 3, 7, 8, 9)),
    "products and residuals": Ways((1, 2, 5), (), (), (0, 3, 4, 6, 7, 8, 9)),
    "each": Ways((3, 8), (0, 5, 9), (1, 2, 7), (4, 6)),
}
OF_TYPE = {
    "full": list(WAYS),
    "tied": ["whitened"],
    "diag": [name for name in WAYS if "whitened" not in name and name != "each"],
    "spherical": [name for name in WAYS if "whitened" not in name and name != "each"],
}
CASES = [(name, ways) for name, own in OF_TYPE.items() for ways in own]

ROUNDING = {"rtol": 1e-10, "atol": 1e-11}
"""Sums of 400 rows a few widths from the centre, in float64."""


@pytest.fixture
def rows(rng):
    centres = 4.0 * rng.standard_normal((3, FEATURES))
    rows = centres[rng.integers(3, size=400)] + rng.standard_normal((400, FEATURES))
    # Far from all components, as in data with heavy tails.
    rows[:4] *= 30.0
    return tensor(rows)


def step_in(ways, parameters, rows, structure, *, splits=(), chunk_bytes=None, lanes=1, **options):
    sample_weight, labels = options.pop("sample_weight", None), options.pop("labels", None)
    workspace = Workspace(torch.float64, CPU, chunk_bytes, lanes)
    centre = rows[4:].mean(0)
    step = ExactEStep(parameters, centre, structure, workspace, ways=ways, **options)
    edges = [0, *splits, len(rows)]
    for start, stop in pairwise(edges):
        parts = (None if p is None else p[start:stop] for p in (rows, sample_weight, labels))
        step.add(*parts)
    return step


def assert_same_steps(step, expected, parameters, structure):
    found, wanted = (
        m_step(one.moments, one.centre, parameters.means, structure, 1e-3).parameters
        for one in (step, expected)
    )
    for name in ("weights", "means", "covariances"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), **ROUNDING)
    for name in ("log_likelihood", "certainty", "entropy"):
        one, other = (getattr(s.moments, name) for s in (step, expected))
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, **ROUNDING)


@pytest.fixture
def mixtures(rng, request):
    name = request.getfixturevalue("name")
    return as_parameters(
        name, *(mixture_of(rng, name, COMPONENTS, FEATURES) for _ in range(RESTARTS))
    )


@pytest.mark.parametrize(("name", "ways"), CASES)
@pytest.mark.parametrize(
    "options",
    [{}, {"splits": (7, 8, 100)}, {"chunk_bytes": 1}, {"lanes": 2}, {"chunk_bytes": 1, "lanes": 2}],
    ids=str,
)
def test_each_way_gives_what_residuals_give(name, ways, mixtures, rows, options):
    structure = get_structure(name)
    step = step_in(WAYS[ways], mixtures, rows, structure, **options)
    expected = step_in(None, mixtures, rows, structure)
    assert_same_steps(step, expected, mixtures, structure)


@pytest.mark.parametrize(("name", "ways"), CASES)
def test_weights_labels_entropy_and_certainty(rng, name, ways, mixtures, rows):
    structure = get_structure(name)
    options = {
        "sample_weight": tensor(rng.uniform(0.0, 2.0, len(rows))),
        "labels": tensor(rng.integers(-1, 2, len(rows))),
        "classes": torch.tensor([0, 0, 1, 1, 1]),
        "with_entropy": True,
        "with_certainty": True,
    }
    step = step_in(WAYS[ways], mixtures, rows, structure, **options)
    expected = step_in(None, mixtures, rows, structure, **options)
    assert_same_steps(step, expected, mixtures, structure)


@pytest.mark.parametrize(("name", "ways"), CASES)
def test_moments_about_other_points(rng, name, ways, mixtures, rows):
    structure = get_structure(name)
    about = mixtures.means + tensor(rng.standard_normal(mixtures.means.shape))
    step = step_in(WAYS[ways], mixtures, rows, structure, about=about)
    expected = step_in(None, mixtures, rows, structure, about=about)
    at_centre = torch.zeros(NUMBER, dtype=torch.bool)
    at_centre[list(WAYS[ways].products)] = True
    points, given = step.centre.flatten(0, 1), about.flatten(0, 1)
    torch.testing.assert_close(points[~at_centre], given[~at_centre], rtol=0, atol=0)
    assert_same_steps(step, expected, mixtures, structure)


@pytest.mark.parametrize(("name", "ways"), CASES)
def test_means_in_any_order_of_memory(name, ways, mixtures, rows):
    """After a selection of mixtures, components may lie in memory before mixtures."""
    structure = get_structure(name)
    means = mixtures.means.transpose(0, 1).contiguous().transpose(0, 1)
    assert means.flatten(0, 1).data_ptr() != means.data_ptr()
    step = step_in(WAYS[ways], replace(mixtures, means=means), rows, structure)
    assert_same_steps(step, step_in(None, mixtures, rows, structure), mixtures, structure)


@pytest.mark.parametrize(("name", "ways"), CASES)
def test_components_without_weight(name, ways, mixtures, rows):
    structure = get_structure(name)
    weights = mixtures.weights.clone()
    weights[:, [0, 3]] = 0.0
    mixtures = MixtureParameters(weights / weights.sum(1, keepdim=True), *mixtures.tensors()[1:])
    step = step_in(WAYS[ways], mixtures, rows, structure)
    assert (step.moments.counts[:, [0, 3]] == 0.0).all()
    assert_same_steps(step, step_in(None, mixtures, rows, structure), mixtures, structure)


@pytest.mark.parametrize("name", ["full", "tied", "diag"])
def test_the_extents_grow(name, rows, rng):
    parameters = as_parameters(name, mixture_of(rng, name, COMPONENTS, FEATURES))
    for ways in (None, Ways.all_whitened(COMPONENTS) if name != "diag" else None):
        extents = torch.zeros(FEATURES, dtype=torch.float64)
        step_in(ways, parameters, rows, get_structure(name), extents=extents)
        expected = (rows - rows[4:].mean(0)).abs().amax(0)
        torch.testing.assert_close(extents, expected, rtol=0, atol=0)


def clusters_far_apart(rng, structure, spread):
    """Mixtures and rows of unit variance, with two of four clusters close to each other."""
    means = spread * rng.standard_normal((1, 4, FEATURES))
    # So that responsibilities are neither zero nor one.
    means[0, 1] = means[0, 0] + 0.5
    rows = tensor(np.repeat(means[0], 50, axis=0) + rng.standard_normal((200, FEATURES)))
    shape = (1, *structure.covariance_shape(4, FEATURES))
    unit = structure.unit_covariances(torch.empty(shape, dtype=torch.float64))
    weights = torch.full((1, 4), 0.25, dtype=torch.float64)
    return MixtureParameters(weights, tensor(means), unit, unit), rows


@pytest.mark.parametrize("name", ["full", "diag", "spherical"])
def test_sifted_rows_are_exact_where_products_are_not(name, rng):
    """Clusters a million widths apart: products lose digits, and still tell the rows."""
    structure = get_structure(name)
    parameters, rows = clusters_far_apart(rng, structure, 1e6)
    sifted = step_in(Ways((), range(4), (), ()), parameters, rows, structure)
    exact = step_in(None, parameters, rows, structure)
    assert_same_steps(sifted, exact, parameters, structure)
    by_products = step_in(Ways(range(4), (), (), ()), parameters, rows, structure)
    error = by_products.moments.log_likelihood - exact.moments.log_likelihood
    assert error.abs().item() > 1e-5


@pytest.mark.parametrize("at_once", [VALUES_OF_PAIRS, 1], ids=["all pairs", "few pairs"])
@pytest.mark.parametrize("name", ["full", "tied"])
def test_whitened_moments_lose_a_distance_and_not_its_square(monkeypatch, name, at_once, rng):
    """Clusters far apart, two of them close to each other; some rows weigh nothing."""
    monkeypatch.setattr(shared_whitening, "VALUES_OF_PAIRS", at_once)
    structure, spread = get_structure(name), 3e5
    parameters, rows = clusters_far_apart(rng, structure, spread)
    sample_weight = tensor(rng.integers(0, 3, 200).astype(float))
    found, expected = (
        step_in(ways, parameters, rows, structure, sample_weight=sample_weight)
        for ways in (Ways.all_whitened(4), None)
    )
    covariances, wanted = (
        m_step(one.moments, one.centre, parameters.means, structure, 0.0).parameters.covariances
        for one in (found, expected)
    )
    # Rounding of the whitened rows, and not of their squares, which is ten thousand times as large.
    loss = 20.0 * torch.finfo(torch.float64).eps * spread
    torch.testing.assert_close(covariances, wanted, rtol=0, atol=loss)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_responsibilities_that_would_underflow_are_zero(dtype):
    logits = torch.tensor([[0.0, -5e5], [-50.0, 0.0], [-1e6, -1e17], [-float("inf"), -80.0]])
    expected, relative = logits.to(dtype), torch.empty(4, 2, dtype=dtype)
    found, by_entropy = expected.clone(), expected.clone()
    log_densities, _ = normalize_(expected)
    torch.testing.assert_close(normalize_(found, many_vanish=True)[0], log_densities)
    other, log_share = normalize_for_entropy_(by_entropy, relative, many_vanish=True)
    torch.testing.assert_close(other, log_densities)
    # Below the smallest normal number.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e4 * torch.finfo(dtype).tiny)
    torch.testing.assert_close(by_entropy, found, rtol=0, atol=0)
    entropies = -log_share - (found * relative).sum(0)
    torch.testing.assert_close(entropies, -torch.special.xlogy(found, found).sum(0))


# -- the choice -----------------------------------------------------------------------------------


def choose(
    products="", sifting="", whitening="", *, weights=None, has_matrices=True, number=8, features=16
):
    """The ways of components whose numbers are in the strings."""
    products, sifting, whitening = map(list, (products, sifting, whitening))
    allowed = ([str(i) in own for i in range(number)] for own in (products, sifting, whitening))
    weights = [1.0 / number] * number if weights is None else weights
    return Allowed(*allowed).choose(weights, features, has_matrices=has_matrices)


def as_strings(ways):
    parts = (ways.products, ways.sifted, ways.whitened, ways.residuals)
    return tuple("".join(map(str, part)) for part in parts)


def test_products_where_they_are_allowed():
    assert as_strings(choose("01234567", "01234567", "01234567")) == ("01234567", "", "", "")


def test_nothing_is_allowed():
    assert as_strings(choose()) == ("", "", "", "01234567")
    assert choose().need_products is False


def test_independent_features_are_sifted_rather_than_whitened():
    ways = choose("012345", "01234567", "01234567", has_matrices=False)
    assert as_strings(ways) == ("012345", "67", "", "")


def test_matrices_are_sifted_if_they_have_few_rows():
    weights = [0.2] * 5 + [SMALL_SHARE, 0.9 * SMALL_SHARE, 1.1 * SMALL_SHARE]
    ways = choose("0123", "01234567", "0123567", weights=weights)
    # The fifth is sifted since it cannot be whitened.
    assert as_strings(ways) == ("0123", "456", "7", "")


def test_all_are_whitened_if_one_has_to_be():
    assert as_strings(choose("0123456", "", "01234567")) == ("", "", "01234567", "")


def test_moments_of_rows_are_written_for_many_matrices_beside_whitened_ones():
    def products_of(number, features):
        some, every = range(number), range(number + 1)
        ways = choose(map(str, some), "", map(str, every), number=number + 1, features=features)
        assert not ways.sifted
        assert not ways.residuals
        return len(ways.products)

    assert products_of(MANY_MATRICES - 1, 16) == 0
    assert products_of(MANY_MATRICES, 16) == MANY_MATRICES
    assert products_of(15, 32) == 0
    assert products_of(16, 32) == 16


def test_no_moments_of_rows_for_few_matrices():
    few = "0123"[: FEW_MATRICES - 1]
    assert as_strings(choose(few, few, few, number=len(few))) == ("", "", few, "")
    assert as_strings(choose(few, few, "", number=len(few))) == (few, "", "", "")
    assert as_strings(choose(few, few, few, number=len(few), has_matrices=False))[0] == few


def test_no_moments_of_rows_to_sift_few_matrices_beside_whitened_ones():
    assert as_strings(choose("", "01", "1234567")) == ("", "", "1234567", "0")
    assert as_strings(choose("", "01", "", number=2)) == ("", "01", "", "")
    assert as_strings(choose("", "01", "1234567", has_matrices=False))[1] == "01"


def test_a_selection_of_some():
    values = torch.arange(10.0).view(5, 2)
    some, every = Selection((3, 1), 5, CPU), Selection(range(5), 5, CPU)
    assert some.of(values).tolist() == [[6.0, 7.0], [2.0, 3.0]]
    assert every.of(values) is values
    some.put(torch.zeros(2, 2), values)
    assert values.tolist() == [[0.0, 1.0], [0.0, 0.0], [4.0, 5.0], [0.0, 0.0], [8.0, 9.0]]
    some.add(torch.ones(2, 2), values)
    every.add(torch.ones(5, 2), values)
    assert values[:, 0].tolist() == [1.0, 2.0, 5.0, 2.0, 9.0]


@pytest.mark.parametrize("name", ["full", "tied", "diag"])
def test_a_chunk_stays_within_its_memory(name, rng):
    parameters = as_parameters(name, mixture_of(rng, name, COMPONENTS, FEATURES))
    ways = Ways.all_whitened(COMPONENTS) if name != "diag" else Ways((0,), range(1, 5), (), ())
    rows = tensor(rng.standard_normal((50_000, FEATURES)))
    step = step_in(ways, parameters, rows, get_structure(name))
    held = sum(buffer.nbytes for buffer in step.workspace._buffers.values())
    assert 0 < held <= processor.chunk_bytes()

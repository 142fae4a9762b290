import numpy as np
import pytest
import torch
from torch import Tensor

from sklearn_torch_gmm.core import processor
from sklearn_torch_gmm.core.covariance import STRUCTURES, get_structure
from sklearn_torch_gmm.core.inference import Inference
from sklearn_torch_gmm.core.parameters import MixtureParameters
from tests.core import oracle
from tests.core.oracle import Mixture
from tests.core.steps import (
    as_parameters,
    make_inference,
    make_parameters,
    mixture_of,
    tensor,
)

METHODS = ["labels", "log_densities", "responsibilities"]

ROUNDING = {"rtol": 1e-10, "atol": 1e-10}
"""float64 (2e-16), condition numbers up to a hundred."""


@pytest.fixture
def mixture(rng) -> Mixture:
    means = 2.0 * rng.standard_normal((3, 2))
    return Mixture(np.array([0.2, 0.3, 0.5]), means, oracle.random_matrices(rng, 3, 2))


@pytest.fixture
def rows(rng, mixture) -> np.ndarray:
    return oracle.draw_rows(rng, mixture, 300)


@pytest.fixture
def parameters(mixture) -> MixtureParameters:
    weights, means, matrices = (tensor(array)[None] for array in mixture)
    return make_parameters(get_structure("full"), weights, means, matrices)


@pytest.fixture
def inference(parameters) -> Inference:
    return make_inference(parameters, get_structure("full"))


def test_log_densities_are_those_of_scipy(inference, mixture, rows):
    expected = oracle.log_densities(mixture, rows)
    np.testing.assert_allclose(inference.log_densities(tensor(rows)), expected, **ROUNDING)


def test_responsibilities_are_bayes_rule(inference, mixture, rows):
    expected = oracle.responsibilities(mixture, rows).T
    np.testing.assert_allclose(inference.responsibilities(tensor(rows)), expected, **ROUNDING)


def test_labels_are_the_most_probable_components(inference, mixture, rows):
    labels = inference.labels(tensor(rows))
    assert labels.dtype == torch.int64
    np.testing.assert_array_equal(labels, oracle.joint_log_densities(mixture, rows).argmax(0))


@pytest.mark.parametrize("method", METHODS)
def test_answers_can_be_worked_on(inference, rows, method):
    # What comes out of torch's inference mode itself cannot be saved for a gradient.
    answer = getattr(inference, method)(tensor(rows))
    assert not answer.is_inference()


def three_of_unit_width(rng, name):
    structure = get_structure(name)
    unit = structure.unit_covariances(
        torch.empty(1, *structure.covariance_shape(3, 2), dtype=torch.float64)
    )
    means = tensor(rng.standard_normal((1, 3, 2)))
    parameters = make_parameters(structure, torch.full_like(means[..., 0], 1 / 3), means, unit)
    return parameters, structure


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", sorted(STRUCTURES))
@pytest.mark.parametrize("num_rows", [300, 2000])
def test_chunks_cannot_be_seen(rng, monkeypatch, num_rows, name, method):
    parameters, structure = three_of_unit_width(rng, name)
    rows = tensor(rng.standard_normal((num_rows, 2)))

    whole = getattr(make_inference(parameters, structure), method)(rows)
    monkeypatch.setattr(processor, "chunk_bytes", lambda: 1)
    # 300 rows are then four chunks of 64 and one of 44; 2,000 are enough for a product.
    chunked = getattr(make_inference(parameters, structure), method)(rows)
    torch.testing.assert_close(chunked, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", sorted(STRUCTURES))
@pytest.mark.parametrize("num_lanes", [2, 3])
def test_lanes_cannot_be_seen(rng, monkeypatch, num_lanes, name, method):
    parameters, structure = three_of_unit_width(rng, name)
    rows = tensor(rng.standard_normal((2000, 2)))
    monkeypatch.setattr(Inference, "_exact_chunks", None)

    answers = []
    # 2,000 rows are two chunks, of which three lanes leave a row over.
    for lanes, size in ((1, 2000), (num_lanes, 1000)):
        inference = make_inference(parameters, structure)
        inference._workspace.num_lanes = lanes
        monkeypatch.setattr(inference._workspace, "rows_per_chunk", lambda _, size=size: size)
        answers.append(getattr(inference, method)(rows))
    torch.testing.assert_close(*answers, rtol=1e-12, atol=1e-12)


def test_chunks_of_few_rows_are_answered_by_a_product(parameters, rng, monkeypatch):
    """With many features a chunk has few rows, whose T(x) are all the more numbers."""
    monkeypatch.setattr(processor, "chunk_bytes", lambda: 1)
    monkeypatch.setattr(Inference, "_exact_chunks", None)
    inference = make_inference(parameters, get_structure("full"))
    assert inference.labels(tensor(rng.standard_normal((2000, 2)))).shape == (2000,)


@pytest.mark.parametrize("name", sorted(STRUCTURES))
@pytest.mark.parametrize(("num_rows", "num_components"), [(300, 100), (40, 700)])
def test_few_rows_of_many_components_are_answered_by_a_product(
    rng, monkeypatch, num_rows, num_components, name
):
    """Differences to so many means take many times as long as a product does."""
    structure = get_structure(name)
    unit = structure.unit_covariances(
        torch.empty(1, *structure.covariance_shape(num_components, 2), dtype=torch.float64)
    )
    means = rng.standard_normal((num_components, 2))
    weights = torch.full((1, num_components), 1 / num_components, dtype=torch.float64)
    parameters = make_parameters(structure, weights, tensor(means)[None], unit)
    rows = rng.standard_normal((num_rows, 2))
    monkeypatch.setattr(Inference, "_exact_chunks", None)

    answers = make_inference(parameters, structure).log_densities(tensor(rows))
    squares = ((rows - means[:, None]) ** 2).sum(-1)
    expected = np.log(np.exp(-squares / 2).mean(0) / (2 * np.pi))
    np.testing.assert_allclose(answers, expected, **ROUNDING)


@pytest.mark.parametrize("method", ["log_densities", "responsibilities"])
def test_results_have_the_type_of_the_rows_and_the_accuracy_of_the_parameters(
    inference, rows, method
):
    single = tensor(rows).float()
    result = getattr(inference, method)(single)
    assert result.dtype == torch.float32
    expected: Tensor = getattr(inference, method)(single.double())
    # Rounded once, at the end.
    torch.testing.assert_close(result, expected.float(), rtol=0, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_rows_may_lie_in_memory_in_any_way(inference, rows, method):
    call = getattr(inference, method)
    every_second = call(tensor(np.repeat(rows, 2, axis=0))[::2])
    by_columns = call(tensor(rows.T).T)
    torch.testing.assert_close(every_second, call(tensor(rows)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(by_columns, call(tensor(rows)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_no_rows_give_no_results(inference, method):
    result = getattr(inference, method)(torch.empty(0, 2, dtype=torch.float64))
    assert result.shape[0] == 0


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_kept_for_gradients(inference, rows, method):
    data = tensor(rows).requires_grad_()
    assert not getattr(inference, method)(data).requires_grad


def test_far_rows_keep_their_digits(inference, mixture):
    rows = mixture.means + np.array([1e6, -1e6])
    expected = oracle.log_densities(mixture, rows)
    np.testing.assert_allclose(inference.log_densities(tensor(rows)), expected, rtol=1e-12)
    sums = inference.responsibilities(tensor(rows)).sum(1)
    np.testing.assert_allclose(sums, np.ones(3), rtol=1e-12)


@pytest.mark.parametrize("name", ["diag", "spherical"])
def test_differences_to_many_means_stay_within_the_memory_of_a_chunk(rng, monkeypatch, name):
    num_components, num_features, chunk_bytes = 40, 1000, 2**23
    structure = get_structure(name)
    unit = structure.unit_covariances(
        torch.empty(1, *structure.covariance_shape(num_components, num_features)).double()
    )
    means = tensor(rng.standard_normal((1, num_components, num_features)))
    # Where the square must not be expanded.
    means *= 1e6
    weights = torch.full((1, num_components), 1 / num_components).double()
    monkeypatch.setattr(processor, "chunk_bytes", lambda: chunk_bytes)
    inference = make_inference(make_parameters(structure, weights, means, unit), structure)
    sizes = []

    def squared_distances(x, *args):
        sizes.append(x.shape[1])
        return type(structure).squared_distances(structure, x, *args)

    monkeypatch.setattr(structure, "squared_distances", squared_distances)
    labels = inference.labels(means[0].repeat(3, 1))
    np.testing.assert_array_equal(labels, np.tile(np.arange(num_components), 3))
    assert sum(sizes) == 3 * num_components
    # The differences, their squares, and one more.
    assert 3 * 8 * num_components * num_features * max(sizes) <= chunk_bytes


@pytest.mark.parametrize("name", sorted(STRUCTURES))
@pytest.mark.parametrize("num_rows", [7, 3000])
def test_component_log_densities_are_those_of_scipy(rng, name, num_rows):
    mixture, structure = mixture_of(rng, name), get_structure(name)
    # Far out, where each responsibility is zero or one to rounding.
    rows = 30.0 * rng.standard_normal((num_rows, 2))
    inference = make_inference(as_parameters(name, mixture), structure)
    expected = oracle.joint_log_densities(mixture, rows) - np.log(mixture.weights)[:, None]
    found = inference.component_log_densities(tensor(rows))
    np.testing.assert_allclose(found, expected.T, rtol=1e-10)


def test_a_component_without_weight_has_a_density_of_its_own(rng):
    mixture = mixture_of(rng, "full")
    rows = rng.standard_normal((5, 2))
    parameters = as_parameters("full", mixture._replace(weights=np.array([0.0, 0.5, 0.5])))
    found = make_inference(parameters, get_structure("full")).component_log_densities(tensor(rows))
    expected = oracle.joint_log_densities(mixture._replace(weights=np.ones(3)), rows)
    np.testing.assert_allclose(found, expected.T, rtol=1e-10)

import copy
import math
import pickle
import re
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from sklearn_torch_gmm.core.covariance import STRUCTURES
from sklearn_torch_gmm.core.model import GaussianMixtureModel, GaussianMixtureModelConfig
from tests.core import oracle
from tests.core.steps import tensor

TYPES = sorted(STRUCTURES)

ROUNDING = {"rtol": 1e-10, "atol": 1e-10}
"""float64 (2e-16), condition numbers up to a hundred."""

FAR = 1000.0
"""Distance of components that overlap nowhere."""


@pytest.fixture
def model(rng) -> GaussianMixtureModel:
    """Three components of two features with covariance matrices of their own."""
    model = GaussianMixtureModel(GaussianMixtureModelConfig(3, 2, "full"))
    precisions = tensor(np.linalg.inv(oracle.random_matrices(rng, 3, 2)))
    model.component_probs.copy_(tensor(np.array([0.2, 0.3, 0.5])))
    model.means.copy_(tensor(2.0 * rng.standard_normal((3, 2))))
    model.precisions_cholesky.copy_(model.structure.precisions_cholesky_from_precisions(precisions))
    return model


@pytest.fixture
def rows(rng) -> torch.Tensor:
    return tensor(2.0 * rng.standard_normal((100, 2)))


# -- configuration --------------------------------------------------------------------------------


def test_covariances_are_diagonal_unless_asked_otherwise():
    assert GaussianMixtureModelConfig(3, 2).covariance_type == "diag"


@pytest.mark.parametrize("name", ["num_components", "num_features"])
@pytest.mark.parametrize("value", [0, -1, 1.5, 2.0, "2", None], ids=repr)
def test_error_for_a_size_names_it_and_what_was_seen(name, value):
    sizes = {"num_components": 3, "num_features": 2, name: value}
    with pytest.raises(ValueError, match=f"{name} must be an integer .* got {value!r}"):
        GaussianMixtureModelConfig(**sizes)


def test_error_for_an_unknown_covariance_type_lists_the_known_ones():
    with pytest.raises(ValueError, match="'round': use one of 'full', 'tied', 'diag'"):
        GaussianMixtureModelConfig(3, 2, "round")


def test_what_is_no_configuration_is_an_error_that_says_how_to_make_one():
    with pytest.raises(TypeError, match=r"got 2: GaussianMixtureModelConfig\(num_components"):
        GaussianMixtureModel(2)


@pytest.mark.parametrize("dtype", [torch.int64, "float32", None])
def test_types_that_hold_no_probabilities(dtype):
    with pytest.raises(ValueError, match=f"floating-point type of torch, got {dtype!r}"):
        GaussianMixtureModel(GaussianMixtureModelConfig(2, 2), dtype=dtype)


def test_a_module_shows_its_sizes_also_as_a_part_of_another():
    larger = torch.nn.Sequential(GaussianMixtureModel(GaussianMixtureModelConfig(3, 2, "full")))
    shown = "GaussianMixtureModel(num_components=3, num_features=2, covariance_type='full')"
    assert f"(0): {shown}" in repr(larger)


def test_configuration_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        GaussianMixtureModelConfig(3, 2).num_components = 4


# -- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("covariance_type", "shape"),
    [("full", (3, 2, 2)), ("tied", (2, 2)), ("diag", (3, 2)), ("spherical", (3,))],
)
def test_parameters_are_three_buffers_in_their_documented_shapes(covariance_type, shape):
    model = GaussianMixtureModel(GaussianMixtureModelConfig(3, 2, covariance_type))
    shapes = {name: tuple(buffer.shape) for name, buffer in model.named_buffers()}
    assert shapes == {"component_probs": (3,), "means": (3, 2), "precisions_cholesky": shape}
    assert list(model.parameters()) == []
    assert tuple(model.covariances.shape) == shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_buffers_have_the_type_asked_for(dtype):
    model = GaussianMixtureModel(GaussianMixtureModelConfig(3, 2), dtype=dtype)
    assert {buffer.dtype for buffer in model.buffers()} == {dtype}


@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_new_model_is_standard_normal(covariance_type):
    model = GaussianMixtureModel(GaussianMixtureModelConfig(3, 2, covariance_type))
    log_responsibilities, log_prob = model(torch.tensor([[3.0, 4.0]]))
    assert log_prob.item() == pytest.approx(-math.log(2 * math.pi) - 25 / 2, rel=1e-14)
    assert log_responsibilities.exp().tolist() == [pytest.approx([1 / 3] * 3, rel=1e-14)]


@pytest.mark.parametrize("covariance_type", TYPES)
def test_resetting_makes_a_model_new_again(covariance_type):
    config = GaussianMixtureModelConfig(3, 2, covariance_type)
    model = GaussianMixtureModel(config)
    for buffer in model.buffers():
        buffer.fill_(0.125)
    model.reset_parameters()
    expected = GaussianMixtureModel(config).state_dict()
    torch.testing.assert_close(model.state_dict(), expected, rtol=0, atol=0)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_give_what_the_model_gives(model, rows, copied):
    torch.testing.assert_close(copied(model)(rows), model(rows), rtol=0, atol=0)


def test_state_goes_into_another_model(model, rows):
    other = GaussianMixtureModel(model.config)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(rows), model(rows), rtol=0, atol=0)


def test_state_of_other_sizes_is_refused(model):
    other = GaussianMixtureModel(GaussianMixtureModelConfig(4, 2, "full"))
    with pytest.raises(RuntimeError, match="size mismatch for component_probs"):
        other.load_state_dict(model.state_dict())


def test_conversion_reaches_the_buffers(model, rows):
    _, expected = model(rows)
    _, log_prob = model.float()(rows)
    assert log_prob.dtype == torch.float32
    # float32 (1e-7), condition numbers up to a hundred.
    torch.testing.assert_close(log_prob.double(), expected, rtol=1e-4, atol=1e-4)


# -- densities ------------------------------------------------------------------------------------


def test_forward_is_the_mixture_of_torch_distributions(model, rows):
    components = MultivariateNormal(model.means, model.covariances)
    expected = MixtureSameFamily(Categorical(model.component_probs), components)
    log_responsibilities, log_prob = model(rows)
    assert log_responsibilities.shape == (100, 3)
    torch.testing.assert_close(log_prob, expected.log_prob(rows), **ROUNDING)


def test_log_responsibilities_complete_the_density_of_a_component(model, rows):
    log_responsibilities, log_prob = model(rows)
    joint = log_responsibilities + log_prob[:, None]
    torch.testing.assert_close(joint.T, model.joint_log_densities(rows), **ROUNDING)


def test_data_of_another_type_are_computed_with_in_that_of_the_model(model, rows):
    single = rows.float()
    torch.testing.assert_close(model(single), model(single.double()), rtol=0, atol=0)


def test_permuting_the_components_permutes_the_responsibilities(model, rows):
    log_responsibilities, log_prob = model(rows)
    order = torch.tensor([2, 0, 1])
    for buffer in model.buffers():
        buffer.copy_(buffer[order])
    permuted, same_log_prob = model(rows)
    torch.testing.assert_close(permuted, log_responsibilities[:, order], **ROUNDING)
    torch.testing.assert_close(same_log_prob, log_prob, **ROUNDING)


def test_gradient_of_log_prob_points_to_the_mean_by_hand():
    # One component N(1, 2²): the derivative of the log-density at 7 is −(7 − 1)/4.
    model = GaussianMixtureModel(GaussianMixtureModelConfig(1, 1))
    model.means.fill_(1.0)
    model.precisions_cholesky.fill_(0.5)
    data = torch.tensor([[7.0]], dtype=torch.float64, requires_grad=True)
    model(data)[1].sum().backward()
    assert data.grad.item() == pytest.approx(-1.5, rel=1e-14)


# -- sampling -------------------------------------------------------------------------------------


@pytest.fixture
def apart() -> GaussianMixtureModel:
    """Components that tell by a sample's place where it came from; one has no weight."""
    model = GaussianMixtureModel(GaussianMixtureModelConfig(4, 1))
    model.component_probs.copy_(tensor(np.array([0.0, 0.1, 0.6, 0.3])))
    model.means.copy_(FAR * torch.arange(4.0)[:, None])
    return model


def test_components_are_drawn_by_their_probabilities(apart, generator):
    num_rows = 20_000
    labels = (apart.sample(num_rows, generator=generator).flatten() / FAR).round().long()
    found = labels.bincount(minlength=4) / num_rows
    expected = apart.component_probs
    # The standard error of a frequency; 5.5 of them happen once in 25 million.
    allowed = 5.5 * (expected * (1 - expected) / num_rows).sqrt()
    assert (found - expected).abs().le(allowed).all()
    assert found[0] == 0.0


def test_the_smallest_and_the_largest_random_number_choose_components_with_weight(
    apart, generator, monkeypatch
):
    apart.component_probs.copy_(tensor(np.array([0.0, 0.4, 0.6, 0.0])))
    extremes = torch.tensor([0.0, 1.0 - 2.0**-53], dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: extremes)
    labels = (apart.sample(2, generator=generator).flatten() / FAR).round()
    assert labels.tolist() == [1, 2]


def test_samples_come_in_random_order_of_components(apart, generator):
    labels = (apart.sample(1000, generator=generator).flatten() / FAR).round()
    # Of 999 neighbours 539 differ on average, with a standard error of 16; in order, two would.
    assert (labels.diff() != 0).sum() > 400


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_samples_have_shape_and_type_of_the_model(covariance_type, dtype, generator):
    config = GaussianMixtureModelConfig(3, 2, covariance_type)
    samples = GaussianMixtureModel(config, dtype=dtype).sample(7, generator=generator)
    assert samples.shape == (7, 2)
    assert samples.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_modules_in_narrow_types_have_covariances_and_samples(covariance_type, dtype, generator):
    """LAPACK knows no such types."""
    model = GaussianMixtureModel(GaussianMixtureModelConfig(2, 3, covariance_type), dtype=dtype)
    model.precisions_cholesky.mul_(2.0)
    unit = model.structure.unit_covariances(model.precisions_cholesky)
    assert torch.equal(model.covariances, unit / 4)
    samples = model.sample(2000, generator=generator)
    assert samples.dtype == dtype
    # A standard error of 0.5 / sqrt(2 · 2000) = 0.008, six of which are allowed for.
    assert (samples.double().std(0) - 0.5).abs().max() < 0.05


def test_one_sample_is_drawn_unless_asked_otherwise(model, generator):
    assert model.sample(generator=generator).shape == (1, 2)


def test_same_generator_gives_the_same_samples(model):
    first, second = (model.sample(10, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_a_generator_of_its_own_leaves_the_global_one_alone(model, generator):
    before = torch.get_rng_state()
    model.sample(10, generator=generator)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_datapoints", [0, -1])
def test_error_for_a_number_of_samples_names_what_was_seen(model, num_datapoints):
    with pytest.raises(ValueError, match=f"at least 1, got {num_datapoints}"):
        model.sample(num_datapoints)


def test_what_is_no_tensor_of_rows_is_refused():
    model = GaussianMixtureModel(GaussianMixtureModelConfig(2, 3))
    with pytest.raises(TypeError, match=r"takes a Tensor, got a ndarray: torch\.as_tensor"):
        model(np.zeros((5, 3)))
    for data in (torch.zeros(5, 2), torch.zeros(3), torch.zeros(1, 5, 3)):
        shape = re.escape(str(tuple(data.shape)))
        with pytest.raises(ValueError, match=rf"shape \(N, 3\), got {shape}"):
            model(data)

"""Mixtures as vectors of real numbers, and back."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sklearn_torch_gmm.core.coordinates import Coordinates
from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.core.parameters import MixtureParameters
from tests.core.steps import as_parameters, mixture_of, tensor
from tests.estimators import TYPES

# Logarithms and exponentials of numbers of the order of one, and covariances inverted twice.
ROUNDING = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def two(rng, covariance_type):
    return as_parameters(
        covariance_type, *(mixture_of(rng, covariance_type, 3, 2) for _ in range(2))
    )


@pytest.mark.parametrize("covariance_type", TYPES)
def test_there_and_back(rng, covariance_type):
    reference, other = two(rng, covariance_type), two(rng, covariance_type)
    space = Coordinates(get_structure(covariance_type), reference)
    back, usable = space.mixtures(space.of(other))
    assert usable.shape == (2, 3)
    assert usable.all()
    for actual, expected in zip(back.tensors(), other.tensors(), strict=True):
        torch.testing.assert_close(actual, expected, **ROUNDING)


def test_by_hand():
    """Equal weights at ±3 with the variance 16: the total variance is 9 + 16 = 25."""
    parameters = MixtureParameters(
        tensor([[0.5, 0.5]]),
        tensor([[[-3.0], [3.0]]]),
        tensor([[[16.0], [16.0]]]),
        tensor([[[0.25], [0.25]]]),
    )
    coordinates = Coordinates(get_structure("diag"), parameters).of(parameters)
    half, quarter = np.log(0.5), np.log(0.25)
    np.testing.assert_allclose(coordinates, [[half, half, -0.6, 0.6, quarter, quarter]])


@pytest.mark.parametrize("covariance_type", TYPES)
def test_units_of_the_features_do_not_change_differences(rng, covariance_type):
    structure = get_structure(covariance_type)
    first, second = two(rng, covariance_type), two(rng, covariance_type)
    unit = tensor([4.0, 4.0] if covariance_type == "spherical" else [4.0, 0.125])

    def in_other_units(parameters):
        covariances = {
            "full": lambda c: c * unit * unit.unsqueeze(-1),
            "tied": lambda c: c * unit * unit.unsqueeze(-1),
            "diag": lambda c: c * unit.square(),
            "spherical": lambda c: c * 16.0,
        }[covariance_type](parameters.covariances)
        factors, _ = structure.precisions_cholesky(covariances, 3)
        return MixtureParameters(parameters.weights, parameters.means * unit, covariances, factors)

    differences = []
    for a, b in [(first, second), (in_other_units(first), in_other_units(second))]:
        space = Coordinates(structure, a)
        differences.append(space.of(b) - space.of(a))
    torch.testing.assert_close(*differences, **ROUNDING)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_weight_of_zero_has_finite_coordinates(rng, dtype):
    parameters = two(rng, "full").to("cpu", dtype)
    parameters = replace(parameters, weights=parameters.weights * torch.tensor([1.0, 1.0, 0.0]))
    space = Coordinates(get_structure("full"), parameters)
    coordinates = space.of(parameters)
    assert coordinates.isfinite().all()
    assert (space.mixtures(coordinates)[0].weights[:, 2] < 1e-37).all()


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf, 1e4, -1e4])
def test_what_is_no_mixture_is_not_usable(rng, covariance_type, strange):
    """exp(±1e4) cannot be represented."""
    parameters = two(rng, covariance_type)
    space = Coordinates(get_structure(covariance_type), parameters)
    coordinates = space.of(parameters)
    # The last one is on the diagonal of the factors of the last component.
    coordinates[0, -1] = strange
    _, usable = space.mixtures(coordinates)
    assert not usable[0].all()
    assert usable[1].all()

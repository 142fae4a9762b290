"""Each bound decides about its way, on both sides of its threshold, and covers the error there."""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.core.exact_step import ExactEStep
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.rounding import (
    MOST_RELATIVE_ERROR,
    OBSERVED_EXCESS,
    TOLERATED_ERROR,
    TOLERATED_LOSS,
    absolute_error_of_products,
    cancellation_of_products,
    cancellation_of_whitening,
    growth_of_rounding,
    relative_error_of_products,
    rounding_of_sums,
    rounding_of_whitening,
    typical_distance,
)
from sklearn_torch_gmm.core.ways import Ways
from sklearn_torch_gmm.core.workspace import Workspace
from sklearn_torch_gmm.em.accuracy import FEWEST_TO_WHITEN, MOST_TO_WHITEN, Accuracy
from sklearn_torch_gmm.em.known_data import KnownData
from sklearn_torch_gmm.mixture import GaussianMixture
from tests.core.steps import make_parameters, needs_extended_precision, tensor

COMPONENTS, FEATURES = 6, 4
DTYPES = [torch.float64, torch.float32]


class Case:
    """Components at a distance from the centre, with covariances of a condition number."""

    def __init__(self, name, spread, condition=1.0, dtype=torch.float64):
        rng = np.random.default_rng(0)
        self.structure = get_structure(name)
        directions = rng.standard_normal((COMPONENTS, FEATURES))
        means = spread * directions / np.linalg.norm(directions, axis=1, keepdims=True)
        rotations = np.linalg.qr(rng.standard_normal((COMPONENTS, FEATURES, FEATURES)))[0]
        factors = rotations * np.logspace(0, -0.5 * np.log10(condition), FEATURES)
        matrices = factors @ factors.transpose(0, 2, 1)
        covariances = {
            "full": matrices,
            "tied": matrices[0],
            "diag": np.diagonal(matrices, axis1=1, axis2=2),
            "spherical": np.ones(COMPONENTS),
        }[name]
        weights = np.full((1, COMPONENTS), 1 / COMPONENTS)
        found = make_parameters(
            self.structure, tensor(weights), tensor(means[None]), tensor(covariances[None].copy())
        )
        self.parameters = found.to(dtype=dtype)
        self.centre = torch.zeros(FEATURES, dtype=dtype)
        noise = rng.standard_normal((COMPONENTS, 100, FEATURES))
        near = (means[:, None] + noise @ factors.transpose(0, 2, 1)).reshape(-1, FEATURES)
        far = 1e3 * (1.0 + spread) * rng.standard_normal((50, FEATURES))
        self.rows = tensor(np.concatenate([near, far])).to(dtype)

    @property
    def away(self):
        parameters = self.parameters
        return self.structure.distance_bounds(
            parameters.means - self.centre, parameters.precisions_cholesky
        )

    @property
    def growth(self):
        return growth_of_rounding(self.parameters, self.structure)

    def ways(self):
        dtype = self.centre.dtype
        data = KnownData(self.centre, self.rows.abs().amax(0))
        accuracy = Accuracy(self.structure, data, COMPONENTS, TOLERATED_ERROR[dtype])
        return accuracy.ways(self.parameters)

    def log_densities(self, ways):
        """Joint log-densities [K, N] before they are normalized, by the parts of a step."""
        step = ExactEStep(
            self.parameters, self.centre, self.structure,
            Workspace(self.centre.dtype, self.centre.device, num_lanes=1), ways=ways,
        )  # fmt: skip
        kept = []
        step.weigh = lambda logits, *rest: kept.append(logits[0, 0].clone())
        step.add(self.rows)
        return torch.cat(kept, dim=1).numpy()

    def exact(self):
        """Squared distances and log-densities [K, N] in extended precision."""
        rows, means = (
            a.numpy().astype(np.longdouble) for a in (self.rows, self.parameters.means[0])
        )
        factors = self.parameters.precisions_cholesky[0].numpy().astype(np.longdouble)
        residuals = rows - means[:, None]
        if factors.ndim == 1:
            factors = np.repeat(factors[:, None], FEATURES, axis=1)
        if self.structure.has_independent_features:
            z, determinants = residuals * factors[:, None], factors.prod(-1)
        else:
            factors = np.broadcast_to(factors, (COMPONENTS, FEATURES, FEATURES))
            z = np.einsum("knd,kde->kne", residuals, factors)
            determinants = np.diagonal(factors, axis1=1, axis2=2).prod(-1)
        squares = (z**2).sum(-1)
        constants = np.log(self.parameters.weights[0].numpy().astype(np.longdouble))
        constants += np.log(determinants) - FEATURES / 2 * np.log(2 * np.pi * np.longdouble(1))
        return squares, constants[:, None] - squares / 2


def spread_at(bound_of, limit, **options):
    """The distance of the means at which a bound has this value."""

    def excess(log_spread):
        return np.log(bound_of(Case(spread=np.exp(log_spread), **options)) / limit)

    return float(np.exp(brentq(excess, np.log(1e-3), np.log(1e12), xtol=1e-9)))


def of_products(case):
    bound = cancellation_of_products(case.away, case.growth, FEATURES)
    return torch.maximum(bound, rounding_of_sums(case.away)).amax().item()


def of_whitening(case):
    dtype = case.centre.dtype
    error = cancellation_of_whitening(case.away, FEATURES) / TOLERATED_ERROR[dtype]
    loss = rounding_of_whitening(case.away) / TOLERATED_LOSS[dtype]
    return torch.maximum(error, loss).amax().item()


FACTORS = [("below", 0.99), ("above", 1.01)]


@pytest.mark.parametrize(("side", "factor"), FACTORS)
@pytest.mark.parametrize("name", ["full", "diag", "spherical"])
def test_products_are_left_at_their_threshold(name, side, factor):
    spread = spread_at(of_products, factor * TOLERATED_ERROR[torch.float64], name=name)
    ways = Case(name, spread).ways()
    if side == "below":
        assert len(ways.products) == COMPONENTS
    else:
        assert len(ways.products) < COMPONENTS
        assert ways.whitened or ways.sifted
        assert not ways.residuals


@pytest.mark.parametrize(("side", "factor"), FACTORS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["full", "tied"])
def test_whitening_is_left_at_its_threshold(name, dtype, side, factor):
    spread = spread_at(of_whitening, factor, name=name, dtype=dtype)
    ways = Case(name, spread, dtype=dtype).ways()
    if side == "below":
        assert len(ways.whitened) == COMPONENTS
    else:
        assert len(ways.whitened) < COMPONENTS
        assert ways.sifted or len(ways.residuals) == COMPONENTS


def loss_beside_that_of_the_covariance(case):
    return (rounding_of_whitening(case.away) / rounding_of_sums(case.growth)).amax().item()


@pytest.mark.parametrize(("side", "factor"), FACTORS)
def test_whitening_may_lose_as_much_as_the_covariance_itself(side, factor):
    options = {"name": "full", "condition": 1e8}
    spread = spread_at(loss_beside_that_of_the_covariance, factor, **options)
    case = Case(spread=spread, **options)
    assert (rounding_of_whitening(case.away) > TOLERATED_LOSS[torch.float64]).any()
    ways = case.ways()
    assert bool(ways.residuals) == (side == "above")
    assert len(ways.whitened) + len(ways.residuals) == COMPONENTS


@pytest.mark.parametrize(("side", "factor"), FACTORS)
def test_sifting_is_left_at_its_threshold(side, factor):
    def excess(log_condition):
        growth = Case("full", 1e8, np.exp(log_condition)).growth
        return np.log(
            relative_error_of_products(growth).amax().item() / MOST_RELATIVE_ERROR / factor
        )

    condition = np.exp(brentq(excess, 0.0, np.log(1e14), xtol=1e-9))
    ways = Case("full", 1e8, condition).ways()
    assert bool(ways.residuals) == (side == "above")
    assert len(ways.sifted) + len(ways.residuals) == COMPONENTS


@needs_extended_precision
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("condition", [1.0, 1e2, 1e6])
@pytest.mark.parametrize("name", ["full", "diag", "spherical"])
def test_errors_of_products_are_covered_however_far_the_rows_are(name, condition, dtype):
    for spread in (1.0, 1e2, 1e4):
        case = Case(name, spread, condition, dtype)
        squares, expected = case.exact()
        errors = np.abs(case.log_densities(Ways(range(COMPONENTS), (), (), ())) - expected)
        absolute, relative = (
            values[0].double().numpy()[:, None]
            for values in (
                absolute_error_of_products(case.away), relative_error_of_products(case.growth)
            )
        )  # fmt: skip
        # And the rounding of the constant and the result.
        rounding = 8 * torch.finfo(dtype).eps * (1.0 + np.abs(expected))
        assert (errors <= absolute + relative * squares / 2 + rounding).all()
        # Rows at a typical distance.
        near = squares <= typical_distance(FEATURES) ** 2
        bound = cancellation_of_products(case.away, case.growth, FEATURES)[0].double().numpy()
        limits = np.broadcast_to(OBSERVED_EXCESS * bound[:, None] + rounding, errors.shape)
        assert (errors <= limits)[near].all()


@needs_extended_precision
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("condition", [1.0, 1e2, 1e6])
@pytest.mark.parametrize("name", ["full", "tied"])
def test_errors_of_whitening_are_covered(name, condition, dtype):
    for spread in (1.0, 1e2, 1e4):
        case = Case(name, spread, condition, dtype)
        squares, expected = case.exact()
        errors = np.abs(case.log_densities(Ways.all_whitened(COMPONENTS)) - expected)
        distance = typical_distance(FEATURES)
        near = squares <= distance**2
        bound = cancellation_of_whitening(case.away, FEATURES)[0].double().numpy()[:, None]
        # Residuals, too, have errors that grow with the condition.
        growth = case.growth[0].double().numpy()[:, None]
        inherent = (
            OBSERVED_EXCESS * torch.finfo(dtype).eps * (growth * squares + np.abs(expected) + 1)
        )
        limits = np.broadcast_to(OBSERVED_EXCESS * bound + inherent, errors.shape)
        assert (errors <= limits)[near].all()


def heavy_tails(rng, kind):
    rows = rng.standard_normal((3000, FEATURES)) + 3.0 * rng.integers(0, 3, (3000, 1))
    if kind == "outliers":
        rows[::30] *= 1e4
    elif kind == "Student":
        rows /= np.sqrt(rng.chisquare(2, (3000, 1)) / 2)
    elif kind == "lognormal":
        rows = np.exp(2.0 * rng.standard_normal(rows.shape))
    elif kind == "duplicates":
        rows[:300] = 1e5
    elif kind == "narrow":
        rows[:1500, 0] = 1e4 + 1e-3 * rows[:1500, 0]
    return rows


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("kind", ["outliers", "Student", "lognormal", "duplicates", "narrow"])
def test_a_fit_is_that_by_residuals(monkeypatch, name, kind):
    X = heavy_tails(np.random.default_rng(3), kind)

    def fit():
        return GaussianMixture(5, covariance_type=name, random_state=0, max_iter=30).fit(X)

    found = fit()
    chosen = []

    def all_residuals(accuracy, parameters, tolerated=None):
        chosen.append(accuracy)
        return Ways.all_residuals(parameters.weights.numel())

    monkeypatch.setattr(Accuracy, "ways", all_residuals)
    expected = fit()
    assert found.n_iter_ == expected.n_iter_
    # The errors of log-densities are tolerated up to 2e-7 nats.
    np.testing.assert_allclose(found.lower_bound_, expected.lower_bound_, rtol=0, atol=4e-7)
    np.testing.assert_allclose(found.means_, expected.means_, rtol=1e-6, atol=1e-6)
    if name == "full" and kind != "Student":
        assert chosen


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("rows", [FEWEST_TO_WHITEN * 130 - 1, FEWEST_TO_WHITEN * 130])
def test_wide_rows_are_whitened_if_they_are_many(monkeypatch, rows):
    rng = np.random.default_rng(4)
    X = rng.normal(size=(rows, 130)) * rng.uniform(0.1, 10.0, 130)
    X[: rows // 2] += 3.0

    def fit():
        start = {"means_init": X[[0, -1]], "precisions_init": np.stack([np.eye(130)] * 2)}
        return GaussianMixture(2, max_iter=5, reg_covar=1e-3, **start).fit(X)

    chosen, original = [], Accuracy.ways

    def spied(accuracy, parameters, tolerated=None):
        chosen.append(original(accuracy, parameters, tolerated))
        return chosen[-1]

    monkeypatch.setattr(Accuracy, "ways", spied)
    found = fit()
    all_of = Ways.all_residuals if rows < FEWEST_TO_WHITEN * 130 else Ways.all_whitened
    assert {tuple(map(tuple, vars(way).values())) for way in chosen} == {
        tuple(map(tuple, vars(all_of(2)).values()))
    }
    monkeypatch.setattr(
        Accuracy, "ways", lambda accuracy, parameters, tolerated=None: Ways.all_residuals(2)
    )
    expected = fit()
    assert found.n_iter_ == expected.n_iter_
    # Both lose hardly more than the rounding of sums over the rows.
    np.testing.assert_allclose(found.lower_bound_, expected.lower_bound_, rtol=1e-12)
    np.testing.assert_allclose(found.means_, expected.means_, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(found.covariances_, expected.covariances_, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("excess", [0, 1])
def test_many_components_that_share_a_covariance_are_not_whitened(excess):
    components = MOST_TO_WHITEN + excess
    structure = get_structure("tied")
    weights = torch.full((1, components), 1 / components, dtype=torch.float64)
    means = 1e4 * torch.arange(components, dtype=torch.float64).view(1, -1, 1)
    unit = torch.ones(1, 1, 1, dtype=torch.float64)
    parameters = MixtureParameters(weights, means, unit, unit)
    centre = means.mean((0, 1))
    data = KnownData(centre, means.amax((0, 1)) - centre, num_rows=10 * components)
    accuracy = Accuracy(structure, data, components, TOLERATED_ERROR[torch.float64])
    ways = accuracy.ways(parameters)
    assert len(ways.residuals) == (components if excess else 0)
    assert len(ways.whitened) == (0 if excess else components)

"""The bound decides: below it the expanded form, whose error it covers; above it differences."""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from sklearn_torch_gmm.core import inference
from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.core.exact_step import ExactEStep
from sklearn_torch_gmm.core.fast_step import FastEStep
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.rounding import (
    TOLERATED_BESIDE_CHANGES,
    TOLERATED_ERROR,
    cancellation,
    cancellation_of_scatter,
    rounding_of_moments,
)
from sklearn_torch_gmm.core.workspace import Workspace
from sklearn_torch_gmm.em.accuracy import TOLERATED_ERROR_OF_ENTROPY, Accuracy
from sklearn_torch_gmm.em.iterations import Iterations
from sklearn_torch_gmm.em.known_data import KnownData
from sklearn_torch_gmm.em.restarts import Restart, Starts
from sklearn_torch_gmm.em.settings import StartSettings
from tests.core.steps import (
    make_inference,
    make_parameters,
    natural_parameters,
    needs_extended_precision,
    tensor,
)
from tests.em.settings import fit_settings
from tests.estimators import TYPES

FEATURES = 3
ERROR_FACTOR = 4.0
"""The bound leaves out the rounding of the natural parameters themselves."""


class Case:
    """Two components of unit width whose means are ±spread from the centre, and rows in them."""

    def __init__(self, rng, name, spread, dtype=torch.float64):
        self.structure = get_structure(name)
        direction = rng.standard_normal(FEATURES)
        means = spread * np.stack([direction, -direction])
        noise = rng.standard_normal((600, FEATURES))
        self.rows = tensor(np.repeat(means, 300, axis=0) + noise).to(dtype)
        shape = (1, *self.structure.covariance_shape(2, FEATURES))
        unit = self.structure.unit_covariances(torch.empty(shape, dtype=torch.float64))
        half = torch.full((1, 2), 0.5, dtype=torch.float64)
        parameters = make_parameters(self.structure, half, tensor(means[None]), unit)
        self.parameters = parameters.to(dtype=dtype)
        self.centre = torch.zeros(FEATURES, dtype=dtype)
        self.extents = self.rows.abs().amax(0)
        self.natural = natural_parameters(self.parameters, self.centre, self.structure)

    @property
    def bound_of_densities(self):
        return cancellation(self.natural, rounding_of_moments(self.extents, self.structure)).item()

    @property
    def bound(self):
        """Of an iteration, which sums what all components have in common by itself."""
        if not self.structure.has_pooled_scatter:
            return self.bound_of_densities
        factors = self.parameters.precisions_cholesky
        return self.bound_of_densities + cancellation_of_scatter(factors, self.extents).item()


def spread_at(name, bound, dtype=torch.float64, which="bound"):
    """The spread at which a bound has this value."""

    def excess(log_spread):
        case = Case(np.random.default_rng(0), name, np.exp(log_spread), dtype)
        return getattr(case, which) / bound - 1.0

    return float(np.exp(brentq(excess, np.log(1e-2), np.log(1e8), xtol=1e-6)))


@pytest.mark.parametrize(
    ("dtype", "tolerance", "limit"),
    [
        (torch.float64, 1e-3, TOLERATED_ERROR[torch.float64]),
        (torch.float32, 0.1, TOLERATED_BESIDE_CHANGES[torch.float32]),
        (torch.float32, 4e-4, 4e-4),
        (torch.float32, 1e-6, TOLERATED_ERROR[torch.float32]),
    ],
    ids=str,
)
@pytest.mark.parametrize("side", ["below", "above"])
@pytest.mark.parametrize("name", TYPES)
def test_an_iteration_changes_its_form_at_the_threshold(name, side, dtype, tolerance, limit):
    factor = 0.99 if side == "below" else 1.01
    spread = spread_at(name, factor * limit, dtype)
    case = Case(np.random.default_rng(0), name, spread, dtype)
    assert (case.bound < limit) == (side == "below")
    settings = fit_settings(
        num_components=2, covariance_type=name, start=StartSettings("kmeans"), tolerance=tolerance,
        random_state=np.random.RandomState(0),
        trainer_params={"precision": "32-true" if dtype == torch.float32 else "64-true"},
    )  # fmt: skip
    starts = Starts([[Restart(case.parameters)]], case.centre, case.extents)
    iterations = Iterations(starts, [settings], torch.device("cpu"))
    iterations.begin_e_step()
    assert type(iterations.fits[0]._e_step) is (FastEStep if side == "below" else ExactEStep)


@pytest.mark.parametrize("knows_all", [True, False], ids=["all rows", "some rows"])
@pytest.mark.parametrize("side", ["below", "above"])
@pytest.mark.parametrize("name", TYPES)
def test_the_entropy_is_computed_from_sums_below_its_threshold(name, side, knows_all):
    factor = 0.99 if side == "below" else 1.01
    spread = spread_at(name, factor * TOLERATED_ERROR_OF_ENTROPY)
    case = Case(np.random.default_rng(0), name, spread)
    data = KnownData(case.centre, case.extents, knows_all)
    accuracy = Accuracy(case.structure, data, 2, tolerated=1e-9)
    accuracy.look_ahead([case.bound])
    assert accuracy.has_exact_sums == (side == "below" and knows_all)

    direct, short = (
        FastEStep(
            case.parameters, case.centre, case.structure,
            Workspace(torch.float64, torch.device("cpu")),
            natural=case.natural, with_entropy=with_entropy,
        )
        for with_entropy in (True, False)
    )  # fmt: skip
    for step in (direct, short):
        step.add(case.rows)
    error = (short.entropy(short.moments) - direct.entropy(direct.moments)).abs().item()
    assert error <= ERROR_FACTOR * case.bound * len(case.rows)


@needs_extended_precision
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", TYPES)
def test_the_error_just_below_the_threshold_is_tolerable(name, dtype):
    spread = spread_at(name, 0.99 * TOLERATED_ERROR[dtype], dtype)
    case = Case(np.random.default_rng(0), name, spread, dtype)
    moments = torch.empty(case.natural.shape[-1], 600, dtype=dtype)
    moments[1 : FEATURES + 1] = case.rows.T
    case.structure.complete_moments(moments, FEATURES)
    joint = (case.natural[0] @ moments).numpy().astype(np.longdouble)
    rows, means = (a.numpy().astype(np.longdouble) for a in (case.rows, case.parameters.means[0]))
    squares = ((rows - means[:, None]) ** 2).sum(-1)
    if name == "tied":
        squares = squares - (rows**2).sum(-1)
    constant = np.log(np.longdouble(0.5)) - 1.5 * np.log(2 * np.longdouble(np.pi))
    error = float(np.abs(joint - (constant - squares / 2)).max())
    assert error <= ERROR_FACTOR * TOLERATED_ERROR[dtype]
    # It is an error worth a threshold: within three orders of magnitude.
    assert error >= 1e-3 * TOLERATED_ERROR[dtype]


@pytest.mark.parametrize("side", ["below", "above"])
@pytest.mark.parametrize("name", TYPES)
def test_predictions_change_their_form_at_their_threshold(monkeypatch, name, side):
    factor = 0.99 if side == "below" else 1.01
    spread = spread_at(
        name, factor * inference.TOLERATED_ERROR_OF_PREDICTIONS, which="bound_of_densities"
    )
    case = Case(np.random.default_rng(0), name, spread)
    exact = []
    method = inference.Inference._exact_chunks

    def spy(*args, **kwargs):
        exact.append(True)
        return method(*args, **kwargs)

    monkeypatch.setattr(inference.Inference, "_exact_chunks", spy)
    # However few the rows are.
    monkeypatch.setattr(inference, "FEW_DIFFERENCES", 0)
    answers = make_inference(case.parameters, case.structure).log_densities(case.rows)
    assert bool(exact) == (side == "above")
    normal = torch.distributions.Normal(case.parameters.means[0].unsqueeze(1), 1.0)
    expected = (normal.log_prob(case.rows).sum(-1) + np.log(0.5)).logsumexp(0)
    torch.testing.assert_close(
        answers, expected, rtol=0, atol=ERROR_FACTOR * inference.TOLERATED_ERROR_OF_PREDICTIONS
    )


def test_rows_beyond_those_known_are_seen_by_the_bound():
    """The bound before the first pass knows the rows of the start; the one after it, all."""
    case = Case(np.random.default_rng(0), "diag", 10.0)
    settings = fit_settings(
        num_components=2, covariance_type="diag", start=StartSettings("kmeans"),
        random_state=np.random.RandomState(0),
    )  # fmt: skip
    starts = Starts([[Restart(case.parameters)]], case.centre, case.extents)
    iterations = Iterations(starts, [settings], torch.device("cpu"))
    iterations.begin_e_step()
    assert type(iterations.fits[0]._e_step) is FastEStep
    iterations.add(torch.cat([case.rows, torch.full((1, FEATURES), 1e9, dtype=torch.float64)]))
    assert iterations.test(iterations.m_step()).name == "REPEAT"
    iterations.begin_e_step()
    assert type(iterations.fits[0]._e_step) is ExactEStep


def test_means_that_move_far_are_seen_by_the_bound_of_the_moments():
    """Moments about means a million widths away have lost all but four digits."""
    case = Case(np.random.default_rng(0), "full", 1e-3)
    far = case.parameters.means + 1e6
    start = MixtureParameters(
        case.parameters.weights, far, case.parameters.covariances,
        case.parameters.precisions_cholesky,
    )  # fmt: skip
    settings = fit_settings(
        num_components=2, covariance_type="full", start=StartSettings("kmeans"),
        random_state=np.random.RandomState(0),
    )  # fmt: skip
    iterations = Iterations(
        Starts([[Restart(start)]], case.centre, case.extents), [settings], torch.device("cpu")
    )
    outcomes = []
    for _ in range(2):
        iterations.begin_e_step()
        iterations.add(case.rows)
        outcomes.append(iterations.test(iterations.m_step()).name)
    assert outcomes == ["REPEAT", "CONTINUES"]
    assert len(iterations.fits[0].mixtures.restarts[0].lower_bounds) == 1

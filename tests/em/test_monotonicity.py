"""The likelihood rises, or regularization and rounding explain why not, or a warning tells."""

import itertools
import math
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.core.exact_step import ExactEStep
from sklearn_torch_gmm.core.fast_step import FastEStep
from sklearn_torch_gmm.core.fixed import keep_parts
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.rounding import TOLERATED_ERROR
from sklearn_torch_gmm.em.monotonicity import explained_fall, rounding_of_sums
from sklearn_torch_gmm.em.settings import StartSettings
from sklearn_torch_gmm.mixture import GaussianMixture
from tests.core.steps import iterate, make_parameters, masks_of, tensor
from tests.em.settings import fit_settings
from tests.estimators import MIXTURE_CLASSES, TYPES, make


def rounding(likelihood, dtype):
    return rounding_of_sums(likelihood, dtype, TOLERATED_ERROR[dtype])


def settings_of(covariance_type, components, regularization, *, keep_rounding=False):
    return fit_settings(
        num_components=components,
        covariance_type=covariance_type,
        start=StartSettings("kmeans"),
        random_state=np.random.RandomState(0),
        regularization=regularization,
        keep_rounding=keep_rounding,
    )


def clusters(seed, features=3):
    rng = np.random.default_rng(seed)
    return np.vstack([rng.normal(size=(40, features)), rng.normal(size=(40, features)) + 2.0])


def normals(structure, means, variance):
    """Components of equal weight, each with `variance` times the unit matrix."""
    components, features = means.shape
    shape = (1, *structure.covariance_shape(components, features))
    unit = structure.unit_covariances(torch.empty(shape, dtype=torch.float64))
    weights = torch.full((1, components), 1 / components, dtype=torch.float64)
    return make_parameters(structure, weights, tensor(means[None]), variance * unit)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_one_component_by_hand(covariance_type):
    """Rows at ±1 have the variance 1; with 1 added it is 2, and the precision falls from 1 to ½."""
    structure = get_structure(covariance_type)
    before = normals(structure, np.zeros((1, 1)), 1.0)
    rows = tensor([[-1.0], [1.0]])
    result, first = iterate("exact", before, rows, structure, regularization=1.0)
    _, second = iterate("exact", result.parameters, rows, structure)
    explained = explained_fall(
        before, result.parameters, tensor([[2.0]]), settings_of(covariance_type, 1, 1.0)
    )
    fall = (first - second).item() / 2
    assert fall == pytest.approx(0.5 * (math.log(2) - 0.5))
    assert explained.item() == pytest.approx(0.25)


@pytest.mark.parametrize("regularization", [0.0, 1e-3, 10.0])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_no_iteration_falls_by_more(covariance_type, regularization):
    structure = get_structure(covariance_type)
    settings = settings_of(covariance_type, 4, regularization)
    falls = []
    for seed, width in itertools.product(range(3), (1.0, 3.0)):
        X = clusters(seed)
        before = normals(structure, X[:4], width)
        for _ in range(10):
            result, likelihood = iterate(
                "exact", before, tensor(X), structure, regularization=regularization
            )
            after = result.parameters
            _, following = iterate("exact", after, tensor(X), structure)
            explained = explained_fall(before, after, len(X) * after.weights, settings).item()
            falls.append((likelihood - following).item() / len(X))
            assert falls[-1] <= explained + rounding(0.0, torch.float64)
            before = after
    # Regularization does make the likelihood fall, and nothing else does.
    assert (max(falls) > 1e-3) == (regularization > 1e-3)


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize(
    "fixed", [("weights",), ("means",), ("weights", "means"), {"means": [0]}], ids=str
)
def test_no_iteration_beside_fixed_parts_falls_by_more(covariance_type, fixed):
    """Most rows are in a narrow component; fixed weights that deny it explain nothing."""
    structure = get_structure(covariance_type)
    rng = np.random.default_rng(0)
    X = np.vstack([0.1 * rng.normal(size=(40, 2)), 2.0 * rng.normal(size=(4, 2)) + 9.0])
    before = normals(structure, np.array([[0.0, 0.0], [9.0, 9.0]]), 1.0)
    before = replace(before, weights=tensor([[1e-3, 1.0 - 1e-3]]))
    masks = masks_of(fixed, 2)
    falls = []
    for regularization in (0.0,) * 20 + (1e-2,) * 3:
        result, likelihood = iterate(
            "exact",
            before,
            tensor(X),
            structure,
            regularization=regularization,
            kept_means=masks.get("means"),
        )
        after = keep_parts(result, before, masks, structure).parameters
        _, following = iterate("exact", after, tensor(X), structure)
        counts = len(X) * result.parameters.weights
        settings = settings_of(covariance_type, 2, regularization)
        explained = explained_fall(before, after, counts, settings).item()
        falls.append((likelihood - following).item() / len(X))
        assert falls[-1] <= explained + rounding(0.0, torch.float64)
        before = after
    assert max(falls) > 5e-4


def test_rounding_that_is_kept_explains_a_fall():
    """scikit-learn's variance of a single row at μ, 10 eps μ², is no maximum of the likelihood."""
    structure, epsilon = get_structure("diag"), torch.finfo(torch.float64).eps
    # The second one only has a part in the variance of the data.
    means, small = np.array([[1e6], [0.0]]), 1e-6
    before = normals(structure, means, small)
    added = 10 * epsilon * 1e12
    after = normals(structure, means, added)
    explained = {
        keep: explained_fall(
            before, after, tensor([[1.0, 1.0]]), settings_of("diag", 2, 0.0, keep_rounding=keep)
        ).item()
        for keep in (False, True)
    }
    # The rounding of a mean of a million, 2e-10, is nothing beside these widths.
    assert explained[False] < 1e-9
    of_one = 0.5 * added * (1 / small - 1 / added)
    assert explained[True] == pytest.approx(0.5 * of_one, rel=1e-6)


def test_a_component_without_weight_explains_nothing():
    structure = get_structure("diag")
    before = normals(structure, np.array([[0.0], [1.0]]), 1e-300)
    weights = tensor([[1.0, 0.0]])
    before = MixtureParameters(
        weights, before.means, before.covariances, before.precisions_cholesky
    )
    settings = settings_of("diag", 2, 0.0)
    assert explained_fall(before, before, 5.0 * weights, settings).item() < 1e-12


def test_rounding_of_float32_is_larger():
    assert rounding(-5.0, torch.float64) < 1e-5 < rounding(-5.0, torch.float32)


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
def test_a_fall_by_regularization_is_no_reason_to_warn(cls, covariance_type):
    X = clusters(0)
    mixture = make(
        cls, 5, covariance_type=covariance_type, regularization=1.0, tolerance=1e-3, random_state=0
    ).fit(X)
    bounds = mixture.lower_bounds_
    # K-means' clusters are narrow; with 1 added to their variances they lose their rows.
    assert min(np.diff(bounds)) < -rounding(bounds[0], torch.float64)


def test_a_warm_start_is_not_compared_with_the_likelihood_of_other_data():
    X = clusters(0)
    mixture = GaussianMixture(2, random_state=0, warm_start=True).fit(1e-3 * X)
    first = mixture.lower_bound_
    mixture.set_params(max_iter=200).fit(X)
    assert mixture.lower_bounds_[0] < first - 1.0


def correlated(seed, condition=1e15):
    """Rows whose covariance has this condition number."""
    rng = np.random.default_rng(seed)
    directions, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return clusters(seed) @ (directions * condition ** np.array([0, -0.25, -0.5])).T


def falls_told(caught):
    return [w for w in caught if "mean log-likelihood fell" in str(w.message)]


@pytest.mark.parametrize("seed", range(3))
def test_ill_conditioned_covariances_are_told_at_most_once(seed):
    """Whether a likelihood falls at this condition is a matter of rounding."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        GaussianMixture(
            2, covariance_type="tied", reg_covar=0.0, tol=0.0, max_iter=30, random_state=0
        ).fit(correlated(seed))
    assert len(falls_told(caught)) <= 1
    assert all(w.category is ConvergenceWarning for w in falls_told(caught))


@pytest.mark.parametrize("covariance_type", TYPES)
def test_good_covariances_are_not(covariance_type):
    for seed in range(3):
        mixture = GaussianMixture(
            2, covariance_type=covariance_type, reg_covar=0.0, tol=1e-7, max_iter=1000,
            random_state=0,
        ).fit(correlated(seed, condition=1e10))  # fmt: skip
        assert mixture.converged_


@pytest.fixture
def losing(monkeypatch):
    """A likelihood that loses half a nat per row in each iteration after the second."""
    passes = itertools.count()

    def losing_one(right):
        def wrong(step, moments):
            loss = 0.5 * max(0, next(passes) - 1) * moments.counts.sum(-1)
            return right(step, moments) - loss

        return wrong

    for kind in FastEStep, ExactEStep:
        monkeypatch.setattr(kind, "log_likelihood", losing_one(kind.log_likelihood))


@pytest.mark.filterwarnings("ignore:.*did not converge")
@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_a_fall_of_ill_conditioned_covariances_is_told(losing, covariance_type):
    """Half a nat is more than rounding explains, even at this condition."""
    mixture = GaussianMixture(
        2, covariance_type=covariance_type, reg_covar=0.0, tol=0.0, max_iter=6, random_state=0
    )
    with pytest.warns(ConvergenceWarning, match="fell from"):
        mixture.fit(correlated(0, condition=1e10))


@pytest.mark.filterwarnings("ignore:.*did not converge")
@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
def test_a_fall_is_told_once_with_both_values(losing, cls):
    mixture = make(cls, 2, tolerance=0.0, iterations=6, random_state=0)
    with pytest.warns(ConvergenceWarning, match="fell from") as caught:
        mixture.fit(clusters(0))
    (warning,) = falls_told(caught)
    message = str(warning.message)
    before, after = map(float, re.search(r"from (\S+) to (\S+) nats", message).groups())
    np.testing.assert_allclose([before, after], mixture.lower_bounds_[1:3], rtol=1e-9)
    name = "reg_covar" if cls is GaussianMixture else "covariance_regularization"
    assert f"increase {name}" in message
    assert warning.filename == __file__

"""SQUAREM: the limit of EM in fewer passes, and EM itself where a point is rejected."""

import itertools
import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from sklearn.exceptions import ConvergenceWarning
from torch.utils.data import TensorDataset

from sklearn_torch_gmm import GaussianMixtureIC
from sklearn_torch_gmm.core.rounding import TOLERATED_ERROR
from sklearn_torch_gmm.em import acceleration
from sklearn_torch_gmm.em.acceleration import extrapolate, step_lengths
from sklearn_torch_gmm.em.fit import Fit
from sklearn_torch_gmm.em.monotonicity import rounding_of_sums
from sklearn_torch_gmm.exceptions import EmptyComponentWarning
from sklearn_torch_gmm.mixture import GaussianMixture
from tests.core.steps import tensor
from tests.estimators import MIXTURE_CLASSES, TYPES, make

# Rounding of a mean log-likelihood of the order of ten.
ROUNDING = rounding_of_sums(10.0, torch.float64, TOLERATED_ERROR[torch.float64])


@pytest.fixture
def X():
    return overlapping(0)


def overlapping(seed, rows=400, features=2, distance=1.5):
    """Three clusters that EM tells apart slowly."""
    rng = np.random.default_rng(seed)
    centres = distance * rng.normal(size=(3, features))
    return centres[rng.integers(3, size=rows)] + rng.normal(size=(rows, features))


def mixture(**options):
    defaults = {"n_components": 3, "tol": 1e-6, "max_iter": 5000, "random_state": 0}
    return GaussianMixture(**{**defaults, "acceleration": "squarem", **options})


def assert_same_fit(actual, expected, tolerance=1e-8):
    assert (actual.n_iter_, actual.converged_) == (expected.n_iter_, expected.converged_)
    for name in ("weights_", "means_", "covariances_", "lower_bounds_"):
        np.testing.assert_allclose(
            getattr(actual, name), getattr(expected, name), rtol=tolerance, atol=tolerance
        )


# -- the scheme -----------------------------------------------------------------------------------


def leap(points, cap=1e9):
    """The extrapolated point and its step length, from three points in succession."""
    first, second, third = tensor(np.array(points)).unsqueeze(1)
    r = second - first
    v = (third - second) - r
    (step,) = step_lengths(r, v, [cap])
    return extrapolate(first, r, v, [step])[0].tolist(), step


def test_a_quadratic_map_by_hand():
    """x − x²/4 from 1: ¾, then 39/64. r = −¼ and v = 7/64, so s = 16/7 and x' = 1 − 8/7 + 4/7."""
    point, step = leap([[1.0], [0.75], [0.75 - 0.75**2 / 4]])
    assert step == pytest.approx(16 / 7)
    assert point == pytest.approx([3 / 7])


def test_two_dimensions_by_hand():
    """r = (3, 4) and v = (0, −2.5): s = 2, the point is (0, 0) + 4 r + 4 v."""
    point, step = leap([[0.0, 0.0], [3.0, 4.0], [6.0, 5.5]])
    assert step == 2.0
    assert point == [12.0, 6.0]


def test_differences_that_shrink_at_one_rate_end_at_the_limit():
    limit, difference = np.array([1.0, -2.0, 5.0]), np.array([3.0, 1.0, -1.0])
    point, step = leap([limit + 0.9**n * difference for n in range(3)])
    # Rounding, times the step length squared.
    np.testing.assert_allclose(point, limit, rtol=1e-12)
    assert step == pytest.approx(10.0)


def test_a_step_of_one_is_no_extrapolation():
    point, step = leap([[0.0], [1.0], [9.0]])
    assert step == 1.0
    assert point == [9.0]


@pytest.mark.parametrize(
    ("r", "v", "cap", "expected"),
    [
        ([3.0, 4.0], [0.5, 0.0], 64.0, 10.0),
        ([3.0, 4.0], [0.5, 0.0], 4.0, 4.0),
        ([0.5, 0.0], [3.0, 4.0], 4.0, 1.0),
        ([0.0, 0.0], [0.0, 0.0], 4.0, 1.0),
        ([1.0, 0.0], [0.0, 0.0], 4.0, 1.0),
        ([np.nan, 0.0], [1.0, 0.0], 4.0, 1.0),
        ([np.inf, 0.0], [1.0, 0.0], 4.0, 1.0),
        ([1.0, 0.0], [np.nan, 0.0], 4.0, 1.0),
        ([1.0, 0.0], [np.inf, 0.0], 4.0, 1.0),
    ],
)
def test_step_lengths(r, v, cap, expected):
    both = step_lengths(tensor([r, [1.0, 0.0]]), tensor([v, [0.5, 0.0]]), [cap, 9.0])
    assert both == [expected, 2.0]


# -- the limit ------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", TYPES)
def test_the_limit_is_that_of_plain_em(covariance_type):
    X = overlapping(1, rows=150, distance=2.5)
    options = {"covariance_type": covariance_type, "tol": 1e-12, "max_iter": 20_000}
    plain = mixture(acceleration=None, **options).fit(X)
    fast = mixture(**options).fit(X)
    assert plain.converged_
    assert fast.converged_
    assert fast.n_iter_ < plain.n_iter_
    # The top is flat: the likelihood has twice as many digits as the parameters.
    assert fast.lower_bound_ == pytest.approx(plain.lower_bound_, abs=1e-10)
    np.testing.assert_allclose(fast.means_, plain.means_, atol=1e-4)


@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
@pytest.mark.parametrize("covariance_type", TYPES)
def test_fewer_passes_and_no_lower_end(X, cls, covariance_type):
    options = {"covariance_type": covariance_type, "iterations": 5000, "random_state": 0}
    for tolerance in (1e-6, 1e-8):
        plain = make(cls, 3, tolerance=tolerance, **options).fit(X)
        fast = make(cls, 3, tolerance=tolerance, acceleration="squarem", **options).fit(X)
        assert fast.lower_bound_ >= plain.lower_bound_ - tolerance
    assert fast.n_iter_ < 0.5 * plain.n_iter_


def test_iterations_are_passes(X, monkeypatch):
    passes = []
    original = Fit.m_step
    monkeypatch.setattr(Fit, "m_step", lambda fit, sums: passes.append(1) or original(fit, sums))
    fitted = mixture().fit(X)
    assert fitted.n_iter_ == len(passes) == len(fitted.lower_bounds_)


def test_bounds_never_fall():
    """Nothing is added to the variances: every step of EM rises, and every point is checked."""
    for seed, covariance_type in itertools.product(range(5), TYPES):
        X = overlapping(seed, rows=60 + 40 * seed, features=1 + seed)
        fitted = mixture(
            n_components=2 + seed % 3, covariance_type=covariance_type, reg_covar=1e-12,
            init_params="random_from_data", random_state=seed,
        ).fit(X)  # fmt: skip
        assert min(np.diff(fitted.lower_bounds_)) >= -ROUNDING


# -- rejected points ------------------------------------------------------------------------------


def far_away(origin, r, v, steps):
    """All means move by a hundred standard deviations of the data."""
    return origin + 100.0


def out_of_range(origin, r, v, steps):
    """No density of a row can be represented."""
    points = origin.clone()
    points[:, 3:9] += 1e180
    return points


def narrow(origin, r, v, steps):
    """Components that lose all their rows to one that has none to itself."""
    points = origin.clone()
    points[:, 9:] += 200.0
    return points


def none(origin, r, v, steps):
    return torch.full_like(origin, np.nan)


NONSENSE = [far_away, out_of_range, narrow]


@pytest.mark.filterwarnings("ignore:.*did not converge")
@pytest.mark.parametrize("nonsense", NONSENSE)
@pytest.mark.parametrize("covariance_type", TYPES)
def test_em_goes_on_as_if_nothing_had_been_tried(X, monkeypatch, covariance_type, nonsense):
    options = {"covariance_type": covariance_type, "tol": 0.0, "reg_covar": 0.0}
    plain = mixture(acceleration=None, max_iter=40, **options).fit(X)
    monkeypatch.setattr(acceleration, "extrapolate", nonsense)
    for max_iter in (20, 21, 22):
        fast = mixture(max_iter=max_iter, **options).fit(X)
        bounds = np.array(fast.lower_bounds_)
        is_rejected = np.append(False, np.diff(bounds) == 0.0)
        own = bounds[~is_rejected]
        assert len(bounds) == max_iter
        assert 4 < is_rejected.sum() < max_iter / 2
        np.testing.assert_array_equal(own, plain.lower_bounds_[: len(own)])
        # The last pass may have been one that is rejected.
        expected = mixture(acceleration=None, max_iter=len(own), **options).fit(X)
        np.testing.assert_array_equal(fast.means_, expected.means_)
        np.testing.assert_array_equal(fast.covariances_, expected.covariances_)


def test_a_point_that_is_no_mixture_costs_no_pass(X, monkeypatch):
    monkeypatch.setattr(acceleration, "extrapolate", none)
    fast, plain = mixture().fit(X), mixture(acceleration=None, tol=1e-7).fit(X)
    assert_same_fit(fast, plain, tolerance=0.0)


@pytest.mark.filterwarnings("ignore:.*did not converge")
@pytest.mark.parametrize("covariance_type", TYPES)
def test_the_result_is_the_best_point_that_is_known(X, covariance_type):
    for max_iter in range(1, 25):
        fitted = mixture(covariance_type=covariance_type, max_iter=max_iter, tol=0.0).fit(X)
        assert fitted.score(X) >= fitted.lower_bound_ - ROUNDING


class Stop(pl.Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = trainer.current_epoch == self.epoch


@pytest.mark.filterwarnings("ignore:.*did not converge")
def test_a_trainer_that_stops_gets_a_point_that_was_not_extrapolated(X, monkeypatch):
    monkeypatch.setattr(acceleration, "extrapolate", far_away)
    for epoch in (9, 10, 11):
        fitted = mixture(tol=0.0, trainer_params={"callbacks": [Stop(epoch)]}).fit(X)
        assert fitted.n_iter_ == epoch + 1
        assert fitted.score(X) >= fitted.lower_bound_ - ROUNDING


@pytest.mark.parametrize("covariance_type", TYPES)
def test_falls_are_told_of_steps_and_not_of_rejected_points(monkeypatch, covariance_type):
    """Regularization lowers the likelihood, also in the pass after one that was rejected.

    What explains it is the last step of EM, and not one from wide components, which would not.
    """
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(40, 3)), rng.normal(size=(40, 3)) + 2.0])

    def wide(origin, r, v, steps):
        points = origin.clone()
        points[:, 5 * (1 + 3) :] -= 3.0
        return points

    monkeypatch.setattr(acceleration, "extrapolate", wide)
    monkeypatch.setattr(acceleration, "step_lengths", lambda r, v, caps: [2.0] * len(caps))
    monkeypatch.setattr(acceleration, "_is_slow", lambda restart: True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        fitted = mixture(n_components=5, covariance_type=covariance_type, reg_covar=1.0).fit(X)
    changes = np.diff(fitted.lower_bounds_)
    assert changes.min() < -1e-2
    assert (changes == 0.0).sum() > 5


def test_the_exact_way_where_digits_ask_for_it():
    """An offset of 1e9 widths: every pass works with differences."""
    X = overlapping(0) + 1e9
    fast, plain = mixture(tol=1e-7).fit(X), mixture(tol=1e-7, acceleration=None).fit(X)
    assert fast.n_iter_ < plain.n_iter_
    assert fast.lower_bound_ >= plain.lower_bound_ - 1e-7


# -- everything that a fit can have ---------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", TYPES)
def test_weights_are_copies(X, covariance_type):
    weights = np.random.default_rng(0).integers(0, 4, size=len(X))
    labels = np.digitize(X[:, 0], np.quantile(X[:, 0], [1 / 3, 2 / 3]))
    options = {"covariance_type": covariance_type}
    weighted = mixture(**options, init_params=labels).fit(X, sample_weight=weights)
    copied = mixture(**options, init_params=np.repeat(labels, weights))
    # Extrapolation multiplies the rounding of sums in another order.
    assert_same_fit(weighted, copied.fit(np.repeat(X, weights, axis=0)), 1e-6)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_restarts_have_states_of_their_own(X, covariance_type, capsys):
    options = {
        "covariance_type": covariance_type, "n_init": 4, "init_params": "random_from_data",
    }  # fmt: skip
    together = mixture(**options).fit(X)
    one_by_one = mixture(**options, verbose=1).fit(X)
    assert "Initialization converged." in capsys.readouterr().out
    # Products of other sizes are rounded otherwise, and extrapolation multiplies differences.
    assert together.n_iter_ == one_by_one.n_iter_
    np.testing.assert_allclose(together.lower_bounds_, one_by_one.lower_bounds_, rtol=1e-7)


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize(
    "fixed",
    [("weights",), ("means",), ("covariances",), ("weights", "covariances"), {"means": [1]},
     {"weights": [0, 2], "means": [0]}, {"weights": [2]}],
    ids=str,
)  # fmt: skip
def test_fixed_parts_stay_exactly(X, covariance_type, fixed):
    start = mixture(covariance_type=covariance_type, tol=1e-3, acceleration=None).fit(X)
    fitted = mixture(
        covariance_type=covariance_type, fixed=fixed, tol=1e-8, weights_init=start.weights_,
        means_init=start.means_, precisions_init=start.precisions_,
    )  # fmt: skip
    # The start is what no iteration has changed.
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        given = mixture(**{**fitted.get_params(), "max_iter": 1, "acceleration": None}).fit(X)
    fitted.fit(X)
    chosen = fixed if isinstance(fixed, dict) else dict.fromkeys(fixed, slice(None))
    for part, components in chosen.items():
        whole = covariance_type == "tied" and part == "covariances"
        index = slice(None) if whole else components
        np.testing.assert_array_equal(
            getattr(fitted, f"{part}_")[index], getattr(given, f"{part}_")[index]
        )
    assert fitted.weights_.sum() == pytest.approx(1.0, abs=1e-12)
    assert fitted.n_iter_ > 4


@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_fixed_weight_of_zero(X, covariance_type):
    fitted = mixture(
        covariance_type=covariance_type, weights_init=[0.4, 0.6, 0.0], fixed={"weights": [2]}
    )
    with pytest.warns(EmptyComponentWarning):
        fitted.fit(X)
    assert fitted.weights_[2] == 0.0
    assert fitted.converged_
    assert np.isfinite(fitted.covariances_).all()


@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_component_without_rows(X, covariance_type):
    """It starts a thousand widths away."""
    means = np.vstack([X[:2], [[1e3, 1e3]]])
    options = {"covariance_type": covariance_type, "means_init": means}
    with pytest.warns(EmptyComponentWarning):
        fast = mixture(**options).fit(X)
    with pytest.warns(EmptyComponentWarning):
        plain = mixture(acceleration=None, **options).fit(X)
    np.testing.assert_array_equal(fast.means_[2], plain.means_[2])
    assert fast.lower_bound_ >= plain.lower_bound_ - 1e-6


def test_streams_and_batches_give_the_mixture_of_an_array(X):
    options = {"means_init": X[:3], "tol": 1e-5}
    expected = mixture(**options).fit(X)
    for data in (X, TensorDataset(torch.tensor(X))):
        actual = mixture(batch_size=70, **options).fit(data)
        # Sums in another order, and differences that extrapolation has multiplied.
        assert_same_fit(actual, expected, tolerance=1e-6)


def test_single_precision(X):
    options = {"trainer_params": {"precision": "32-true"}, "tol": 1e-4}
    fast = mixture(**options).fit(X.astype(np.float32))
    plain = mixture(**options, acceleration=None).fit(X.astype(np.float32))
    assert fast.lower_bound_ >= plain.lower_bound_ - 1e-4
    rounding = rounding_of_sums(10.0, torch.float32, TOLERATED_ERROR[torch.float32])
    assert min(np.diff(fast.lower_bounds_)) >= -rounding


@pytest.mark.filterwarnings("ignore:.*did not converge")
def test_a_warm_start_goes_on(X):
    fitted = mixture(warm_start=True, max_iter=12)
    first = fitted.fit(X).lower_bound_
    assert fitted.fit(X).lower_bounds_[0] >= first - ROUNDING
    fitted.set_params(max_iter=1000).fit(X)
    assert fitted.converged_


def test_a_smallest_number_of_passes(X):
    fitted = mixture(tol=1e-3, trainer_params={"min_epochs": 60}).fit(X)
    assert fitted.n_iter_ == 60
    assert fitted.converged_


def test_the_stop_is_at_a_tenth_of_the_tolerance(X):
    fitted = mixture(tol=1e-5).fit(X)
    assert abs(np.diff(fitted.lower_bounds_)[-1]) < 1e-6
    assert fitted.converged_


def test_a_sweep_has_the_fits_of_its_own(X):
    options = {"covariance_type": ["full", "tied"], "n_init": 2, "tol": 1e-5, "random_state": 0}
    search = GaussianMixtureIC(1, 3, acceleration="squarem", max_iter=500, **options).fit(X)
    results = search.results_
    for row in np.flatnonzero(results["is_kept"]):
        alone = mixture(
            n_components=results["n_components"][row], max_iter=500,
            **{**options, "covariance_type": results["covariance_type"][row]},
        ).fit(X)  # fmt: skip
        assert results["n_iter"][row] == alone.n_iter_
        # Of the parameters that a fit of its own ends with, not of an extrapolated point.
        assert results["log_likelihood"][row] == pytest.approx(alone.score(X) * len(X), rel=1e-7)
    assert search.best_estimator_.acceleration == "squarem"


@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
def test_another_name_is_told_in_scikit_learns_words(X, cls):
    wrong = make(cls, 2).set_params(acceleration="anderson")
    with pytest.raises(
        ValueError,
        match=r"The 'acceleration' parameter of GaussianMixture must be a str among {'squarem'} or "
        r"None\. Got 'anderson' instead\.",
    ):
        wrong.fit(X)
    with pytest.raises(ValueError, match="The 'acceleration' parameter of GaussianMixtureIC"):
        GaussianMixtureIC(acceleration=True).fit(X)

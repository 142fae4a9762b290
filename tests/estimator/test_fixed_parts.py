"""Fixed parts of a mixture, in all methods of both classes."""

from itertools import chain, combinations

import numpy as np
import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from sklearn_torch_gmm.core.fixed import PARTS
from sklearn_torch_gmm.em.estimation import MaximumLikelihood
from sklearn_torch_gmm.exceptions import EmptyComponentWarning
from tests.core.oracle import (
    beside_fixed,
    log_densities,
    moved,
    responsibilities,
    weighted_sums,
)
from tests.estimators import (
    MIXTURE_CLASSES,
    TYPES,
    DropIn,
    TorchMixture,
    assert_same_mixture,
    fitted_mixture,
    make,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

MEANS = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
REGULARIZATION = 0.01
SOME = list(chain.from_iterable(combinations(PARTS, n) for n in (1, 2)))

each_class = pytest.mark.parametrize("cls", MIXTURE_CLASSES, ids=["documented", "drop-in"])
each_type = pytest.mark.parametrize("covariance_type", TYPES)
each_choice = pytest.mark.parametrize("fixed", SOME, ids="+".join)


def draw(num_rows, seed=0):
    """Rows of components that overlap, about other means than a fit starts from."""
    rng = np.random.default_rng(seed)
    scales = np.array([[1.0, 0.6], [0.7, 1.2], [1.0, 1.0]])
    labels = rng.integers(3, size=num_rows)
    return MEANS[labels] + 0.5 + scales[labels] * rng.standard_normal((num_rows, 2))


def at_means(X, num_components, random_state):
    return MEANS[:num_components]


def mixture_of(cls, covariance_type="full", **params):
    defaults = {"regularization": REGULARIZATION, "start": at_means, "random_state": 0}
    return make(cls, 3, covariance_type=covariance_type, **defaults | params)


def assert_kept(estimator, start, fixed):
    """To the last bit, and nothing else."""
    for part in PARTS:
        is_same = np.array_equal(getattr(estimator, f"{part}_"), getattr(start, f"{part}_"))
        assert is_same == (part in fixed), part
    if "covariances" in fixed:
        np.testing.assert_array_equal(estimator.precisions_cholesky_, start.precisions_cholesky_)


def assert_same_fit(actual, expected, tolerance=1e-10):
    assert actual.n_iter_ == expected.n_iter_
    for name in ("weights_", "means_", "covariances_", "lower_bounds_"):
        np.testing.assert_allclose(
            getattr(actual, name), getattr(expected, name), rtol=tolerance, atol=tolerance
        )


def fitted_as_by_loops(cls, covariance_type, fixed):
    """A fit that was compared with loops, and the start of both."""
    X = draw(60)
    weights = np.random.default_rng(1).uniform(0.5, 2.0, size=60)
    start = mixture_of(cls, covariance_type, iterations=0).fit(X, sample_weight=weights)
    expected, bounds = fitted_mixture(start), []
    for _ in range(3):
        bounds.append(np.average(log_densities(expected, X), weights=weights))
        sums = weighted_sums(X, responsibilities(expected, X), weights)
        expected = beside_fixed(covariance_type, expected, sums, fixed, REGULARIZATION)
    options = {"fixed": fixed, "iterations": 3, "tolerance": 0.0, "batch_size": 25}
    mixture = mixture_of(cls, covariance_type, **options).fit(X, sample_weight=weights)
    assert_same_mixture(mixture, expected)
    np.testing.assert_allclose(mixture.lower_bounds_, bounds, rtol=1e-9)
    return mixture, start


def fitted_without_a_fall(covariance_type, fixed):
    options = {"fixed": fixed, "iterations": 15, "tolerance": 0.0, "regularization": 0.0}
    mixture = mixture_of(DropIn, covariance_type, **options).fit(draw(200))
    assert np.diff(mixture.lower_bounds_).min() > -1e-12
    assert mixture.lower_bounds_[-1] > mixture.lower_bounds_[0]
    return mixture


# -- what a fit does ------------------------------------------------------------------------------


@each_type
@each_choice
@pytest.mark.parametrize(("cls", "exact"), [(TorchMixture, False), (DropIn, True)])
def test_iterations_by_loops(cls, covariance_type, fixed, exact, monkeypatch):
    if exact:
        monkeypatch.setattr(MaximumLikelihood, "tolerated_error", lambda *_: -1.0)
    mixture, start = fitted_as_by_loops(cls, covariance_type, fixed)
    assert_kept(mixture, start, fixed)


@each_type
@each_choice
def test_the_likelihood_never_falls(covariance_type, fixed):
    fitted_without_a_fall(covariance_type, fixed)


@each_class
@pytest.mark.parametrize("tolerance", [0.0, 1e-3])
def test_with_all_parts_fixed_one_iteration_says_how_likely_the_rows_are(cls, tolerance):
    X = draw(100)
    start = mixture_of(cls, iterations=0).fit(X)
    mixture = mixture_of(cls, fixed=PARTS, tolerance=tolerance).fit(X)
    assert mixture.converged_
    assert mixture.n_iter_ == 1
    assert_kept(mixture, start, PARTS)
    assert mixture.lower_bound_ == pytest.approx(start.score(X), rel=1e-12)


@each_type
def test_what_is_given_is_kept_without_regularization(covariance_type):
    precisions = {
        "full": np.stack([np.eye(2) * k for k in (0.5, 1.0, 2.0)]),
        "tied": np.array([[1.0, 0.2], [0.2, 0.5]]),
        "diag": np.array([[1.0, 2.0], [0.5, 0.5], [3.0, 1.0]]),
        "spherical": np.array([0.5, 1.0, 2.0]),
    }[covariance_type]
    given = {"weights_init": [0.2, 0.3, 0.5], "means_init": MEANS, "precisions_init": precisions}
    mixture = DropIn(3, covariance_type=covariance_type, reg_covar=0.5, **given)
    for fixed in SOME:
        mixture.set_params(fixed=fixed).fit(draw(100))
        if "weights" in fixed:
            assert mixture.weights_.tolist() == [0.2, 0.3, 0.5]
        if "means" in fixed:
            np.testing.assert_array_equal(mixture.means_, MEANS)
        if "covariances" in fixed:
            np.testing.assert_allclose(mixture.precisions_, precisions, rtol=1e-14, atol=1e-16)


@each_class
@each_choice
def test_each_start_keeps_its_own(cls, fixed):
    X = draw(80)
    options = {"start": "random", "iterations": 20, "fixed": fixed}
    several = mixture_of(cls, starts=3, **options | {"random_state": np.random.RandomState(3)})
    several.fit(X)
    one = mixture_of(cls, **options | {"random_state": np.random.RandomState(3)})
    bounds = [one.fit(X).lower_bounds_ for _ in range(3)]
    assert len({b[-1] for b in bounds}) > 1
    best = max(bounds, key=lambda b: b[-1])
    np.testing.assert_allclose(several.lower_bounds_, best, rtol=1e-11)


@each_class
def test_the_warning_of_a_component_without_rows_says_what_it_keeps(cls):
    X = np.random.default_rng(0).normal(size=(50, 2))
    known = cls.from_parameters(
        [0.5, 0.5], [[0.0, 0.0], [1e3, 1e3]], [np.eye(2)] * 2, fixed=("covariances",)
    )
    with pytest.warns(EmptyComponentWarning, match="keeps its last mean and covariance"):
        known.partial_fit(X)
    np.testing.assert_array_equal(known.covariances_, [np.eye(2)] * 2)
    assert known.means_[1].tolist() == [1e3, 1e3]


@pytest.mark.parametrize("regularization", [0.0, 1e-6])
def test_a_component_without_rows_needs_no_variance_where_its_own_is_fixed(regularization):
    X = np.random.default_rng(0).normal(size=(50, 2))
    given = {
        "weights_init": [0.5, 0.5],
        "means_init": [[0.0, 0.0], [1e3, 1e3]],
        "precisions_init": [np.eye(2)] * 2,
    }
    mixture = DropIn(2, fixed=("covariances",), reg_covar=regularization, **given)
    with pytest.warns(EmptyComponentWarning):
        mixture.fit(X)
    np.testing.assert_array_equal(mixture.covariances_, [np.eye(2)] * 2)


# -- where a fit goes on --------------------------------------------------------------------------


def known(cls, covariance_type, **params):
    covariances = {
        "full": [np.eye(2) * 0.8] * 3,
        "tied": np.eye(2) * 0.8,
        "diag": np.full((3, 2), 0.8),
        "spherical": np.full(3, 0.8),
    }[covariance_type]
    return cls.from_parameters(
        [0.2, 0.3, 0.5], MEANS, covariances, covariance_type=covariance_type, **params
    )


@each_class
@each_type
@each_choice
def test_updates_of_known_parameters_by_loops(cls, covariance_type, fixed):
    """The first batch moves them all the way, the second by its share of the rows."""
    mixture = known(cls, covariance_type, fixed=fixed)
    start, expected = known(cls, covariance_type), fitted_mixture(mixture)
    for seed, step in ((0, 1.0), (1, 0.5**0.7)):
        X = draw(70, seed)
        expected = moved(covariance_type, expected, X, np.ones(70), step, 1e-6, fixed)
        mixture.partial_fit(X)
        assert_same_mixture(mixture, expected)
    assert_kept(mixture, start, fixed)


@each_class
@each_choice
def test_updates_from_the_first_batch(cls, fixed):
    X = draw(90)
    start = mixture_of(cls, iterations=0).fit(X)
    mixture = mixture_of(cls, fixed=fixed).partial_fit(X)
    expected = moved("full", fitted_mixture(start), X, np.ones(90), 1.0, REGULARIZATION, fixed)
    assert_same_mixture(mixture, expected)
    assert_kept(mixture, start, fixed)


@each_type
@each_choice
def test_a_warm_start_keeps_what_was_there(covariance_type, fixed):
    X = draw(100)
    mixture = known(DropIn, covariance_type, fixed=fixed, warm_start=True).fit(X)
    assert mixture.converged_
    assert_kept(mixture, known(DropIn, covariance_type), fixed)
    # Another iteration gains less than the tolerance.
    before = fitted_mixture(mixture)
    sums = weighted_sums(X, responsibilities(before, X))
    after = beside_fixed(covariance_type, before, sums, fixed, 1e-6)
    assert log_densities(after, X).mean() == pytest.approx(mixture.score(X), abs=2e-3)


# -- what else an estimator goes through ----------------------------------------------------------


class Interrupted(Exception):
    pass


class Stop(pl.Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 3:
            raise Interrupted


@each_choice
def test_a_checkpoint_goes_on_beside_them(fixed, tmp_path):
    X = draw(100)
    options = {"fixed": fixed, "iterations": 7, "tolerance": 0.0}
    saving = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    params = {"enable_checkpointing": True, "callbacks": [saving, Stop()]}
    with pytest.raises(Interrupted):
        mixture_of(DropIn, **options, trainer_params=params).fit(X)
    resumed = mixture_of(DropIn, **options).fit(X, ckpt_path=tmp_path / "epoch=2.ckpt")
    assert_same_fit(resumed, mixture_of(DropIn, **options).fit(X), 0.0)
    assert_kept(resumed, mixture_of(DropIn, iterations=0).fit(X), fixed)


@each_class
def test_it_is_saved_and_cloned(cls, tmp_path):
    mixture = known(cls, "full", fixed=("weights", "covariances")).partial_fit(draw(50))
    mixture.save(tmp_path)
    loaded = cls.load(tmp_path)
    assert loaded.fixed == mixture.clone().fixed == ("weights", "covariances")
    assert loaded.known_parts_ == ["weights", "covariances"]
    X = draw(50, 1)
    assert loaded.bic(X) == mixture.bic(X)
    np.testing.assert_array_equal(loaded.partial_fit(X).means_, mixture.partial_fit(X).means_)


@pytest.mark.parametrize("kind", [list, tuple])
def test_kinds_of_collections(kind):
    mixture = mixture_of(DropIn, fixed=kind(["means"])).fit(draw(50))
    np.testing.assert_array_equal(mixture.means_, MEANS)


@each_class
@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        (("mean",), r"'fixed' must name parts of .*'means'.*got 'mean'"),
        (["weights", 3], "got 3"),
        ("means", "'fixed' parameter .* must be an instance of 'tuple', an instance of 'list'"),
        (None, "'fixed' parameter"),
    ],
)
def test_what_names_no_parts(cls, fixed, message):
    X = draw(50)
    for call in (lambda: cls(fixed=fixed).fit(X), lambda: cls(fixed=fixed).partial_fit(X)):
        with pytest.raises(ValueError, match=message):
            call()


# -- criteria -------------------------------------------------------------------------------------

NUMBERS = {"weights": 2, "means": 6, "covariances": 9}


def number_of_parameters(mixture, X):
    """From the difference of the criteria, log N · p − 2 p."""
    return (mixture.bic(X) - mixture.aic(X)) / (np.log(len(X)) - 2)


@each_class
@each_choice
def test_parts_that_were_given_are_not_estimated(cls, fixed):
    """Whatever the fit does with the others afterwards."""
    X = draw(50)
    expected = 17 - sum(NUMBERS[part] for part in fixed)
    mixture = known(cls, "full", fixed=fixed)
    for fitted in (mixture, mixture.partial_fit(X), mixture.partial_fit(X)):
        assert fitted.known_parts_ == list(fixed)
        assert number_of_parameters(fitted, X) == pytest.approx(expected)


@each_class
def test_parts_that_the_start_found_are_estimated(cls):
    X = draw(50)
    mixture = mixture_of(cls, start="kmeans", fixed=("means",)).fit(X)
    assert number_of_parameters(mixture, X) == pytest.approx(17)
    given = {"init_means": MEANS} if cls is not DropIn else {"means_init": MEANS}
    mixture.set_params(**given).fit(X)
    assert number_of_parameters(mixture, X) == pytest.approx(11)
    # What is given and not kept is a start, no more.
    mixture.set_params(fixed=()).fit(X)
    assert number_of_parameters(mixture, X) == pytest.approx(17)


def test_a_warm_start_does_not_forget_what_was_given():
    X = draw(50)
    mixture = DropIn(3, weights_init=[0.2, 0.3, 0.5], fixed=("weights",), warm_start=True)
    assert number_of_parameters(mixture.fit(X).fit(X), X) == pytest.approx(15)
    mixture.set_params(fixed=("weights", "means")).fit(X)
    assert number_of_parameters(mixture, X) == pytest.approx(15)

"""Single components whose parameters stay, in all methods of both classes."""

import pickle

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from sklearn.base import clone

from sklearn_torch_gmm.exceptions import EmptyComponentWarning
from tests.core.oracle import (
    moved,
)
from tests.estimator.test_fixed_parts import (
    MEANS,
    Interrupted,
    Stop,
    assert_same_fit,
    draw,
    each_class,
    each_type,
    fitted_as_by_loops,
    fitted_without_a_fall,
    known,
    mixture_of,
    number_of_parameters,
)
from tests.estimators import DropIn, assert_same_mixture, fitted_mixture, make

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

CHOICES = [
    {"weights": [1]},
    {"means": [0, 2]},
    {"covariances": [2]},
    {"weights": [0, 1], "means": [1], "covariances": [0, 1]},
]

each_choice = pytest.mark.parametrize("fixed", CHOICES, ids=str)


def skip_unless_possible(covariance_type, fixed):
    if covariance_type == "tied" and "covariances" in fixed:
        pytest.skip("all components share one covariance")


def assert_kept(estimator, start, fixed):
    """To the last bit, and nothing else; the last free weight is what the others leave."""
    for part in ("weights", "means", "covariances"):
        found, before = getattr(estimator, f"{part}_"), getattr(start, f"{part}_")
        if part == "covariances" and estimator.covariance_type == "tied":
            assert (found != before).any()
            continue
        same = [np.array_equal(f, b) for f, b in zip(found, before, strict=True)]
        expected = [k in fixed.get(part, ()) for k in range(3)]
        if expected.count(False) == 1 and part == "weights":
            np.testing.assert_allclose(found, before, rtol=1e-14)
        else:
            assert same == expected, part
        if part == "covariances":
            chosen = fixed.get(part, [])
            factors = start.precisions_cholesky_[chosen]
            np.testing.assert_array_equal(estimator.precisions_cholesky_[chosen], factors)


@each_class
@each_type
@each_choice
def test_iterations_by_loops(cls, covariance_type, fixed):
    skip_unless_possible(covariance_type, fixed)
    mixture, start = fitted_as_by_loops(cls, covariance_type, fixed)
    assert_kept(mixture, start, fixed)


@each_type
@each_choice
def test_the_likelihood_never_falls(covariance_type, fixed):
    skip_unless_possible(covariance_type, fixed)
    mixture = fitted_without_a_fall(covariance_type, fixed)
    assert mixture.weights_.sum() == pytest.approx(1.0, abs=1e-14)


def test_a_known_background_and_a_free_signal():
    """A narrow signal in a background that is known but for its weight."""
    rng = np.random.default_rng(0)
    background = np.array([[4.0, 0.5], [0.5, 3.0]])
    X = np.vstack(
        [
            rng.multivariate_normal([1.0, -1.0], background, size=1900),
            np.array([2.0, 2.0]) + 0.2 * rng.normal(size=(100, 2)),
        ]
    )
    mixture = DropIn(
        2,
        weights_init=[0.5, 0.5],
        means_init=[[1.0, -1.0], [1.5, 1.5]],
        precisions_init=[np.linalg.inv(background), np.eye(2)],
        fixed={"means": [0], "covariances": [0]},
        reg_covar=0.0,
        tol=1e-6,
    ).fit(X)
    np.testing.assert_array_equal(mixture.means_[0], [1.0, -1.0])
    np.testing.assert_allclose(mixture.covariances_[0], background, rtol=1e-14)
    assert mixture.means_[1] == pytest.approx([2.0, 2.0], abs=0.06)
    assert mixture.weights_[1] == pytest.approx(0.05, abs=0.015)
    assert mixture.known_parts_ == {"means": [0], "covariances": [0]}
    # One weight, one mean of two features, one covariance of three entries.
    assert number_of_parameters(mixture, X) == pytest.approx(1 + 2 + 3)


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
@each_type
@each_choice
def test_updates_of_known_parameters_by_loops(cls, covariance_type, fixed):
    skip_unless_possible(covariance_type, fixed)
    mixture = known(cls, covariance_type, fixed=fixed)
    start, expected = known(cls, covariance_type), fitted_mixture(mixture)
    for seed, step in ((0, 1.0), (1, 0.5**0.7)):
        X = draw(70, seed)
        expected = moved(covariance_type, expected, X, np.ones(70), step, 1e-6, fixed)
        mixture.partial_fit(X)
        assert_same_mixture(mixture, expected)
    assert_kept(mixture, start, fixed)


@each_type
@each_choice
def test_a_warm_start_keeps_what_was_there(covariance_type, fixed):
    skip_unless_possible(covariance_type, fixed)
    mixture = known(DropIn, covariance_type, fixed=fixed, warm_start=True).fit(draw(100))
    assert_kept(mixture, known(DropIn, covariance_type), fixed)
    assert mixture.known_parts_ == fixed


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


@each_class
def test_it_is_saved_pickled_and_cloned(cls, tmp_path):
    fixed = {"means": np.array([True, False, True]), "covariances": [1], "weights": True}
    mixture = known(cls, "full", fixed=fixed).partial_fit(draw(50))
    mixture.save(tmp_path)
    X = draw(50, 1)
    for copy in (cls.load(tmp_path), pickle.loads(pickle.dumps(mixture))):
        parts = {"weights": [0, 1, 2], "means": [0, 2], "covariances": [1]}
        assert copy.known_parts_ == mixture.known_parts_ == parts
        assert copy.bic(X) == mixture.bic(X)
        again = clone(mixture.partial_fit(X))
        assert set(again.fixed) == set(fixed)
        np.testing.assert_array_equal(copy.partial_fit(X).means_, mixture.means_)
        np.testing.assert_array_equal(copy.means_[[0, 2]], MEANS[[0, 2]])
        mixture = known(cls, "full", fixed=fixed).partial_fit(draw(50))


@pytest.mark.parametrize(
    "chosen",
    [
        [2, 0],
        (0, 2),
        np.array([0, 2], np.uint8),
        [True, False, True],
        np.array([True, False, True]),
        torch.tensor([True, False, True]),
        [0, 0, 2],
    ],
    ids=str,
)
def test_kinds_of_choices(chosen):
    X = draw(50)
    expected = mixture_of(DropIn, fixed={"means": [0, 2]}).fit(X)
    mixture = mixture_of(DropIn, fixed={"means": chosen}).fit(X)
    assert_same_fit(mixture, expected, 0.0)
    np.testing.assert_array_equal(mixture.means_[[0, 2]], MEANS[[0, 2]])


@each_type
def test_all_components_are_the_whole_part_and_no_components_are_nothing(covariance_type):
    X = draw(50)
    whole = mixture_of(DropIn, covariance_type, fixed=("means", "covariances")).fit(X)
    for everything in (True, [0, 1, 2], np.ones(3, bool)):
        fixed = {"means": everything, "covariances": everything, "weights": False}
        mixture = mixture_of(DropIn, covariance_type, fixed=fixed).fit(X)
        assert_same_fit(mixture, whole, 0.0)
    free = mixture_of(DropIn, covariance_type).fit(X)
    for nothing in (False, [], np.zeros(3, bool)):
        fixed = {"means": nothing, "covariances": nothing}
        mixture = mixture_of(DropIn, covariance_type, fixed=fixed).fit(X)
        assert_same_fit(mixture, free, 0.0)


@each_class
@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"mean": [0]}, r"'fixed' must name parts of .*'means'.*got 'mean'"),
        ([0, 2], r"got 0. Single components are fixed by a dict, such as {'means': \[0, 2\]}"),
        ({"means": [0, 3]}, r"names component 3, but with n\w+_components=3 .* are 0 to 2"),
        ({"means": [-1]}, "names component -1"),
        ({"means": [True, False]}, r"fixed\['means'\] must be True, a list .* shape \(3,\)"),
        ({"means": [True, 1]}, "a list of component numbers"),
        ({"means": (2, np.True_)}, "a list of component numbers"),
        ({"means": [0.0]}, "a list of component numbers"),
        ({"means": 0}, "a list of component numbers"),
        ({"means": "all"}, "a list of component numbers"),
        ({"means": [[0], [1, 2]]}, "a list of component numbers"),
        ({"covariances": [0]}, "covariance_type='tied' .* share one covariance"),
    ],
)
def test_what_names_no_components(cls, fixed, message):
    X = draw(50)
    mixture = make(cls, 3, covariance_type="tied").set_params(fixed=fixed)
    message = message.replace(r"n\w+_components", mixture._vocabulary.components)
    for call in (mixture.fit, mixture.partial_fit):
        with pytest.raises(ValueError, match=message):
            call(X)


def test_an_empty_component_keeps_a_fixed_covariance_only():
    X = np.random.default_rng(0).normal(size=(50, 2))
    means = [[0.0, 0.0], [1e3, 1e3], [-1e3, 1e3]]
    mixture = DropIn.from_parameters(
        [0.4, 0.3, 0.3], means, [np.eye(2)] * 3, fixed={"covariances": [1]}
    )
    with pytest.warns(EmptyComponentWarning, match="or its covariance if that is fixed"):
        mixture.partial_fit(X)
    np.testing.assert_array_equal(mixture.means_[1:], means[1:])
    np.testing.assert_array_equal(mixture.covariances_[1], np.eye(2))
    assert (np.diagonal(mixture.covariances_[2]) != 1.0).all()


def test_free_weights_stay_where_no_free_component_has_rows():
    X = np.random.default_rng(0).normal(size=(50, 2))
    mixture = DropIn.from_parameters(
        [0.4, 0.35, 0.25],
        [[0.0, 0.0], [1e3, 1e3], [-1e3, 1e3]],
        [np.eye(2)] * 3,
        fixed={"weights": [0]},
    )
    with pytest.warns(EmptyComponentWarning):
        mixture.partial_fit(X)
    assert mixture.weights_.tolist() == [0.4, 0.35, 0.25]


def test_what_is_given_is_counted_by_component():
    X = draw(50)
    mixture = DropIn(3, means_init=MEANS, fixed={"means": [0, 2], "weights": [1]}).fit(X)
    # The weights were found by the start, the means given.
    assert mixture.known_parts_ == {"means": [0, 2]}
    assert number_of_parameters(mixture, X) == pytest.approx(17 - 4)
    mixture = known(DropIn, "full", fixed={"weights": [1]})
    assert number_of_parameters(mixture, X) == pytest.approx(17 - 1)
    mixture = known(DropIn, "full", fixed={"weights": [0, 1]})
    assert number_of_parameters(mixture, X) == pytest.approx(17 - 2)

"""Mixtures whose parameters the user knows."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.base import clone

from tests.estimators import MIXTURE_CLASSES, TYPES, DropIn, TorchMixture

each_class = pytest.mark.parametrize("cls", MIXTURE_CLASSES, ids=["documented", "drop-in"])
each_type = pytest.mark.parametrize("covariance_type", TYPES)

WEIGHTS = np.array([0.2, 0.3, 0.5])
MEANS = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
MATRIX = np.array([[2.0, 0.6], [0.6, 1.0]])
COVARIANCES = {
    "full": np.stack([MATRIX, 0.5 * MATRIX, np.eye(2)]),
    "tied": MATRIX,
    "diag": np.array([[1.0, 2.0], [0.5, 1.0], [3.0, 0.1]]),
    "spherical": np.array([1.0, 0.5, 2.0]),
}


def matrices(covariance_type):
    covariances = COVARIANCES[covariance_type]
    return {
        "full": lambda: covariances,
        "tied": lambda: np.stack([covariances] * 3),
        "diag": lambda: np.stack([np.diag(variances) for variances in covariances]),
        "spherical": lambda: np.stack([variance * np.eye(2) for variance in covariances]),
    }[covariance_type]()


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return MEANS[rng.integers(3, size=120)] + rng.standard_normal((120, 2))


def known(cls, covariance_type, **params):
    return cls.from_parameters(
        WEIGHTS, MEANS, COVARIANCES[covariance_type], covariance_type=covariance_type, **params
    )


@each_class
@each_type
def test_given_parameters_predict_score_and_sample(X, cls, covariance_type):
    mixture = known(cls, covariance_type, random_state=0)
    joint = np.stack(
        [
            weight * multivariate_normal(mean, matrix).pdf(X)
            for weight, mean, matrix in zip(WEIGHTS, MEANS, matrices(covariance_type), strict=True)
        ],
        axis=1,
    )
    np.testing.assert_allclose(mixture.score_samples(X), np.log(joint.sum(1)), rtol=1e-12)
    np.testing.assert_array_equal(mixture.predict(X), joint.argmax(1))
    np.testing.assert_allclose(
        mixture.predict_proba(X), joint / joint.sum(1, keepdims=True), rtol=1e-11
    )
    assert mixture.score(X) == pytest.approx(np.log(joint.sum(1)).mean())
    assert np.isfinite([mixture.bic(X), mixture.aic(X)]).all()

    rows = mixture.sample(20_000)
    rows = rows[0] if cls is DropIn else rows
    mean = WEIGHTS @ MEANS
    centred = MEANS - mean
    covariance = np.tensordot(
        WEIGHTS, matrices(covariance_type) + centred[:, :, None] * centred[:, None], axes=1
    )
    # Five standard errors of a mean of this many rows, and of their variances.
    np.testing.assert_allclose(rows.mean(0), mean, atol=5 * 2.3 / 20_000**0.5)
    np.testing.assert_allclose(np.cov(rows.T), covariance, atol=5 * 5.0 * (2 / 20_000) ** 0.5)


@each_class
@each_type
def test_the_attributes_are_what_was_given(cls, covariance_type):
    mixture = (
        known(cls, covariance_type, tol=0.5)
        if cls is DropIn
        else known(cls, covariance_type, convergence_tolerance=0.5)
    )
    np.testing.assert_array_equal(mixture.weights_, WEIGHTS)
    np.testing.assert_array_equal(mixture.means_, MEANS)
    np.testing.assert_array_equal(mixture.covariances_, COVARIANCES[covariance_type])
    precisions = mixture.precisions_
    inverse = np.linalg.inv if covariance_type in ("full", "tied") else np.reciprocal
    np.testing.assert_allclose(precisions, inverse(COVARIANCES[covariance_type]), rtol=1e-12)
    assert mixture.n_clusters == 3
    assert mixture.covariance_type == covariance_type
    assert mixture.n_features_in_ == 2
    assert (mixture.converged_, mixture.n_iter_, mixture.lower_bounds_) == (False, 0, [])
    assert mixture.lower_bound_ == -np.inf
    assert 0.5 in mixture.get_params().values()
    # Later changes of what was given are not changes of the mixture.
    assert not np.shares_memory(mixture.means_, MEANS)
    assert not hasattr(clone(mixture), "means_")


@each_class
@pytest.mark.parametrize(
    "convert",
    [
        np.ndarray.tolist,
        torch.tensor,
        lambda a: a.astype(np.float32),
        lambda a: pd.Series(a) if a.ndim == 1 else pd.DataFrame(a),
        lambda a: np.ascontiguousarray(a[::-1])[::-1],
    ],
    ids=["list", "tensor", "float32", "pandas", "reversed"],
)
def test_kinds_of_parameters(X, cls, convert):
    weights, means, covariances = (
        convert(a) for a in (np.array([0.25, 0.25, 0.5]), MEANS, np.array([1.0, 0.5, 2.0]))
    )
    mixture = cls.from_parameters(weights, means, covariances, covariance_type="spherical")
    assert type(mixture.means_) is np.ndarray
    assert mixture.means_.dtype == mixture.precisions_cholesky_.dtype == np.float64
    assert isinstance(mixture.predict(X), np.ndarray)


def test_whole_numbers_are_parameters_too():
    mixture = DropIn.from_parameters([1], [[0, 0]], [[[1, 0], [0, 4]]])
    expected = multivariate_normal([0, 0], [[1, 0], [0, 4]]).logpdf([1.0, 1.0])
    assert mixture.score_samples([[1, 1]])[0] == pytest.approx(expected)


@each_type
def test_a_warm_start_begins_with_them(X, covariance_type):
    start = {
        "weights_init": WEIGHTS,
        "means_init": MEANS,
        "precisions_init": known(DropIn, covariance_type).precisions_,
    }
    expected = DropIn(3, covariance_type=covariance_type, **start).fit(X)
    mixture = known(DropIn, covariance_type, warm_start=True)
    mixture.fit(X)
    assert mixture.n_iter_ == expected.n_iter_
    np.testing.assert_allclose(mixture.means_, expected.means_, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(mixture.covariances_, expected.covariances_, rtol=1e-9, atol=1e-9)


@each_class
def test_their_means_are_a_start(X, cls):
    mixture = known(cls, "full")
    name = "init_means" if cls is TorchMixture else "means_init"
    fitted = cls(3, **{name: mixture.means_}, random_state=0).fit(X)
    assert np.abs(fitted.means_ - MEANS).max() < 1.0


@each_class
@each_type
def test_they_can_be_kept(X, cls, covariance_type, tmp_path):
    mixture = known(cls, covariance_type)
    mixture.save(tmp_path / "mixture")
    for copied in (cls.load(tmp_path / "mixture"), pickle.loads(pickle.dumps(mixture))):
        np.testing.assert_array_equal(copied.score_samples(X), mixture.score_samples(X))
        assert copied.lower_bound_ == -np.inf


@each_class
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": [0.5, 0.5]}, r"'weights' should have the shape of \(3,\), but got \(2,\)"),
        ({"weights": [[0.2, 0.3, 0.5]]}, r"'weights' should have the shape of \(3,\)"),
        ({"weights": [-0.2, 0.7, 0.5]}, r"'weights' should be in the range \[0, 1\]"),
        ({"weights": [0.2, 0.2, 0.2]}, r"'weights' should be normalized, but got .* = 0.6"),
        ({"weights": [0.2, 0.3, np.nan]}, "weights contains NaN"),
        ({"means": [0.0, 1.0]}, r"'means' should have the shape of \(K, D\), but got \(2,\)"),
        ({"means": np.zeros((3, 2, 1))}, "Found array with dim 3"),
        ({"means": np.full((3, 2), np.inf)}, "means contains infinity"),
        ({"means": MEANS[:2]}, r"'weights' should have the shape of \(2,\), but got \(3,\)"),
        (
            {"means": MEANS[:, :1]},
            r"'covariances' should have the shape of \(3, 1, 1\), but got \(3, 2, 2\)$",
        ),
        (
            {"covariances": MATRIX},
            r"covariances.* of \(3, 2, 2\) for covariance_type='full', but got \(2, 2\), .*'tied'",
        ),
        ({"covariances": COVARIANCES["full"] * np.nan}, "covariances contains NaN"),
        (
            {"covariances": np.stack([np.eye(2), np.eye(2), [[1.0, 2.0], [2.0, 1.0]]])},
            "'covariances' should be symmetric, positive-definite",
        ),
        ({"covariances": -COVARIANCES["full"]}, "should be symmetric, positive-definite"),
        ({"covariances": np.zeros((3, 2, 2))}, "should be symmetric, positive-definite"),
        (
            {"covariances": np.stack([np.eye(2), np.eye(2), [[1.0, 0.5], [-0.5, 1.0]]])},
            "should be symmetric, positive-definite",
        ),
        (
            {"covariances": 1e-9 * np.stack([[[2.0, 1.0], [-1.0, 2.0]]] * 3)},
            "should be symmetric, positive-definite",
        ),
        (
            {"covariances": [[1.0, 2.0], [1.0, -1.0], [1.0, 1.0]], "covariance_type": "diag"},
            "'covariances' should be positive",
        ),
        (
            {"covariances": [1.0, 0.0, 1.0], "covariance_type": "spherical"},
            "'covariances' should be positive",
        ),
        (
            {"covariances": [[1.0, 0.0], [0.5, 1.0]], "covariance_type": "tied"},
            "'covariances' should be symmetric, positive-definite",
        ),
        ({"covariance_type": "round"}, "Unknown covariance type 'round': use one of 'full'"),
    ],
)
def test_parameters_that_are_none(cls, changes, message):
    arguments = {"weights": WEIGHTS, "means": MEANS, "covariances": COVARIANCES["full"]}
    with pytest.raises(ValueError, match=message):
        cls.from_parameters(**{**arguments, **changes})


@each_class
@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_the_units_of_the_features_do_not_decide_what_is_definite(cls, covariance_type):
    """The smallest eigenvalue is below the rounding of the largest, and nothing is singular."""
    units = np.array([1e-3, 1.0, 1e5, 1e9])
    correlations = np.full((4, 4), 0.8) + 0.2 * np.eye(4)
    covariance = units[:, None] * correlations * units
    mixture = cls.from_parameters(
        [1.0],
        np.zeros((1, 4)),
        covariance if covariance_type == "tied" else covariance[None],
        covariance_type=covariance_type,
    )
    rows = np.random.default_rng(0).standard_normal((10, 4))
    expected = multivariate_normal(np.zeros(4), correlations).logpdf(rows) - np.log(units).sum()
    # A condition number of 17, once the units are gone: rounding is some eps of 20 to 40 nats.
    np.testing.assert_allclose(mixture.score_samples(rows * units), expected, rtol=1e-12)


@each_class
def test_float32_matrices_are_symmetric_to_their_own_rounding(cls):
    """Products of matrices leave such differences: scikit-learn's float32 covariances have them."""
    covariance = np.array([[1.0, 0.001], [0.001 + 6e-8, 1.0]], dtype=np.float32)
    assert covariance[0, 1] != covariance[1, 0]
    mixture = cls.from_parameters([1.0], [[0.0, 0.0]], covariance, covariance_type="tied")
    expected = multivariate_normal([0.0, 0.0], [[1.0, 0.001], [0.001, 1.0]]).logpdf([1.0, 2.0])
    np.testing.assert_allclose(mixture.score_samples([[1.0, 2.0]]), expected, rtol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_covariances_that_are_definite_to_rounding_are_refused_or_work(seed):
    """Of some the eigenvalues come out as positive, and yet they cannot be factored."""
    rng = np.random.default_rng(seed)
    vector = rng.standard_normal((2, 1))
    covariance = vector @ vector.T + 10.0 ** rng.uniform(-17, -15) * np.eye(2)
    try:
        mixture = DropIn.from_parameters([1.0], np.zeros((1, 2)), covariance[None])
    except ValueError as error:
        message = str(error)
    else:
        message = ""
        assert np.isfinite(mixture.score_samples([[0.0, 0.0], [1.0, 2.0]])).all()
    assert message == "" or "positive" in message


@each_class
@pytest.mark.parametrize("name", ["components", "no_such_thing"])
def test_parameters_of_the_estimator_are_named_right(cls, name):
    own = {"components": "num_components" if cls is TorchMixture else "n_components"}
    with pytest.raises(TypeError, match=own.get(name, name)):
        known(cls, "full", **{own.get(name, name): 3})


@each_class
@pytest.mark.parametrize(
    "weights",
    [np.float32([0.50000005, 0.5, 1e-9]), np.array([0.5 + 2e-9, 0.5, 0.0])],
    ids=["float32", "float64"],
)
def test_weights_that_sum_to_one_only_nearly_can_be_drawn_from(cls, weights):
    mixture = cls.from_parameters(
        weights, [[0.0], [1.0], [2.0]], [1.0, 1.0, 1.0], covariance_type="spherical"
    )
    mixture.random_state = 0
    drawn = mixture.sample(1000)
    X = drawn[0] if cls is DropIn else drawn
    assert 0.4 < np.mean(X < 0.5) < 0.6


@each_class
@pytest.mark.parametrize(
    ("before", "after"),
    [("full", "diag"), ("tied", "diag"), ("diag", "tied"), ("spherical", "full")],
)
def test_another_covariance_type_after_the_fit_is_refused(cls, before, after):
    """Matrices and variances have the same shape if K = D, and would be taken for each other."""
    X = np.random.default_rng(0).normal(size=(40, 2))
    name = {DropIn: "n_components", TorchMixture: "num_components"}[cls]
    mixture = cls(**{name: 2}, covariance_type=before, random_state=0).fit(X)
    mixture.set_params(covariance_type=after)
    for use in (mixture.predict, mixture.score, mixture.bic, lambda X: mixture.sample(2)):
        with pytest.raises(ValueError, match=f"covariance_type='{after}': set it back, or fit"):
            use(X)
    mixture.set_params(covariance_type=before)
    assert len(mixture.predict(X)) == 40


@each_class
@each_type
def test_parameters_may_be_set_to_lists(cls, covariance_type):
    """Programs do, with as many components as features too."""
    X = np.random.default_rng(0).normal(size=(40, 2))
    name = {DropIn: "n_components", TorchMixture: "num_components"}[cls]
    mixture = cls(**{name: 2}, covariance_type=covariance_type, random_state=0).fit(X)
    expected = mixture.predict(X)
    mixture.precisions_cholesky_ = mixture.precisions_cholesky_.tolist()
    np.testing.assert_array_equal(mixture.predict(X), expected)

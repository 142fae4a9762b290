"""A fit ends with a good model, with one and a warning, or with an error that names a remedy."""

import re
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from sklearn_torch_gmm import GaussianMixture as TorchMixture
from sklearn_torch_gmm._estimator.outcome import check_representable
from sklearn_torch_gmm.core import inference
from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.em import accuracy, first_m_step
from sklearn_torch_gmm.exceptions import (
    EmptyComponentWarning,
    IllDefinedCovarianceError,
    UnrepresentableParameterError,
)
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn
from tests.estimators import MIXTURE_CLASSES, TYPES, make

PARAMETERS = ["weights_", "means_", "covariances_", "precisions_cholesky_", "precisions_"]
EXPLANATIONS = (EmptyComponentWarning, ConvergenceWarning)

both_classes = pytest.mark.parametrize("cls", MIXTURE_CLASSES)
all_types = pytest.mark.parametrize("covariance_type", TYPES)


def two_clusters(rng, features=2):
    return np.vstack([rng.normal(size=(100, features)), rng.normal(size=(100, features)) + 5.0])


def assert_is_good(mixture, X):
    """Finite parameters of a mixture, and answers that agree with each other."""
    for name in PARAMETERS:
        assert np.isfinite(getattr(mixture, name)).all(), name
    assert mixture.weights_.sum() == pytest.approx(1.0)
    structure = get_structure(mixture.covariance_type)
    smallest = structure.smallest_eigenvalues(
        torch.from_numpy(mixture.covariances_), mixture.n_clusters
    )
    assert (smallest > 0).all()
    assert np.isfinite(mixture.lower_bounds_).all()
    shares = mixture.predict_proba(X)
    assert np.isfinite(shares).all()
    np.testing.assert_allclose(shares.sum(1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(mixture.predict(X), shares.argmax(1))
    assert np.isfinite(mixture.score(X))


def fit(mixture, X):
    """The fitted mixture and the warnings that explain it; any other is an error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        for category in EXPLANATIONS:
            warnings.simplefilter("always", category)
        mixture.fit(X)
    return {type(warning.message) for warning in caught}


@both_classes
@all_types
class TestGoodModels:
    @pytest.fixture
    def options(self, covariance_type):
        return {"covariance_type": covariance_type, "random_state": 0}

    def test_duplicated_rows_are_weights(self, rng, cls, options):
        X = two_clusters(rng)
        once, repeated = make(cls, 2, **options), make(cls, 2, **options)
        assert not fit(once, X)
        assert not fit(repeated, np.repeat(X, 5, axis=0))
        assert_is_good(repeated, X)
        np.testing.assert_allclose(repeated.means_, once.means_, rtol=1e-9)
        np.testing.assert_allclose(repeated.covariances_, once.covariances_, rtol=1e-7, atol=1e-9)

    @pytest.mark.parametrize("value", [0.0, 7.0, 1e8])
    def test_a_constant_column_has_the_variance_of_the_regularization(
        self, rng, cls, options, covariance_type, value
    ):
        X = np.column_stack([two_clusters(rng), np.full(200, value)])
        mixture = make(cls, 2, **options)
        assert not fit(mixture, X)
        assert_is_good(mixture, X)
        structure = get_structure(covariance_type)
        variances = structure.variances(torch.from_numpy(mixture.covariances_), 2, 3)
        if covariance_type != "spherical":
            np.testing.assert_allclose(variances[:, 2], 1e-6, rtol=1e-6)
        np.testing.assert_allclose(mixture.means_[:, 2], value, rtol=1e-15)

    @pytest.mark.parametrize("scale", [1.0, 1e4, 1e8])
    def test_collinear_columns(self, rng, cls, options, covariance_type, scale):
        X = two_clusters(rng)
        X = np.column_stack([X, scale * X @ [1.0, 2.0]])
        regularization = 1e-6 * scale**2 if scale > 1.0 else 1e-6
        mixture = make(cls, 2, regularization=regularization, **options)
        assert not fit(mixture, X)
        assert_is_good(mixture, X)

    def test_as_many_components_as_rows(self, rng, cls, options):
        X = rng.normal(size=(20, 2))
        mixture = make(cls, 20, **options)
        assert not fit(mixture, X)
        assert_is_good(mixture, X)
        assert sorted(mixture.labels_) == list(range(20))

    def test_one_feature(self, rng, cls, options):
        X = two_clusters(rng)[:, :1]
        mixture = make(cls, 2, **options)
        assert not fit(mixture, X)
        assert_is_good(mixture, X)
        np.testing.assert_allclose(np.sort(mixture.means_[:, 0]), [0.0, 5.0], atol=0.3)

    def test_a_component_absent_from_the_first_batch(self, rng, cls, options):
        X = two_clusters(rng)
        whole, batched = make(cls, 2, **options), make(cls, 2, batch_size=10, **options)
        assert not fit(whole, X)
        assert not fit(batched, X)
        np.testing.assert_allclose(batched.means_, whole.means_, rtol=1e-9)
        np.testing.assert_allclose(batched.covariances_, whole.covariances_, rtol=1e-9, atol=1e-12)

    def test_many_components_in_small_batches(self, rng, cls, options):
        X = rng.normal(size=(600, 3)).astype(np.float32)
        mixture = make(cls, 200, batch_size=16, iterations=10, start="kmeans", **options)
        assert fit(mixture, X) <= {ConvergenceWarning, EmptyComponentWarning}
        assert_is_good(mixture, X)

    @pytest.mark.parametrize("size", [1e20, 1e150])
    def test_a_row_far_from_all_others(self, rng, cls, options, size):
        """The other component is the one without the row."""
        X = rng.normal(size=(100, 2))
        with_row, without = make(cls, 2, **options), make(cls, 1, **options)
        assert not fit(with_row, np.vstack([X, [[size, 0.0]]]))
        assert not fit(without, X)
        assert_is_good(with_row, X)
        component = with_row.predict(X[:1])[0]
        np.testing.assert_allclose(with_row.means_[component], without.means_[0], rtol=1e-9)
        if options["covariance_type"] == "tied":
            # The row itself has no spread, and a share in the weight.
            expected = 1e-6 * np.eye(2) + (without.covariances_ - 1e-6 * np.eye(2)) * 100 / 101
            np.testing.assert_allclose(with_row.covariances_, expected, rtol=1e-9)
        else:
            actual, expected = with_row.covariances_[component], without.covariances_[0]
            np.testing.assert_allclose(actual, expected, rtol=1e-9)


@both_classes
@all_types
class TestWarnings:
    @pytest.fixture
    def options(self, covariance_type):
        return {"covariance_type": covariance_type, "random_state": 0}

    def test_fewer_distinct_rows_than_components(self, cls, options):
        X = np.repeat([[0.0, 1.0], [3.0, 5.0]], 10, axis=0)
        mixture = make(cls, 5, **options)
        assert EmptyComponentWarning in fit(mixture, X)
        assert_is_good(mixture, X)
        filled = mixture.weights_ > 0.1
        np.testing.assert_allclose(np.sort(mixture.means_[filled, 0]), [0.0, 3.0])

    @pytest.mark.parametrize("value", [0.0, 3.7, 1e8 + 0.3])
    def test_all_rows_equal(self, cls, options, value):
        X = np.full((30, 2), value)
        mixture = make(cls, 3, **options)
        assert EmptyComponentWarning in fit(mixture, X)
        assert_is_good(mixture, X)

    @pytest.mark.parametrize("distance", [1e3, 1e8, 1e200])
    def test_a_mean_far_from_all_data(self, rng, cls, options, distance):
        X = rng.normal(size=(100, 2))
        key = "means_init" if cls is DropIn else "init_means"
        means = [[0.0, 0.0], [distance, distance]]
        mixture, alone = make(cls, 2, **{key: means}, **options), make(cls, 1, **options)
        assert fit(mixture, X) == {EmptyComponentWarning}
        assert not fit(alone, X)
        assert_is_good(mixture, X)
        np.testing.assert_allclose(mixture.means_[0], alone.means_[0], rtol=1e-9)
        assert mixture.lower_bound_ == pytest.approx(alone.lower_bound_, rel=1e-9)
        # Its density is that of the mixture without the component, in predictions too.
        np.testing.assert_allclose(mixture.score_samples(X), alone.score_samples(X), rtol=1e-9)


@all_types
@pytest.mark.parametrize("distance", [1e8, 1e12])
def test_all_means_far_from_all_data(rng, covariance_type, distance):
    """The iteration whose moments lost their digits, about such means, is done again."""
    X = rng.normal(size=(100, 2))
    options = {"covariance_type": covariance_type, "random_state": 0}
    mixture = DropIn(1, means_init=[[distance, distance]], **options).fit(X)
    alone = DropIn(1, **options).fit(X)
    np.testing.assert_allclose(mixture.means_, alone.means_, rtol=1e-9)
    np.testing.assert_allclose(mixture.covariances_, alone.covariances_, rtol=1e-9)


def singular(name, rng):
    """Data, and a number of components, that have no covariance without regularization."""
    clusters = two_clusters(rng)
    return {
        "two points": (np.repeat([[0.0, 1.0], [3.0, 5.0]], 10, axis=0), 2),
        "all rows equal": (np.full((30, 2), 3.7), 3),
        "constant column": (np.column_stack([clusters, np.full(200, 7.0)]), 2),
        "collinear columns": (np.column_stack([clusters, clusters @ [1.0, 2.0]]), 2),
        "one row a component": (rng.normal(size=(12, 2)), 12),
        "more features than rows": (rng.normal(size=(10, 20)), 2),
    }[name]


@both_classes
@all_types
@pytest.mark.parametrize(
    ("scale", "offset"), [(1.0, 0.0), (1.0, 1e8), (1e-12, 0.0), (1e12, 0.0)], ids=str
)
@pytest.mark.parametrize(
    "name",
    [
        "two points",
        "all rows equal",
        "constant column",
        "collinear columns",
        "one row a component",
        "more features than rows",
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn_torch_gmm.exceptions.EmptyComponentWarning")
def test_the_regularization_that_an_error_names_works(
    rng, cls, covariance_type, name, scale, offset
):
    X, components = singular(name, rng)
    X = scale * X + offset
    options = {"covariance_type": covariance_type, "random_state": 0}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            mixture = make(cls, components, regularization=0.0, **options).fit(X)
        except IllDefinedCovarianceError as error:
            message = str(error)
            parameter = "reg_covar" if cls is DropIn else "covariance_regularization"
            assert re.search(r"Component \d+ has", message)
            remedy = float(re.search(rf"{parameter}=(\S+) is sufficient", message).group(1))
            mixture = make(cls, components, regularization=remedy, **options).fit(X)
            # scikit-learn's rounding, which the drop-in keeps, grows with the offset.
            if not (cls is DropIn and offset > 0):
                # The clusters, five apart, are not lost in it.
                assert remedy <= 1e-2 * scale**2 * max(1.0, np.var(X / scale))
    # What rounding alone makes positive definite shows in the likelihood.
    if not any("likelihood fell" in str(warning.message) for warning in caught):
        assert_is_good(mixture, X)


@both_classes
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.array, torch.tensor, list])
def test_an_error_names_the_row_that_is_not_finite(rng, cls, value, kind):
    X = two_clusters(rng)
    mixture = make(cls, 2, random_state=0).fit(X)
    X[17, 1] = value
    rows = kind(X.tolist())
    calls = (make(cls, 2).fit, mixture.predict, mixture.score_samples)
    for call in calls:
        with pytest.raises(
            ValueError, match=r"contains (NaN|infinity)[\s\S]*in sample 17: leave it out"
        ):
            call(rows)
    X[20] = value
    with pytest.raises(ValueError, match=r"in sample 17, the first of 2: leave"):
        mixture.fit(kind(X.tolist()))


@both_classes
@all_types
@pytest.mark.parametrize("size", [1e155, 1e300])
def test_squares_beyond_float64(rng, cls, covariance_type, size):
    X = size * two_clusters(rng)
    mixture = make(cls, 2, covariance_type=covariance_type, random_state=0)
    with pytest.raises(IllDefinedCovarianceError, match="cannot be represented") as caught:
        mixture.fit(X)
    assert not hasattr(mixture, "means_")
    divisor = float(re.search(r"divide the data by (\S+)\.$", str(caught.value)).group(1))
    assert not fit(mixture, X / divisor)
    assert_is_good(mixture, X / divisor)


def test_a_component_that_collapses_beside_others_is_not_mended_by_scaling():
    """As in a fit of 22 rows without regularization, which random problems have led to."""
    variances = torch.tensor([[0.5, 3.0], [2.19e-82, 1.0]], dtype=torch.float64)
    with pytest.raises(UnrepresentableParameterError, match=r"Component 1 .* 1e-05 is sufficient"):
        check_representable(variances, np.float32)
    check_representable(variances + 1e-5, np.float32)
    check_representable(variances, np.float64)


@both_classes
@all_types
@pytest.mark.parametrize("size", [1e-25, 1e25, 1e30])
@pytest.mark.parametrize("components", [1, 2])
def test_variances_beyond_float32(rng, cls, covariance_type, size, components):
    """The error is all there is: K-means before it warns of nothing."""
    X = (size * two_clusters(rng)).astype(np.float32)
    mixture = make(
        cls, components, covariance_type=covariance_type, regularization=0.0, random_state=0
    )
    with pytest.raises(UnrepresentableParameterError, match="float32 cannot hold") as caught:
        mixture.fit(X)
    assert not hasattr(mixture, "means_")
    divisor = float(re.search(r"divide them by (\S+)\.$", str(caught.value)).group(1))
    # Both of the remedies that the message names.
    for remedied in (X.astype(np.float64), X / np.float32(divisor)):
        assert not fit(mixture, remedied)
        for name in PARAMETERS:
            assert np.isfinite(getattr(mixture, name)).all(), name


@both_classes
@all_types
@pytest.mark.parametrize("rows", [3, 1000])
def test_rows_without_density_belong_to_the_widest_component(rng, cls, covariance_type, rows):
    X = two_clusters(rng)
    X[100:] = 5.0 + 3.0 * (X[100:] - 5.0)
    mixture = make(cls, 2, covariance_type=covariance_type, random_state=0).fit(X)
    far = np.tile([[1e300, 1e300]], (rows, 1))
    shares = mixture.predict_proba(far)
    if covariance_type == "tied":
        # Five units from each other are nothing beside the distance to both.
        np.testing.assert_array_equal(shares, 0.5)
    else:
        widest = int(mixture.means_[:, 0].argmax())
        np.testing.assert_array_equal(shares, np.eye(2)[np.full(rows, widest)])
    np.testing.assert_array_equal(mixture.predict(far), shares.argmax(1))
    np.testing.assert_array_equal(mixture.score_samples(far), -np.inf)


@pytest.mark.parametrize(
    ("covariance_type", "features", "is_rectified"),
    [("full", 1100, True), ("diag", 2000, False), ("diag", 2000, True)],
)
def test_thousands_of_features(rng, covariance_type, features, is_rectified):
    """In little memory: x_i x_j of a usual chunk of rows would take 20 GB."""
    X = rng.normal(size=(600, features)).astype(np.float32)
    X[300:, :20] += 5.0
    if is_rectified:
        X = np.maximum(X, 0.0)
        X[:, 20:120] = 0.0
    means = np.stack([X[:300].mean(0), X[300:].mean(0)])
    # Regularization beside which the 600 rows' missing directions are no matter.
    mixture = TorchMixture(
        2, covariance_type=covariance_type, init_means=means, covariance_regularization=0.1,
        trainer_params={"max_epochs": 2}, convergence_tolerance=1e9,
    )  # fmt: skip
    assert not fit(mixture, X)
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        assert np.isfinite(getattr(mixture, name)).all(), name
    np.testing.assert_array_equal(mixture.labels_, np.arange(600) >= 300)


@both_classes
@all_types
@pytest.mark.parametrize("start", ["kmeans", "random"])
def test_wide_rows_give_the_same(monkeypatch, rng, cls, covariance_type, start):
    X = two_clusters(rng)
    options = {"covariance_type": covariance_type, "start": start, "random_state": 0}
    narrow = make(cls, 2, **options).fit(X)
    for module in (first_m_step, accuracy, inference):
        monkeypatch.setattr(module, "is_wide", lambda *sizes, **ratio: True)
    wide = make(cls, 2, **options).fit(X)
    assert wide.n_iter_ == narrow.n_iter_
    np.testing.assert_allclose(wide.means_, narrow.means_, rtol=1e-9)
    np.testing.assert_allclose(wide.covariances_, narrow.covariances_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(wide.score_samples(X), narrow.score_samples(X), rtol=1e-9)

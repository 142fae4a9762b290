"""The classifier: what its EM finds, by hand, and its place among scikit-learn's estimators."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import logsumexp
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_wine
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch.utils.data import TensorDataset

from sklearn_torch_gmm import GaussianMixtureClassifier
from sklearn_torch_gmm.em.estimation import MaximumLikelihood
from sklearn_torch_gmm.exceptions import IllDefinedCovarianceError
from sklearn_torch_gmm.mixture import GaussianMixture
from sklearn_torch_gmm.rows import in_memory, source
from sklearn_torch_gmm.rows.random_numbers import RandomNumbers
from tests.core.oracle import joint_log_densities, weighted_sums, with_structure
from tests.estimators import TYPES, assert_same_mixture, fitted_mixture

REGULARIZATION = 0.01

each_type = pytest.mark.parametrize("covariance_type", TYPES)


def draw(num_rows, seed=0):
    """Rows of three overlapping classes, and their classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=num_rows)
    means = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
    return means[y] + np.array([1.0, 0.8]) * rng.standard_normal((num_rows, 2)), y


def hide(y, share, seed=1):
    """Labels of which a share is unknown."""
    hidden = np.random.default_rng(seed).uniform(size=len(y)) < share
    return np.where(hidden, -1, y)


def one_hot(labels):
    return np.eye(labels.max() + 1)[labels].T


def in_closed_form(X, y, covariance_type, weights=None):
    sums = weighted_sums(X, one_hot(y), weights)
    mixture = fitted_mixture(GaussianMixture.from_parameters(sums.weights, sums.means, sums.within))
    result = with_structure(covariance_type, mixture, sums.counts)
    return result._replace(matrices=result.matrices + REGULARIZATION * np.eye(X.shape[1]))


# -- what it finds --------------------------------------------------------------------------------


@each_type
@pytest.mark.parametrize("weighted", [False, True])
def test_with_all_labels_and_one_component_the_solution_is_in_closed_form(
    covariance_type, weighted
):
    X, y = draw(90)
    weights = np.random.default_rng(2).uniform(0.5, 2.0, size=90) if weighted else None
    options = {"covariance_type": covariance_type, "reg_covar": REGULARIZATION}
    classifier = GaussianMixtureClassifier(**options).fit(X, y, sample_weight=weights)
    assert_same_mixture(classifier.mixture_, in_closed_form(X, y, covariance_type, weights), 1e-11)
    assert classifier.n_iter_ == 2
    assert classifier.converged_


def test_linear_discriminant_analysis():
    X, y = load_wine(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    classifier = GaussianMixtureClassifier(covariance_type="tied", reg_covar=0.0).fit(X, y)
    for solver in ("lsqr", "eigen"):
        expected = LinearDiscriminantAnalysis(solver=solver, store_covariance=True).fit(X, y)
        covariance = classifier.mixture_.covariances_
        np.testing.assert_allclose(covariance, expected.covariance_, atol=1e-12)
        found = classifier.predict_proba(X)
        np.testing.assert_allclose(found, expected.predict_proba(X), atol=1e-10)
        np.testing.assert_array_equal(classifier.predict(X), expected.predict(X))


def test_quadratic_discriminant_analysis():
    X, y = draw(120)
    classifier = GaussianMixtureClassifier(reg_covar=0.0).fit(X, y)
    expected = QuadraticDiscriminantAnalysis(store_covariance=True).fit(X, y)
    np.testing.assert_allclose(classifier.mixture_.weights_, expected.priors_)
    np.testing.assert_allclose(classifier.mixture_.means_, expected.means_)
    for number, theirs in enumerate(expected.covariance_):
        found = classifier.mixture_.covariances_[number]
        np.testing.assert_allclose(found, np.cov(X[y == number].T, bias=True))
        # Some versions of scikit-learn divide by N_c, others by N_c − 1.
        count = (y == number).sum()
        factor = found[0, 0] / theirs[0, 0]
        assert min(abs(factor - 1), abs(factor - (count - 1) / count)) < 1e-12
        np.testing.assert_allclose(found, factor * theirs)
    joint = joint_log_densities(fitted_mixture(classifier.mixture_), X)
    np.testing.assert_allclose(
        classifier.predict_log_proba(X), (joint - logsumexp(joint, axis=0)).T, atol=1e-11
    )


@each_type
@pytest.mark.parametrize("components", [1, 2])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_iterations_by_loops(covariance_type, components, exact, monkeypatch):
    if exact:
        monkeypatch.setattr(MaximumLikelihood, "tolerated_error", lambda *_: -1.0)
    X, y = draw(80)
    y, weights = hide(y, 0.6), np.random.default_rng(3).uniform(0.5, 2.0, size=80)
    options = {
        "covariance_type": covariance_type,
        "n_components_per_class": components,
        "reg_covar": REGULARIZATION,
        "random_state": 0,
        "tol": 0.0,
    }
    start = GaussianMixtureClassifier(max_iter=0, **options).fit(X, y, weights)
    expected, bounds = fitted_mixture(start.mixture_), []
    for _ in range(3):
        joint = joint_log_densities(expected, X)
        for n, label in enumerate(y):
            for k, own in enumerate(np.arange(3).repeat(components)):
                if label >= 0 and own != label:
                    joint[k, n] = -np.inf
        log_densities = logsumexp(joint, axis=0)
        bounds.append(np.average(log_densities, weights=weights))
        sums = weighted_sums(X, np.exp(joint - log_densities), weights)
        found = expected._replace(weights=sums.weights, means=sums.means, matrices=sums.within)
        found = with_structure(covariance_type, found, sums.counts)
        matrices = found.matrices + REGULARIZATION * np.eye(2)
        expected = found._replace(matrices=matrices)
    classifier = GaussianMixtureClassifier(max_iter=3, batch_size=30, **options)
    classifier.fit(X, y, weights)
    assert_same_mixture(classifier.mixture_, expected)
    np.testing.assert_allclose(classifier.mixture_.lower_bounds_, bounds, rtol=1e-9)
    assert classifier.lower_bound_ == classifier.mixture_.lower_bound_


@each_type
def test_the_start_takes_unlabelled_rows_to_the_nearest_known_mean(covariance_type):
    X, y = draw(80)
    some = hide(y, 0.8)
    means = np.stack([X[some == k].mean(0) for k in range(3)])
    nearest = ((X[:, None] - means) ** 2).sum(-1).argmin(1)
    completed = np.where(some == -1, nearest, some)
    options = {"covariance_type": covariance_type, "reg_covar": REGULARIZATION, "max_iter": 0}
    classifier = GaussianMixtureClassifier(**options).fit(X, some)
    assert_same_mixture(classifier.mixture_, in_closed_form(X, completed, covariance_type))


@each_type
@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_likelihood_never_falls(covariance_type, components):
    X, y = draw(300)
    classifier = GaussianMixtureClassifier(
        components, covariance_type=covariance_type, reg_covar=0.0, tol=0.0, max_iter=20,
        random_state=0,
    ).fit(X, hide(y, 0.8))  # fmt: skip
    bounds = classifier.mixture_.lower_bounds_
    assert np.diff(bounds).min() > -1e-12
    assert bounds[-1] > bounds[0]


def test_samples_without_labels_help():
    X, y = draw(2000)
    some = np.full(2000, -1)
    for k in range(3):
        some[np.flatnonzero(y == k)[:3]] = k
    is_known = some >= 0
    options = {"covariance_type": "spherical", "reg_covar": 0.1}
    alone = GaussianMixtureClassifier(**options).fit(X[is_known], some[is_known])
    together = GaussianMixtureClassifier(**options).fit(X, some)
    best = GaussianMixtureClassifier(**options).fit(X, y)
    fresh, truth = draw(2000, seed=9)
    assert together.score(fresh, truth) > alone.score(fresh, truth) + 0.01
    assert together.score(fresh, truth) > best.score(fresh, truth) - 0.01


def test_a_label_outweighs_the_density():
    """Labelled rows stay in their class, however far they are from it."""
    X = np.array([[0.0], [0.2], [0.1], [5.0], [5.2], [5.1], [5.3]])
    y = np.array([0, 0, -1, 1, 1, -1, 0])
    classifier = GaussianMixtureClassifier(covariance_type="tied").fit(X, y)
    assert classifier.mixture_.weights_ @ [1, 0] >= 3 / 7
    # As a clustering, the two groups are apart.
    assert classifier.mixture_.means_[0, 0] > 1.0


def test_classes_of_several_groups():
    """Each class has two groups, and the groups of the classes lie in turn."""
    rng = np.random.default_rng(0)
    groups = rng.integers(4, size=400)
    X, y = 4.0 * groups[:, None] + rng.normal(size=(400, 1)), groups % 2
    some = hide(y, 0.8)
    one = GaussianMixtureClassifier(random_state=0).fit(X, some)
    two = GaussianMixtureClassifier(2, random_state=0, n_init=3).fit(X, some)
    assert two.score(X, y) > 0.95 > 0.7 > one.score(X, y)
    assert two.component_classes_.tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(np.sort(two.mixture_.means_[:2, 0]), [0.0, 8.0], atol=0.5)
    np.testing.assert_allclose(
        two.predict_proba(X), two.mixture_.predict_proba(X) @ np.eye(2)[two.component_classes_]
    )


@each_type
def test_integer_weights_repeat_samples_and_zeros_remove_them(covariance_type):
    X, y = draw(120)
    y, counts = hide(y, 0.5), np.arange(120) % 4
    options = {"covariance_type": covariance_type}
    weighted = GaussianMixtureClassifier(**options).fit(X, y, sample_weight=counts)
    repeated = GaussianMixtureClassifier(**options).fit(X.repeat(counts, axis=0), y.repeat(counts))
    assert_same_mixture(weighted.mixture_, fitted_mixture(repeated.mixture_))
    removed = GaussianMixtureClassifier(**options).fit(X, y, sample_weight=np.where(y == 2, 0, 1))
    assert removed.classes_.tolist() == [0, 1]


def test_a_mapped_file_of_which_a_sample_is_taken_to_start(tmp_path, monkeypatch):
    X, y = draw(500)
    some = np.full(500, -1)
    for k in range(3):
        some[np.flatnonzero(y == k)[:2]] = k
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    expected = GaussianMixtureClassifier(tol=1e-8).fit(X, some)
    monkeypatch.setattr(in_memory, "MAPPED_BYTES", 1)
    monkeypatch.setattr(source, "SAMPLE_ROWS", 1)
    # 256 rows for each component are more than there are, so that no sample would be taken.
    monkeypatch.setattr(source, "sample_size", lambda num_components: 60)
    start = in_memory.ArrayRows(mapped, None, some).starting_rows(3, RandomNumbers(0))
    assert 60 <= len(start.rows) <= 66
    assert (start.labels >= 0).sum() == 6
    classifier = GaussianMixtureClassifier(tol=1e-8, batch_size=100, random_state=0)
    assert_same_mixture(
        classifier.fit(mapped, some).mixture_, fitted_mixture(expected.mixture_), 1e-3
    )


# -- labels ---------------------------------------------------------------------------------------

NAMES = np.array(["ant", "bee", "cow"])


def with_names(y):
    return np.array([NAMES[label] if label >= 0 else -1 for label in y], dtype=object)


@pytest.mark.parametrize(
    "convert",
    [
        list,
        torch.tensor,
        pd.Series,
        with_names,
        lambda y: pd.Series(with_names(y)),
        lambda y: y.astype(np.float64),
        lambda y: y.astype(np.int8),
        lambda y: np.where(y >= 0, y + 5, y),
    ],
    ids=["list", "tensor", "series", "names", "series of names", "floats", "int8", "others"],
)
def test_kinds_of_labels(convert):
    X, y = draw(100)
    y = hide(y, 0.5)
    expected = GaussianMixtureClassifier().fit(X, y)
    classifier = GaussianMixtureClassifier().fit(X, convert(y))
    assert classifier.mixture_.n_iter_ == expected.mixture_.n_iter_
    np.testing.assert_array_equal(classifier.predict_proba(X), expected.predict_proba(X))
    assert len(classifier.classes_) == 3
    found = classifier.predict(X)
    assert set(found) == set(classifier.classes_)
    np.testing.assert_array_equal(found, classifier.classes_[expected.predict(X)])


@pytest.mark.parametrize("dtype", [np.longdouble, ">i8"])
def test_predicted_labels_have_the_type_of_the_given_ones(dtype):
    X, y = draw(60)
    classifier = GaussianMixtureClassifier().fit(X, y.astype(dtype))
    found = classifier.predict(X)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, classifier.predict(torch.from_numpy(X)))
    assert classifier.score(X, y) > 0.8


@pytest.mark.parametrize("dtype", ["<U3", object])
def test_strings_without_unlabelled_rows(dtype):
    X, y = draw(60)
    classifier = GaussianMixtureClassifier().fit(X, NAMES[y].astype(dtype))
    assert classifier.classes_.tolist() == NAMES.tolist()
    assert classifier.component_classes_.tolist() == NAMES.tolist()
    assert classifier.score(X, NAMES[y]) > 0.8


def test_a_column_of_labels_is_taken_with_a_warning():
    X, y = draw(60)
    with pytest.warns(DataConversionWarning, match="column-vector"):
        GaussianMixtureClassifier().fit(X, y[:, None])


def test_a_single_class():
    X, _ = draw(30)
    classifier = GaussianMixtureClassifier(2, random_state=0).fit(X, np.full(30, "a"))
    assert set(classifier.predict(X)) == {"a"}
    np.testing.assert_allclose(classifier.predict_proba(X), 1.0, rtol=1e-14)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y to be passed, but the target y is None"),
        ([0, 1] * 20, r"same number of samples, got 30 and 40"),
        ([-1] * 30, "All labels in y are -1, for unlabelled"),
        ([-1, 1] * 15, "Apart from -1, .* only the class 1. .* give it another number"),
        ([0.5, 1.5] * 15, "Unknown label type"),
        ([0, np.nan] * 15, "Input y contains NaN"),
        ([0, None] * 15, r"Input y contains None\. It is in sample 1: .*unlabelled samples is -1"),
        (["a", None] * 15, r"Input y contains None\. It is in sample 1"),
        (pd.array(["a", pd.NA] * 15), r"Input y contains <NA>\. It is in sample 1"),
        (
            np.array(["2020-01-01", "NaT"] * 15, "M8[D]"),
            r"Input y contains NaT\. It is in sample 1",
        ),
        (np.array(["a", 2] * 15, dtype=object), "y has strings and 2: the only number"),
        ([0] * 29 + [1], "Class 1 has 1 labelled samples .* n_components_per_class=2"),
        (np.ones((30, 2)), "y should be a 1d array"),
    ],
)
def test_what_are_no_labels(y, message):
    X, _ = draw(30)
    components = 2 if "n_components_per_class" in message else 1
    with pytest.raises(ValueError, match=message):
        GaussianMixtureClassifier(components).fit(X, y)


# -- what it answers ------------------------------------------------------------------------------


def test_probabilities_by_hand():
    X, y = draw(100)
    classifier = GaussianMixtureClassifier(2, random_state=0).fit(X, hide(y, 0.5))
    joint = joint_log_densities(fitted_mixture(classifier.mixture_), X)
    by_class = np.stack([logsumexp(joint[[2 * c, 2 * c + 1]], axis=0) for c in range(3)])
    expected = (by_class - logsumexp(by_class, axis=0)).T
    np.testing.assert_allclose(classifier.predict_log_proba(X), expected, atol=1e-10)
    np.testing.assert_allclose(classifier.predict_proba(X), np.exp(expected), atol=1e-10)
    np.testing.assert_array_equal(classifier.predict(X), expected.argmax(1))
    np.testing.assert_allclose(classifier.score_samples(X), logsumexp(joint, axis=0), atol=1e-10)


def test_far_away_log_probabilities_stay_exact_and_nothing_is_undefined():
    X, y = draw(100)
    classifier = GaussianMixtureClassifier(reg_covar=0.0).fit(X, y)
    far = np.array([[500.0, 0.0], [1e200, 0.0]])
    assert set(classifier.predict_proba(far).ravel()) == {0.0, 1.0}
    found = classifier.predict_log_proba(far)
    joint = joint_log_densities(fitted_mixture(classifier.mixture_), far[:1])
    np.testing.assert_allclose(found[0], (joint - logsumexp(joint, axis=0))[:, 0], rtol=1e-12)
    assert found[0].min() < -1000
    assert not np.isnan(found).any()
    np.testing.assert_array_equal(found.argmax(1), classifier.predict(far))


def test_log_probabilities_of_float32_are_exact_where_densities_are_tiny():
    X, y = draw(400)
    classifier = GaussianMixtureClassifier(covariance_type="tied").fit(X.astype(np.float32), y)
    # Joint log-densities are some -1e6, of which float32 holds sixteenths.
    rows = (X[:20] + np.array([0.0, 3000.0])).astype(np.float32)
    found = classifier.predict_log_proba(rows)
    assert found.dtype == np.float32
    expected = classifier.predict_log_proba(rows.astype(float))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("y", "weights"),
    [
        (np.array([0, 1] * 30, dtype=object), None),
        (torch.tensor([0, 1] * 30), torch.ones(60, requires_grad=True)),
        ([0, 1] * 30, torch.ones(60, dtype=torch.bfloat16)),
    ],
    ids=["objects", "with a gradient", "bfloat16"],
)
def test_labels_and_weights_of_any_kind_are_scored_as_they_are_fitted(y, weights):
    X = np.random.default_rng(0).normal(size=(60, 2)) + 3 * np.tile([[0], [1]], (30, 1))
    classifier = GaussianMixtureClassifier().fit(X, y, sample_weight=weights)
    predicted = np.asarray(classifier.predict(X), dtype=int)
    assert classifier.score(X, y, weights) == np.mean(predicted == [0, 1] * 30)


def test_many_rows_are_answered_in_parts(monkeypatch):
    X, y = draw(200)
    classifier = GaussianMixtureClassifier(2, random_state=0).fit(X, y)
    expected = [getattr(classifier, name)(X) for name in ("predict_proba", "predict_log_proba")]
    monkeypatch.setattr("sklearn_torch_gmm._estimator.classes.VALUES_AT_ONCE", 6 * 70)
    np.testing.assert_allclose(classifier.predict_proba(X), expected[0], atol=1e-12)
    np.testing.assert_allclose(classifier.predict_log_proba(X), expected[1], atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_answers_have_the_type_of_the_data(dtype):
    X, y = draw(60)
    X = X.astype(dtype)
    classifier = GaussianMixtureClassifier().fit(X, y)
    for rows in (X, torch.tensor(X)):
        for name in ("predict_proba", "predict_log_proba", "score_samples"):
            values = getattr(classifier, name)(rows)
            assert isinstance(values, np.ndarray)
            assert values.dtype == dtype
    assert classifier.mixture_.means_.dtype == dtype


@pytest.mark.skipif(torch.tensor(0).is_cuda, reason="of tensors on the CPU")
def test_tensors_answer_tensors_where_scikit_learn_does(monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    X, y = draw(60)
    numbers = GaussianMixtureClassifier().fit(X, y)
    names = GaussianMixtureClassifier().fit(X, NAMES[y])
    expected = numbers.predict(X)
    try:
        with config_context(array_api_dispatch=True):
            found, strings = numbers.predict(torch.tensor(X)), names.predict(torch.tensor(X))
    except (ImportError, RuntimeError):
        pytest.skip("scipy was imported without its array API")
    assert torch.equal(found, torch.tensor(expected))
    np.testing.assert_array_equal(strings, NAMES[expected])


# -- among scikit-learn's estimators --------------------------------------------------------------


def expected_failed_checks(classifier):
    failed = {
        "check_classifiers_classes": (
            "one of its classes is -1, which is unlabelled here; scikit-learn exempts its own "
            "semi-supervised classifiers from this by their names"
        )
    }
    if classifier.n_components_per_class > 1:
        failed["check_sample_weight_equivalence_on_dense_data"] = (
            "rows that are repeated or removed are drawn with other random numbers"
        )
    return failed


@parametrize_with_checks(
    [
        *(GaussianMixtureClassifier(covariance_type=name) for name in TYPES),
        GaussianMixtureClassifier(2, covariance_type="diag", random_state=0),
        GaussianMixtureClassifier(batch_size=7),
    ],
    expected_failed_checks=expected_failed_checks,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def accuracy_of_known(y, predicted):
    return accuracy_score(y[y != -1], predicted[y != -1])


def test_in_a_pipeline_in_a_search():
    X, y = draw(300)
    pipeline = make_pipeline(StandardScaler(), GaussianMixtureClassifier(random_state=0))
    grid = {
        "gaussianmixtureclassifier__covariance_type": ["full", "tied"],
        "gaussianmixtureclassifier__n_components_per_class": [1, 2],
    }
    search = GridSearchCV(pipeline, grid, cv=3, scoring=make_scorer(accuracy_of_known))
    search.fit(X, hide(y, 0.5))
    assert search.best_estimator_[-1].classes_.tolist() == [0, 1, 2]
    assert search.score(X, y) > 0.8
    assert is_classifier(search)


def test_in_other_tools_of_scikit_learn():
    X, y = draw(200)
    classifier = GaussianMixtureClassifier()
    predicted = cross_val_predict(classifier, X, y, cv=3, method="predict_log_proba")
    assert predicted.shape == (200, 3)
    calibrated = CalibratedClassifierCV(classifier, cv=3).fit(X, y)
    assert calibrated.score(X, y) > 0.8


def test_clones_and_pickles():
    X, y = draw(80)
    classifier = GaussianMixtureClassifier(2, covariance_type="diag", random_state=0).fit(X, y)
    loaded = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    copied = clone(classifier)
    assert copied.get_params() == classifier.get_params()
    assert not hasattr(copied, "mixture_")
    with pytest.raises(NotFittedError):
        copied.predict(X)
    assert copied.set_params(n_components_per_class=1).fit(X, y).mixture_.n_components == 3


def test_names_of_features():
    X, y = draw(60)
    frame = pd.DataFrame(X, columns=["a", "b"])
    classifier = GaussianMixtureClassifier().fit(frame, y)
    assert list(classifier.feature_names_in_) == ["a", "b"]
    assert list(classifier.mixture_.feature_names_in_) == ["a", "b"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(
            classifier.score_samples(frame), classifier.mixture_.score_samples(frame)
        )
    with pytest.raises(ValueError, match="feature names should match"):
        classifier.predict(frame[["b"]])
    message = "X has 1 features, but GaussianMixtureClassifier is expecting 2"
    with pytest.raises(ValueError, match=message):
        GaussianMixtureClassifier().fit(X, y).predict(X[:, :1])


# -- what goes wrong ------------------------------------------------------------------------------


def test_data_that_are_read_in_pieces_are_refused():
    X, y = draw(30)
    with pytest.raises(TypeError, match=r"takes samples in memory.* got a TensorDataset"):
        GaussianMixtureClassifier().fit(TensorDataset(torch.tensor(X)), y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_components_per_class": 0}, "'n_components_per_class' parameter"),
        ({"n_components_per_class": True}, "'n_components_per_class' parameter"),
        ({"covariance_type": "round"}, "'covariance_type' parameter"),
        ({"tol": -1.0}, "'tol' parameter"),
        ({"trainer_params": {"max_epochs": 3}}, "max_epochs=3 in addition to max_iter"),
    ],
)
def test_parameters_that_are_not_usable(params, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixtureClassifier(**params).fit(*draw(30))


def test_a_fit_that_fails_leaves_the_classifier_as_it_was():
    X, y = draw(60)
    classifier = GaussianMixtureClassifier(reg_covar=0.0).fit(X, y)
    before = classifier.predict_proba(X)
    with pytest.raises(IllDefinedCovarianceError, match="reg_covar"):
        classifier.fit(np.zeros((30, 2)), np.arange(30) % 2)
    np.testing.assert_array_equal(classifier.predict_proba(X), before)
    assert classifier.classes_.tolist() == [0, 1, 2]


def test_a_fit_that_has_not_converged_warns():
    X, y = draw(100)
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        GaussianMixtureClassifier(max_iter=1).fit(X, hide(y, 0.5))


def test_a_class_of_equal_samples_cannot_have_two_components():
    X, y = [[0], [0], [0], [1], [9], [9.5], [10], [10.2]], [0, 0, 0, -1, 1, 1, 1, 1]
    with pytest.raises(ValueError, match=r"2 distinct labelled samples .* class number 0"):
        GaussianMixtureClassifier(2).fit(X, y)


def test_strings_made_of_numbers_are_refused():
    X, y = [[0.0], [1.0], [8.0], [9.0]], ["a", -1, "b", -1]
    with pytest.raises(ValueError, match="array of dtype object"):
        GaussianMixtureClassifier().fit(X, y)
    # A column of a file in which -1 stands for unlabelled samples.
    with pytest.raises(ValueError, match="array of dtype object"):
        GaussianMixtureClassifier().fit(X, pd.Series(map(str, y)))
    fitted = GaussianMixtureClassifier().fit(X, np.array(y, dtype=object))
    assert list(fitted.classes_) == ["a", "b"]
    # Next to the number, the string is a class.
    y = np.array(["a", -1, "-1", -1], dtype=object)
    assert list(GaussianMixtureClassifier().fit(X, y).classes_) == ["-1", "a"]


@pytest.mark.parametrize("method", ["predict", "predict_proba", "score_samples"])
def test_predictions_refuse_datasets_as_fits_do(method):
    classifier = GaussianMixtureClassifier().fit([[0.0], [1.0], [8.0], [9.0]], [0, 0, 1, 1])
    dataset = torch.utils.data.TensorDataset(torch.zeros(3, 1))
    message = "GaussianMixtureClassifier takes .*pass its samples as an array or a tensor"
    with pytest.raises(TypeError, match=message):
        getattr(classifier, method)(dataset)


def test_a_parameter_of_the_mixture_gets_a_hint():
    with pytest.raises(TypeError, match="did you mean n_components_per_class"):
        GaussianMixtureClassifier(n_components=2)


def test_what_marks_unlabelled_samples_is_said_where_nan_does():
    X, y = draw(30)
    with pytest.raises(ValueError, match=r"Input y contains NaN\. .*unlabelled samples is -1"):
        GaussianMixtureClassifier().fit(X, np.where(np.arange(30) < 10, y, np.nan))


def test_unlabelled_samples_do_not_count_for_the_score():
    X, y = draw(60)
    classifier = GaussianMixtureClassifier().fit(X, NAMES[y])
    hidden = NAMES[y].astype(object)
    hidden[::3] = -1
    known, weights = hidden != -1, np.arange(60.0)
    assert classifier.score(X, hidden) == classifier.score(X[known], NAMES[y][known])
    assert classifier.score(X, hidden, sample_weight=weights) == pytest.approx(
        classifier.score(X[known], NAMES[y][known], sample_weight=weights[known])
    )
    with pytest.raises(ValueError, match="All labels in y are -1"):
        classifier.score(X, np.full(60, -1))
    with pytest.raises(ValueError, match="string '-1'"):
        classifier.score(X, hidden.astype(str))

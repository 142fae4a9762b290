"""The imputer: observed values stay, and the others follow from the mixture."""

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch.utils.data import TensorDataset

from sklearn_torch_gmm.impute import GaussianMixtureImputer
from sklearn_torch_gmm.mixture import GaussianMixture
from tests.core import gap_oracle
from tests.core.oracle import draw_rows
from tests.core.steps import mixture_of
from tests.estimators import TYPES, fitted_mixture

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def X(rng):
    mixture = mixture_of(rng, "full", 2, 4)
    return gap_oracle.with_gaps(rng, draw_rows(rng, mixture, 100))


@pytest.mark.parametrize("name", TYPES)
def test_gaps_get_the_conditional_means_of_the_mixture(X, name):
    imputer = GaussianMixtureImputer(2, covariance_type=name, random_state=0).fit(X)
    found = imputer.transform(X)
    expected = gap_oracle.completed(fitted_mixture(imputer.mixture_), X)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_array_equal(found[~np.isnan(X)], X[~np.isnan(X)])
    options = {"covariance_type": name, "random_state": 0, "missing": "em"}
    alone = GaussianMixture(2, **options).fit(X)
    np.testing.assert_array_equal(imputer.mixture_.means_, alone.means_)
    assert imputer.n_iter_ == alone.n_iter_


def test_one_component_is_linear_regression(rng):
    X = rng.standard_normal((80, 3)) @ rng.standard_normal((3, 3))
    imputer = GaussianMixtureImputer(reg_covar=0.0).fit(X)
    lines = LinearRegression().fit(X[:, 1:], X[:, 0])
    found = imputer.transform(np.column_stack([np.full(80, np.nan), X[:, 1:]]))
    np.testing.assert_allclose(found[:, 0], lines.predict(X[:, 1:]), rtol=1e-9, atol=1e-9)


def test_weights_count(X):
    weights = np.arange(100) % 2
    half = GaussianMixtureImputer().fit(X[1::2])
    weighted = GaussianMixtureImputer().fit(X, sample_weight=weights)
    np.testing.assert_allclose(weighted.transform(X), half.transform(X), rtol=1e-10)


def test_draws_repeat_for_an_integer_seed(X):
    drawn = GaussianMixtureImputer(2, sample_posterior=True, random_state=0).fit(X)
    first, second = drawn.transform(X), drawn.transform(X)
    np.testing.assert_array_equal(first, second)
    expected = GaussianMixtureImputer(2, random_state=0).fit_transform(X)
    gaps = np.isnan(X)
    np.testing.assert_array_equal(first[~gaps], X[~gaps])
    assert (first[gaps] != expected[gaps]).all()
    state = np.random.RandomState(0)
    others = GaussianMixtureImputer(2, sample_posterior=True, random_state=state).fit(X)
    assert (others.transform(X)[gaps] != others.transform(X)[gaps]).all()


def test_features_without_values_are_left_out_or_zero(X):
    X = np.insert(X, 2, np.nan, axis=1)
    left_out = GaussianMixtureImputer().fit(X)
    assert left_out.is_empty_.tolist() == [False, False, True, False, False]
    np.testing.assert_array_equal(
        left_out.transform(X), GaussianMixtureImputer().fit_transform(np.delete(X, 2, axis=1))
    )
    kept = GaussianMixtureImputer(keep_empty_features=True).fit_transform(X)
    np.testing.assert_array_equal(kept[:, 2], 0.0)
    np.testing.assert_array_equal(np.delete(kept, 2, axis=1), left_out.transform(X))
    with pytest.raises(ValueError, match="No feature of X has an observed value"):
        GaussianMixtureImputer().fit(np.full((3, 2), np.nan))


@pytest.mark.parametrize("keep", [False, True])
def test_frames_names_and_marks(X, keep):
    frame = pd.DataFrame(X, columns=list("abcd")).assign(e=np.nan, f=1.0)
    frame["f"] += np.arange(len(frame))
    imputer = GaussianMixtureImputer(add_indicator=True, keep_empty_features=keep)
    found = imputer.set_output(transform="pandas").fit_transform(frame)
    values = [*"abcd", *("e" if keep else ""), "f"]
    marks = [f"missingindicator_{name}" for name in "abcde"]
    assert list(found.columns) == values + marks == imputer.get_feature_names_out().tolist()
    assert imputer.mixture_.feature_names_in_.tolist() == [*"abcd", "f"]
    np.testing.assert_array_equal(found["missingindicator_a"], np.isnan(X[:, 0]))
    with pytest.raises(ValueError, match="feature names"):
        imputer.transform(frame.rename(columns={"a": "z"}))


def test_tensors_and_types(X):
    imputer = GaussianMixtureImputer().fit(torch.tensor(X))
    found = imputer.transform(torch.tensor(X))
    np.testing.assert_array_equal(found, GaussianMixtureImputer().fit_transform(X))
    assert imputer.transform(torch.tensor(X).float()).dtype == torch.float32
    marked = GaussianMixtureImputer(add_indicator=True).fit_transform(torch.tensor(X))
    assert marked.shape == (100, 8)
    assert GaussianMixtureImputer().fit_transform(X.astype(np.float32)).dtype == np.float32


def test_it_works_in_pipelines(X):
    pipeline = make_pipeline(StandardScaler(), GaussianMixtureImputer(2, random_state=0))
    assert np.isfinite(clone(pipeline).fit_transform(X)).all()


def test_what_is_refused(X):
    with pytest.raises(ValueError, match="contains infinity"):
        GaussianMixtureImputer().fit(np.where(np.isnan(X), np.inf, X))
    with pytest.raises(TypeError, match="in a mapped file of floats, got a TensorDataset: fit"):
        GaussianMixtureImputer().fit(TensorDataset(torch.tensor(X)))
    with pytest.raises(ValueError, match="'sample_posterior' parameter"):
        GaussianMixtureImputer(sample_posterior="yes").fit(X)


@parametrize_with_checks(
    [
        GaussianMixtureImputer(),
        GaussianMixtureImputer(
            2,
            covariance_type="diag",
            sample_posterior=True,
            add_indicator=True,
            keep_empty_features=True,
            random_state=0,
            init_params="k-means++",
        ),
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_values_of_a_feature_without_any_in_fit_stay(X):
    empty = X.copy()
    empty[:, 1] = np.nan
    imputer = GaussianMixtureImputer(2, keep_empty_features=True, random_state=0).fit(empty)
    column = imputer.transform(X)[:, 1]
    np.testing.assert_array_equal(column, np.nan_to_num(X[:, 1]))


def test_a_feature_with_values_of_weight_zero_alone_is_empty(X):
    weights = np.ones(len(X))
    weights[:5] = 0
    X = X.copy()
    X[5:, 2] = np.nan
    imputer = GaussianMixtureImputer(2, random_state=0).fit(X, sample_weight=weights)
    assert imputer.is_empty_.tolist() == [False, False, True, False]


def test_a_gap_of_weight_zero_is_not_marked(X):
    weights, complete = np.ones(len(X)), np.nan_to_num(X)
    complete[0, 0], weights[0] = np.nan, 0.0
    imputer = GaussianMixtureImputer(add_indicator=True).fit(complete, sample_weight=weights)
    assert imputer.get_feature_names_out().tolist() == ["x0", "x1", "x2", "x3"]
    assert imputer.transform(complete).shape == complete.shape


def test_a_single_sample_is_refused_in_its_own_name():
    with pytest.raises(ValueError, match="minimum of 2 is required by GaussianMixtureImputer"):
        GaussianMixtureImputer().fit([[1.0, 2.0]])


def test_draws_do_not_depend_on_the_gaps_of_other_samples(X, monkeypatch):
    monkeypatch.setattr("sklearn_torch_gmm.core.gaps.BLOCK_BYTES", 10 * X[0].nbytes)
    X = np.vstack([np.zeros((30, 4)), X])
    imputer = GaussianMixtureImputer(2, sample_posterior=True, random_state=0).fit(X)
    drawn = imputer.transform(X)
    X[0, 0] = np.nan
    np.testing.assert_array_equal(imputer.transform(X)[1:], drawn[1:])


@pytest.mark.parametrize("library", ["pandas", "default"])
def test_the_indicator_follows_the_global_output(X, library):
    with sklearn.config_context(transform_output=library):
        imputer = GaussianMixtureImputer(add_indicator=True)
        found = imputer.fit_transform(X)
    expected = GaussianMixtureImputer(add_indicator=True).fit_transform(X)
    np.testing.assert_array_equal(np.asarray(found), expected)
    if library == "pandas":
        assert list(found.columns) == imputer.get_feature_names_out().tolist()


@pytest.mark.parametrize(("method", "advice"), [("fit", "fit sklearn"), ("transform", "pass its")])
def test_samples_in_batches_are_named(X, method, advice):
    imputer = GaussianMixtureImputer().fit(X)
    message = "takes samples in memory, or in a mapped file of floats, got a TensorDataset: "
    with pytest.raises(TypeError, match=message + advice):
        getattr(imputer, method)(TensorDataset(torch.as_tensor(X)))

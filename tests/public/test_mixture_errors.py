"""Errors of the drop-in class, which are those of scikit-learn's class."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture as Theirs
from sklearn.preprocessing import StandardScaler

from sklearn_torch_gmm.exceptions import EmptyComponentWarning
from sklearn_torch_gmm.mixture import GaussianMixture
from tests.parity import COVARIANCE_TYPES, STARTS

BOTH = (Theirs, GaussianMixture)


@pytest.fixture
def X():
    return load_iris().data


@pytest.mark.parametrize(
    ("params", "pattern"),
    [
        ({"n_components": 0}, "The 'n_components' parameter of GaussianMixture must be an int"),
        ({"n_components": 2.5}, "Got 2.5 instead"),
        ({"n_components": 151}, "Expected n_samples >= n_components"),
        ({"covariance_type": "foo"}, "The 'covariance_type' parameter"),
        ({"tol": -1.0}, "The 'tol' parameter"),
        ({"reg_covar": -1.0}, "The 'reg_covar' parameter"),
        ({"max_iter": -1}, "The 'max_iter' parameter"),
        ({"n_init": 0}, "The 'n_init' parameter"),
        ({"init_params": "kmeans++"}, "The 'init_params' parameter"),
        ({"random_state": "a"}, "The 'random_state' parameter"),
        ({"warm_start": 3}, "The 'warm_start' parameter"),
        ({"verbose": -1}, "The 'verbose' parameter"),
        ({"verbose_interval": 0}, "The 'verbose_interval' parameter"),
        ({"weights_init": 5.0}, "The 'weights_init' parameter"),
        ({"weights_init": [0.5, 0.6]}, "The parameter 'weights' should have the shape of"),
        ({"weights_init": [0.5, 0.6, 0.1]}, "'weights' should be normalized, but got sum"),
        ({"weights_init": [1.5, -0.25, -0.25]}, "'weights' should be in the range [0, 1]"),
        ({"weights_init": [np.inf, 0, 0]}, "contains infinity"),
        ({"means_init": "abc"}, "The 'means_init' parameter"),
        ({"means_init": np.ones((2, 4))}, "The parameter 'means' should have the shape of"),
        ({"means_init": np.full((3, 4), np.nan)}, "contains NaN"),
        ({"precisions_init": np.eye(4)}, "'full precision' should have the shape of"),
        ({"precisions_init": -np.ones((3, 4, 4))}, "'full precision' should be symmetric"),
        ({"precisions_init": np.triu(np.ones((3, 4, 4)))}, "'full precision' should be symmetric"),
        (
            {"covariance_type": "tied", "precisions_init": -np.eye(4)},
            "'tied precision' should be symmetric, positive-definite",
        ),
        (
            {"covariance_type": "diag", "precisions_init": np.zeros((3, 4))},
            "'diag precision' should be positive",
        ),
        (
            {"covariance_type": "spherical", "precisions_init": [1, -1, 1]},
            "'spherical precision' should be positive",
        ),
    ],
)
def test_bad_parameters_are_refused_as_in_scikit_learn(X, params, pattern):
    assert_both_raise(X, {"n_components": 3, **params}, pattern)


def assert_both_raise(X, params, pattern):
    with pytest.raises(Exception, match=re.escape(pattern)) as theirs:
        Theirs(**params).fit(X)
    with pytest.raises(theirs.type, match=re.escape(pattern)):
        GaussianMixture(**params).fit(X)


@pytest.mark.parametrize(
    ("bad", "pattern"),
    [
        (lambda X: X[:1], "minimum of 2 is required"),
        (lambda X: X[0], "Expected 2D array, got 1D array instead"),
        (lambda X: X[None], "Found array with dim 3"),
        (lambda X: X[:0], "Found array with 0 sample(s)"),
        (lambda X: X[:, :0], "Found array with 0 feature(s)"),
        (lambda X: np.where(X > 7, np.nan, X), "Input X contains NaN"),
        (lambda X: np.where(X > 7, np.inf, X), "Input X contains infinity"),
        (lambda X: X + 1j, "Complex data not supported"),
        (lambda X: [["a", "b"]] * 5, "could not convert string to float"),
        (lambda X: None, "Expected 2D array"),
        (lambda X: pd.DataFrame(X, columns=["a", "b", "c", 1]), "Feature names are only supported"),
    ],
)
def test_bad_data_are_refused_as_in_scikit_learn(X, bad, pattern):
    assert_both_raise(bad(X), {"n_components": 2}, pattern)


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "score", "score_samples", "bic", "aic", "sample"]
)
def test_nothing_is_answered_before_the_fit(X, method):
    messages = []
    for mixture_class in BOTH:
        with pytest.raises(NotFittedError, match="not fitted yet") as caught:
            getattr(mixture_class(), method)(*([] if method == "sample" else [X]))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("reg_covar", [0.0, 1e-6])
def test_a_component_without_rows(X, covariance_type, reg_covar):
    """Without regularization it has no covariance; the tied one is that of the other rows."""
    identity = {"full": [np.eye(4)] * 2, "tied": np.eye(4), "diag": np.ones((2, 4))}
    params = {
        "n_components": 2,
        "covariance_type": covariance_type,
        "reg_covar": reg_covar,
        "weights_init": [0.5, 0.5],
        "means_init": [[0.0] * 4, [1e3] * 4],
        "precisions_init": identity.get(covariance_type, [1.0, 1.0]),
    }
    if reg_covar == 0 and covariance_type != "tied":
        assert_both_raise(X, params, "some components have ill-defined empirical covariance")
        return
    theirs = Theirs(**params).fit(X)
    with pytest.warns(EmptyComponentWarning, match=r"Components \[1\] lost all their samples"):
        ours = GaussianMixture(**params).fit(X)
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_allclose(ours.lower_bounds_, theirs.lower_bounds_, rtol=1e-9)
    np.testing.assert_allclose(ours.means_[0], theirs.means_[0], rtol=1e-9)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    # scikit-learn's is at the origin then, whatever the data.
    np.testing.assert_array_equal(ours.means_[1], [1e3] * 4)


def has_a_variance_of_rounding(mixture):
    """Whether a variance of standardized data is less than the rounding of their squares."""
    has_variances = mixture.covariance_type in ("diag", "spherical")
    return has_variances and mixture.covariances_.min() < np.finfo(float).eps


@pytest.mark.parametrize("data", ["iris", "wine", "breast cancer"])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_degenerate_fits_fail_where_those_of_scikit_learn_do(data, covariance_type):
    """Eight components without regularization: many end on a few rows, or on one.

    With some versions of NumPy, on some processors, a variance that is zero comes out as rounding
    in scikit-learn; that its fit succeeds then is chance.
    """
    loader = {"iris": load_iris, "wine": load_wine, "breast cancer": load_breast_cancer}[data]
    X = StandardScaler().fit_transform(loader().data)
    for init_params in STARTS:
        errors = []
        theirs, ours = (
            mixture_class(
                8, covariance_type=covariance_type, init_params=init_params, reg_covar=0.0,
                random_state=0,
            )
            for mixture_class in BOTH
        )  # fmt: skip
        for mixture in (theirs, ours):
            try:
                mixture.fit(X)
            except ValueError as error:
                errors.append(str(error).split(".")[0])
            else:
                errors.append("")
        if errors[0] == "" and has_a_variance_of_rounding(theirs):
            continue
        assert errors[1] == errors[0], init_params

"""Arrays that scikit-learn's check would return as they are."""

import numpy as np
import pytest
from sklearn.utils import check_array

from sklearn_torch_gmm import GaussianMixture
from sklearn_torch_gmm.rows.checks import FLOAT_TYPES, check_floats, needs_no_check

X = np.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize(
    "values", [X, X[0], X.astype(np.float32), X[::2, ::-1], np.asfortranarray(X), X[None]]
)
def test_finite_floats_are_returned_as_they_are(values):
    assert needs_no_check(values)
    options = {"dtype": FLOAT_TYPES, "ensure_2d": False, "allow_nd": True}
    assert check_array(values, **options) is values
    assert check_floats(values, "values", allow_nd=True) is values


@pytest.mark.parametrize(
    "values",
    [
        [[1.0]],
        np.array(1.0),
        np.empty((0, 2)),
        np.empty((2, 0)),
        X.astype(int),
        X.astype(">f8"),
        X.astype(np.float16),
        np.ma.array(X),
        np.array([0.0, np.nan]),
        np.array([np.inf, -np.inf]),
        # The sum overflows: `check_array` looks at the values.
        np.full(3, 3e38, dtype=np.float32),
    ],
)
def test_all_else_is_checked(values):
    assert not needs_no_check(values)


def test_a_matrix_only_where_its_dimensions_are_allowed():
    with pytest.raises(ValueError, match="dim 3"):
        check_floats(X[None], "values")


def test_names_of_features_are_forgotten_and_missed():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b"])
    mixture = GaussianMixture().fit(frame)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        mixture.predict(X)
    mixture.fit(X)
    assert not hasattr(mixture, "feature_names_in_")
    assert mixture.n_features_in_ == 2
    with pytest.raises(ValueError, match="X has 1 features"):
        mixture.predict(X[:, :1])
    with pytest.raises(ValueError, match="minimum of 2"):
        mixture.fit(X[:1])

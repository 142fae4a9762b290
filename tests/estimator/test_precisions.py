"""Matrices that are given as precisions have to be symmetric and positive definite."""

import numpy as np
import pytest

from tests.estimators import DropIn


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_singular_precisions_are_refused_or_work(covariance_type, scale):
    """Rounding decides which: the check must not find otherwise than what needs the factors."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20, 3))
    for _ in range(50):
        factor = rng.integers(-5, 6, size=(3, 2)).astype(float) * [[1.0], [scale], [3.0]]
        matrix = factor @ factor.T
        precisions = matrix if covariance_type == "tied" else matrix[None]
        mixture = DropIn(1, covariance_type=covariance_type, precisions_init=precisions, max_iter=1)
        message = ""
        try:
            mixture.fit(rows)
        except ValueError as error:
            message = str(error)
        assert message == "" or "positive" in message
        assert message or np.isfinite(mixture.means_).all()


@pytest.mark.parametrize(
    "matrices",
    [
        [1e9 * np.eye(2), [[2.0, 1.0], [0.0, 2.0]]],
        [np.eye(2), [[1e9, 0.0], [1.0, 2.0]]],
        [np.eye(2), [[1e-9, 5e-10], [0.0, 1e-9]]],
    ],
    ids=["beside a large one", "beside a large entry", "of small entries"],
)
def test_precisions_that_are_not_symmetric_are_refused(matrices):
    rows = np.random.default_rng(0).normal(size=(20, 2))
    for own in (np.array(matrices), np.swapaxes(matrices, 1, 2)):
        with pytest.raises(ValueError, match="should be symmetric, positive-definite"):
            DropIn(2, precisions_init=own).fit(rows)
        with pytest.raises(ValueError, match="should be symmetric, positive-definite"):
            DropIn.from_parameters([0.5, 0.5], np.zeros((2, 2)), own)

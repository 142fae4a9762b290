"""The trace is `lower_bounds_`."""

import numpy as np
import pytest
import sklearn.mixture
from matplotlib.figure import Figure
from sklearn.exceptions import NotFittedError

from sklearn_torch_gmm import ConvergenceDisplay, GaussianMixture, GaussianMixtureIC
from sklearn_torch_gmm.mixture import BayesianGaussianMixture
from tests.estimators import MIXTURE_CLASSES, make

rng = np.random.default_rng(0)
X = rng.normal(size=(90, 3))
X[:30] += [3.0, -3.0, 1.0]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def ax():
    # A figure of its own, which pyplot doesn't keep.
    return Figure().subplots()


@pytest.mark.parametrize("cls", [*MIXTURE_CLASSES, sklearn.mixture.GaussianMixture])
def test_the_trace_is_that_of_the_fit(cls, ax):
    mixture = make(cls, 3, random_state=0).fit(X)
    display = ConvergenceDisplay.from_estimator(mixture, ax=ax)
    np.testing.assert_array_equal(display.line_.get_ydata(), mixture.lower_bounds_)
    np.testing.assert_array_equal(display.line_.get_xdata(), np.arange(1, mixture.n_iter_ + 1))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("iteration", "mean log-likelihood (nats)")
    assert [*map(float, display.end_.get_xydata()[0])] == [mixture.n_iter_, mixture.lower_bound_]
    assert (display.end_.get_marker(), ax.get_legend()) == ("o", None)
    assert display.figure_ is ax.figure


def test_fits_to_compare(ax):
    search = GaussianMixtureIC(2, 2, random_state=0).fit(X)
    first = ConvergenceDisplay.from_estimator(search, ax, name="search")
    stopped = GaussianMixture(
        3, init_strategy="random", random_state=0, trainer_params={"max_epochs": 2}
    ).fit(X)
    second = ConvergenceDisplay.from_estimator(
        stopped, ax, name="stopped", line_kwargs={"color": "red"}
    )
    assert first.ax_ is second.ax_ is ax
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["search", "stopped"]
    assert second.end_.get_marker() == "x", "it did not converge"
    assert second.end_.get_color() == "red"


def test_the_bound_of_a_bayesian_mixture_is_named(ax):
    mixture = BayesianGaussianMixture(n_components=2, random_state=0).fit(X)
    ConvergenceDisplay.from_estimator(mixture, ax)
    assert ax.get_ylabel() == "evidence lower bound (nats)"


def test_a_mixture_without_iterations():
    with pytest.raises(NotFittedError):
        ConvergenceDisplay.from_estimator(GaussianMixture())
    for mixture in (
        GaussianMixture.from_parameters([1.0], [[0.0]], [[[1.0]]]),
        GaussianMixture(2, random_state=0).partial_fit(X),
    ):
        with pytest.raises(ValueError, match="has no iterations in lower_bounds_"):
            ConvergenceDisplay.from_estimator(mixture)


def test_what_is_not_axes_is_refused():
    X = np.random.default_rng(0).normal(size=(30, 2))
    mixture = GaussianMixture(2, random_state=0).fit(X)
    with pytest.raises(TypeError, match="ax must be an Axes of matplotlib, got a ndarray"):
        ConvergenceDisplay.from_estimator(mixture, X)

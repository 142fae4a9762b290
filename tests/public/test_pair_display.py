"""The pairs are the plots of two features, the curves are scipy's densities."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from scipy.stats import norm
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError
from torch.utils.data import DataLoader

from sklearn_torch_gmm import GaussianMixtureIC, MixtureDisplay, PairDisplay
from tests.estimators import MIXTURE_CLASSES, TYPES, make

rng = np.random.default_rng(0)
X = rng.normal(size=(80, 4)) * [1.0, 2.0, 0.5, 1.0]
X[:40] += [8.0, -3.0, 1.0, 0.0]


@pytest.fixture
def axes():
    # A figure of its own, which pyplot doesn't keep.
    return Figure().subplots(3, 3)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_each_pair_is_the_plot_of_two_features(axes, covariance_type):
    mixture = make(MIXTURE_CLASSES[0], 2, covariance_type=covariance_type, random_state=0).fit(X)
    features = (3, 0, 1)
    display = PairDisplay.from_estimator(mixture, X, features=features, ax=axes)
    assert sorted(display.displays_) == [(1, 0), (2, 0), (2, 1)]
    for (row, column), pair in display.displays_.items():
        alone = MixtureDisplay.from_estimator(
            mixture, X, features=(features[column], features[row]), ax=Figure().subplots()
        )
        assert_allclose(pair.means, alone.means)
        assert_allclose(pair.covariances, alone.covariances)
        assert_allclose(pair.scatter_.get_offsets(), alone.scatter_.get_offsets())
        assert (pair.labels == mixture.labels_).all()
        assert pair.ax_ is axes[row, column]
    assert not any(axes[row, column].get_visible() for row, column in [(0, 1), (0, 2), (1, 2)])
    assert display.figure_ is axes[0, 0].figure


def test_the_curves_are_weighted_marginal_densities(axes):
    mixture = make(MIXTURE_CLASSES[0], 2, covariance_type="full", random_state=0).fit(X)
    display = PairDisplay.from_estimator(mixture, X, features=(0, 1, 2), ax=axes)
    for feature, curves in enumerate(display.curves_):
        x = curves[0].get_xdata()
        expected = [
            weight * norm(mean[feature], np.sqrt(covariance[feature, feature])).pdf(x)
            for weight, mean, covariance in zip(
                mixture.weights_, mixture.means_, mixture.covariances_, strict=True
            )
        ]
        for curve, density in zip(curves, [*expected, sum(expected)], strict=True):
            assert_allclose(curve.get_ydata(), density, rtol=1e-9)
        bars = axes[feature, feature].patches
        area = sum(bar.get_width() * bar.get_height() for bar in bars)
        assert_allclose(area, 1.0, rtol=1e-12)


def test_axes_of_a_feature_agree_and_show_everything(axes):
    mixture = make(MIXTURE_CLASSES[0], 2, random_state=0).fit(X)
    PairDisplay.from_estimator(mixture, X, features=(0, 1, 2), ax=axes)
    for feature in range(3):
        limits = axes[feature, feature].get_xlim()
        assert limits[0] < X[:, feature].min() < X[:, feature].max() < limits[1]
        assert {axes[row, feature].get_xlim() for row in range(feature, 3)} == {limits}
        assert {axes[feature, column].get_ylim() for column in range(feature)} <= {limits}
    labels = [axes[2, column].get_xlabel() for column in range(3)]
    assert labels == [axes[row, 0].get_ylabel() for row in range(3)]
    assert labels == ["feature 0", "feature 1", "feature 2"]
    assert axes[1, 0].get_xlabel() == axes[2, 1].get_ylabel() == ""


def test_all_named_features_of_a_search_in_a_new_figure():
    frame = pd.DataFrame(X, columns=list("abcd"))
    search = GaussianMixtureIC(1, 2, random_state=0).fit(frame)
    display = PairDisplay.from_estimator(search, frame)
    assert display.axes_.shape == (4, 4)
    assert display.feature_names == ("a", "b", "c", "d")
    assert_allclose(display.means, search.best_estimator_.means_)
    plt.close(display.figure_)


def test_without_samples_and_again_with_other_levels(axes):
    mixture = make(MIXTURE_CLASSES[0], 2, random_state=0).fit(torch.tensor(X))
    display = PairDisplay.from_estimator(mixture, features=(0, 1, 2), ax=axes, levels=(0.5,))
    assert display.X is display.labels is None
    assert len(axes[1, 0].patches) == 2
    other = Figure().subplots(3, 3)
    assert display.plot(other, levels=(0.2, 0.5, 0.9)) is display
    assert len(other[1, 0].patches) == 6
    assert display.ax_ is other[0, 0]


def test_keywords_reach_matplotlib(axes):
    mixture = make(MIXTURE_CLASSES[0], 2, random_state=0).fit(X)
    display = PairDisplay.from_estimator(
        mixture, X, (0, 1, 2), axes, scatter_kwargs={"c": "k"}, ellipse_kwargs={"ls": ":"},
        hist_kwargs={"bins": 7},
    )  # fmt: skip
    assert len(axes[0, 0].patches) == 7
    pair = display.displays_[1, 0]
    assert pair.ellipses_[0][0].get_linestyle() == ":"
    assert pair.scatter_.get_facecolors()[0, :3].tolist() == [0, 0, 0]


def test_what_cannot_be_drawn(axes):
    mixture = make(MIXTURE_CLASSES[0], 2, random_state=0)
    with pytest.raises(NotFittedError):
        PairDisplay.from_estimator(mixture)
    with pytest.raises(TypeError, match=r"PairDisplay draws a Gaussian mixture.*got a KMeans"):
        PairDisplay.from_estimator(KMeans(2).fit(X))
    mixture.fit(X)
    with pytest.raises(TypeError, match="samples in memory, not a DataLoader"):
        PairDisplay.from_estimator(mixture, DataLoader(torch.tensor(X)))
    with pytest.raises(ValueError, match=r"array of Axes of shape \(2, 2\), got \(3, 3\)"):
        PairDisplay.from_estimator(mixture, X, (0, 1), axes)
    with pytest.raises(ValueError, match="levels must be"):
        PairDisplay.from_estimator(mixture, X, (0, 1), levels=(2,))
    many = make(MIXTURE_CLASSES[0], 1, random_state=0).fit(rng.normal(size=(30, 11)))
    with pytest.raises(ValueError, match="at most 10 features, got 11: choose some"):
        PairDisplay.from_estimator(many)


def test_gaps_are_left_out():
    X = np.random.default_rng(0).normal(size=(100, 2))
    X[::4, 0] = np.nan
    mixture = make(MIXTURE_CLASSES[1], 2, missing="em", random_state=0).fit(X)
    display = PairDisplay.from_estimator(mixture, X)
    low, high = display.axes_[0, 0].get_xlim()
    assert low < np.nanmin(X[:, 0]) < np.nanmax(X[:, 0]) < high
    assert display.axes_[1, 1].patches

"""Ellipses against values derived by hand, densities against scipy, each type and each class."""

import math
import re
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import sklearn.mixture
import torch
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.testing import assert_allclose
from scipy.stats import chi2, multivariate_normal
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader

from sklearn_torch_gmm import GaussianMixtureIC, MixtureDisplay
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn
from tests.estimators import MIXTURE_CLASSES, TYPES, make


def bayesian(n_components, **params):
    # It takes no parameter by position.
    return sklearn.mixture.BayesianGaussianMixture(n_components=n_components, **params)


CLASSES = [*MIXTURE_CLASSES, sklearn.mixture.GaussianMixture, bayesian]

rng = np.random.default_rng(0)
X = rng.normal(size=(80, 3)) * [1.0, 2.0, 0.5]
X[:40] += [8.0, -3.0, 1.0]


@pytest.fixture
def ax():
    # A figure of its own, which pyplot doesn't keep.
    return Figure().subplots()


def matrices(estimator):
    """The covariance matrices [K, D, D] of any type, in scikit-learn's terms."""
    components, features = estimator.means_.shape
    return {
        "full": lambda c: c,
        "tied": lambda c: np.broadcast_to(c, (components, features, features)),
        "diag": lambda c: np.stack([np.diag(row) for row in c]),
        "spherical": lambda c: c[:, None, None] * np.eye(features),
    }[estimator.covariance_type](estimator.covariances_)


def test_an_ellipse_derived_by_hand(ax):
    # [[5, 3], [3, 5]] has the eigenvalues 8 along (1, 1) and 2 along (-1, 1). Half of a normal
    # distribution in two dimensions lies within r² = 2 log 2.
    mixture = DropIn.from_parameters([1.0], [[1.0, -2.0]], [[[5.0, 3.0], [3.0, 5.0]]])
    display = MixtureDisplay.from_estimator(mixture, ax=ax, levels=[0.5])
    ((ellipse,),) = display.ellipses_
    assert_allclose(ellipse.get_center(), (1.0, -2.0))
    assert_allclose(ellipse.width, 2 * np.sqrt(2 * np.log(2) * 8), rtol=1e-12)
    assert_allclose(ellipse.height, 2 * np.sqrt(2 * np.log(2) * 2), rtol=1e-12)
    # The same ellipse after half a turn.
    assert_allclose(ellipse.angle % 180, 45, rtol=1e-12)


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("cls", CLASSES)
def test_ellipses_are_those_of_the_marginal_distribution(cls, covariance_type, ax):
    estimator = cls(2, covariance_type=covariance_type, random_state=0).fit(X)
    features, levels = (2, 0), (0.3, 0.95)
    display = MixtureDisplay.from_estimator(estimator, X, features=features, ax=ax, levels=levels)
    for component, matrix in enumerate(matrices(estimator)):
        inverse = np.linalg.inv(matrix[np.ix_(features, features)])
        for level, ellipse in zip(levels, display.ellipses_[component], strict=True):
            # In the coordinates of the data.
            outline = ellipse.get_patch_transform().transform(
                [[np.cos(t), np.sin(t)] for t in np.linspace(0, 6, 20)]
            )
            away = outline - estimator.means_[component, list(features)]
            squared = np.einsum("ni,ij,nj->n", away, inverse, away)
            assert_allclose(squared, chi2(2).ppf(level), rtol=1e-9)
    assert_allclose(display.scatter_.get_offsets(), X[:, features])
    assert (display.labels == estimator.predict(X)).all()
    assert display.ax_ is ax
    assert display.figure_ is ax.figure


@pytest.mark.parametrize("cls", CLASSES)
def test_density_is_that_of_scipy(cls, ax):
    estimator = cls(2, covariance_type="full", random_state=0).fit(X)
    display = MixtureDisplay.from_estimator(
        estimator, features=(0, 1), ax=ax, density=True, grid_resolution=20
    )
    x, y = np.meshgrid(np.linspace(*ax.get_xlim(), 20), np.linspace(*ax.get_ylim(), 20))
    expected = np.log(
        sum(
            weight * multivariate_normal(mean[:2], covariance[:2, :2]).pdf(np.dstack([x, y]))
            for weight, mean, covariance in zip(
                estimator.weights_, estimator.means_, estimator.covariances_, strict=True
            )
        )
    )
    drawn = display.contours_.zmin, display.contours_.zmax
    assert_allclose(drawn, (expected.min(), expected.max()), rtol=1e-9)
    assert_allclose(display.contours_.levels, expected.max() - np.arange(10, 0, -1), rtol=1e-9)


def test_rows_have_the_colours_of_their_components(ax):
    mixture = make(MIXTURE_CLASSES[0], 2, random_state=0).fit(X)
    display = MixtureDisplay.from_estimator(mixture, X, ax=ax, scatter_kwargs={"alpha": 1.0})
    edges = [ellipses[0].get_edgecolor() for ellipses in display.ellipses_]
    expected = [edges[label] for label in mixture.labels_]
    assert_allclose(display.scatter_.get_facecolors(), expected)


def test_more_components_than_usual_colours(ax):
    mixture = make(MIXTURE_CLASSES[0], 15, random_state=0).fit(X)
    display = MixtureDisplay.from_estimator(mixture, ax=ax)
    assert len({ellipses[0].get_edgecolor() for ellipses in display.ellipses_}) == 15


def test_named_columns(ax):
    frame = pd.DataFrame(X, columns=["height", "weight", "age"])
    mixture = make(MIXTURE_CLASSES[0], 2, random_state=0).fit(frame)
    display = MixtureDisplay.from_estimator(mixture, frame, features=("age", "height"), ax=ax)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("age", "height")
    assert_allclose(display.means, mixture.means_[:, [2, 0]])


def test_a_tensor(ax):
    rows = torch.tensor(X)
    mixture = make(MIXTURE_CLASSES[0], 2, random_state=0).fit(rows)
    display = MixtureDisplay.from_estimator(mixture, rows, features=(-1, 0), ax=ax)
    assert_allclose(display.scatter_.get_offsets(), X[:, [2, 0]])
    assert ax.get_xlabel() == "feature 2"


def test_keywords_reach_matplotlib(ax):
    mixture = make(MIXTURE_CLASSES[0], 2, random_state=0).fit(X)
    display = MixtureDisplay.from_estimator(
        mixture,
        X,
        ax=ax,
        density=True,
        grid_resolution=10,
        ellipse_kwargs={"linestyle": "--"},
        scatter_kwargs={"marker": "x", "c": "black"},
        contour_kwargs={"levels": [-3.0]},
    )
    assert display.ellipses_[0][0].get_linestyle() == "--"
    assert (display.scatter_.get_edgecolors() == [0, 0, 0, 0.6]).all()
    assert display.contours_.levels.tolist() == [-3.0]


def test_plot_again_elsewhere(ax):
    mixture = make(MIXTURE_CLASSES[0], 2, random_state=0).fit(X)
    display = MixtureDisplay.from_estimator(mixture, X, ax=ax)
    other = Figure().subplots()
    assert display.plot(other, levels=[0.2]) is display
    assert display.ax_ is other
    assert len(other.patches) == 2


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ((0, 3), "no feature 3: the mixture has 3"),
        ((0,), "two or more positions or names"),
        ((0, 1, 2), "at most 2 features, got 3"),
        ("ab", "two or more positions or names"),
        (1, "two or more positions or names, got 1"),
        (None, "at most 2 features, got 3"),
        ((0.5, 1), r"positions or names, got \(0.5, 1\)"),
        ((True, False), r"positions or names, got \(True, False\)"),
        (("a", 1), "no feature 'a': the mixture was fitted to columns without names"),
    ],
)
def test_features_that_are_not_there(features, message):
    mixture = make(MIXTURE_CLASSES[0], 2, random_state=0).fit(X)
    with pytest.raises(ValueError, match=message):
        MixtureDisplay.from_estimator(mixture, features=features)


@pytest.mark.parametrize(
    "levels", [[0], [1], [-0.5], [0.5, 90], [math.nan], ["0.5"], [None], [True], 0.5, "ab"]
)
def test_levels_that_are_no_shares(levels):
    mixture = make(MIXTURE_CLASSES[0], 2, random_state=0).fit(X)
    shown = re.escape(repr(levels))
    with pytest.raises(ValueError, match=f"levels must be .* between 0 and 1, got {shown}"):
        MixtureDisplay.from_estimator(mixture, levels=levels)


@pytest.mark.parametrize("resolution", [1, 0, -5, 2.5, "200", True])
def test_resolutions_that_make_no_grid(resolution, ax):
    mixture = make(MIXTURE_CLASSES[0], 2, random_state=0).fit(X)
    message = f"grid_resolution must be an integer of at least 2, got {resolution!r}"
    with pytest.raises(ValueError, match=message):
        MixtureDisplay.from_estimator(mixture, ax=ax, density=True, grid_resolution=resolution)
    assert not ax.patches, "nothing is drawn before the error"


def test_what_cannot_be_drawn():
    mixture = make(MIXTURE_CLASSES[0], 2, random_state=0)
    with pytest.raises(NotFittedError):
        MixtureDisplay.from_estimator(mixture)
    with pytest.raises(TypeError, match="got a KMeans"):
        MixtureDisplay.from_estimator(KMeans(2).fit(X))
    with pytest.raises(NotFittedError):
        MixtureDisplay.from_estimator(GaussianMixtureIC(1, 2))
    search = GridSearchCV(make_pipeline(StandardScaler(), mixture), {}, cv=2).fit(X)
    with pytest.raises(TypeError, match=r"got a GridSearchCV\. For a pipeline, pass the last step"):
        MixtureDisplay.from_estimator(search)
    search = GridSearchCV(mixture, {}, cv=2, refit=False).fit(X)
    with pytest.raises(TypeError, match="GridSearchCV has no best_estimator_: set refit=True"):
        MixtureDisplay.from_estimator(search)
    mixture.fit(X)
    with pytest.raises(TypeError, match="samples in memory, not a DataLoader"):
        MixtureDisplay.from_estimator(mixture, DataLoader(torch.tensor(X)))
    with pytest.raises(ValueError, match="3 features"):
        MixtureDisplay.from_estimator(mixture, X[:, :2])
    with pytest.raises(ValueError, match="Expected 2D array"):
        MixtureDisplay.from_estimator(mixture, X[0])


@pytest.mark.parametrize("kind", ["sweep", "grid"])
def test_a_search_is_drawn_by_its_best_mixture(kind, ax):
    search = {
        "sweep": GaussianMixtureIC(1, 3, random_state=0),
        "grid": GridSearchCV(DropIn(random_state=0), {"n_components": [1, 2]}, cv=2),
    }[kind].fit(X)
    display = MixtureDisplay.from_estimator(search, X, ax=ax)
    best = search.best_estimator_
    assert_allclose(display.means, best.means_[:, :2])
    assert (display.labels == best.predict(X)).all()


def test_a_new_figure_leaves_space_for_its_labels():
    display = MixtureDisplay.from_estimator(make(MIXTURE_CLASSES[0], 2, random_state=0).fit(X))
    assert isinstance(display.figure_.get_layout_engine(), ConstrainedLayoutEngine)
    plt.close(display.figure_)


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_the_highest_density_differs_most_from_the_background(style):
    with plt.style.context(style):
        ax = Figure().subplots()
        mixture = make(MIXTURE_CLASSES[0], 2, random_state=0).fit(X)
        display = MixtureDisplay.from_estimator(mixture, ax=ax, density=True, grid_resolution=20)
    contours = display.contours_
    background = np.mean(ax.get_facecolor()[:3])
    away = [abs(np.mean(color[:3]) - background) for color in contours.get_edgecolor()]
    assert away == sorted(away)
    assert away[-1] > 0.9


WITHOUT_MATPLOTLIB = """
import sys

sys.modules["matplotlib"] = None  # what import finds where a package is missing
from sklearn_torch_gmm import MixtureDisplay
from sklearn_torch_gmm.mixture import GaussianMixture

mixture = GaussianMixture.from_parameters([1.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.0, 1.0]]])
try:
    MixtureDisplay.from_estimator(mixture)
except ImportError as error:
    print(error)
"""


def test_without_matplotlib():
    finished = subprocess.run(
        [sys.executable, "-c", WITHOUT_MATPLOTLIB],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert finished.stdout.startswith("MixtureDisplay.from_estimator requires matplotlib.")


@pytest.mark.parametrize(
    "style",
    [{"color": "k"}, {"c": "r"}, {"lw": 1}, {"linewidths": 1}, {"facecolors": "g"}, {"ec": "k"}],
)
def test_rows_have_the_style_that_is_asked_for(style, ax):
    mixture = make(MIXTURE_CLASSES[0], 2, random_state=0).fit(X)
    display = MixtureDisplay.from_estimator(mixture, X, ax=ax, scatter_kwargs=style)
    width = display.scatter_.get_linewidth()[0]
    assert width == (1 if {"lw", "linewidths"} & set(style) else 0)
    if {"color", "c", "facecolors"} & set(style):
        assert len(display.scatter_.get_facecolor()) == 1


def test_contours_and_ellipses_of_one_colour(ax):
    mixture = make(MIXTURE_CLASSES[0], 2, random_state=0).fit(X)
    display = MixtureDisplay.from_estimator(
        mixture,
        X,
        ax=ax,
        density=True,
        contour_kwargs={"colors": "red"},
        ellipse_kwargs={"color": "red", "lw": 3},
    )
    assert {tuple(c[:3]) for c in display.contours_.get_edgecolor()} == {(1.0, 0.0, 0.0)}
    assert display.ellipses_[0][0].get_edgecolor()[:3] == (1.0, 0.0, 0.0)
    assert display.ellipses_[0][0].get_linewidth() == 3


def test_a_feature_against_itself_is_not_plotted():
    mixture = make(MIXTURE_CLASSES[0], 2, random_state=0).fit(X)
    with pytest.raises(ValueError, match="must be different features"):
        MixtureDisplay.from_estimator(mixture, features=(2, -1))


def test_narrow_types_of_torch_can_be_drawn(ax):
    mixture = make(MIXTURE_CLASSES[0], 2, random_state=0).fit(X)
    rows = torch.tensor(X).bfloat16()
    display = MixtureDisplay.from_estimator(mixture, rows, ax=ax)
    assert (rows[:, :2].double().numpy() == display.X).all()

"""The colours are the responsibilities that the mixture gives."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError

from sklearn_torch_gmm import GaussianMixtureIC, ResponsibilityDisplay
from sklearn_torch_gmm._drawing import READABLE_MAP
from tests.estimators import MIXTURE_CLASSES, make

rng = np.random.default_rng(0)
X = rng.normal(size=(90, 3)) * [1.0, 2.0, 0.5]
X[:30] += [3.0, -3.0, 1.0]


@pytest.fixture
def ax():
    # A figure of its own, which pyplot doesn't keep.
    return Figure().subplots()


def drawn(display):
    """The value at each place, in the order of the places."""
    places = np.asarray(display.scatter_.get_offsets())
    order = np.lexsort(places.T)
    return places[order], np.asarray(display.scatter_.get_array())[order]


@pytest.mark.parametrize("component", [None, 0, 2])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_the_values_are_those_of_predict_proba(ax, component, as_tensor):
    rows = torch.tensor(X) if as_tensor else X
    mixture = make(MIXTURE_CLASSES[0], 3, random_state=0).fit(rows)
    display = ResponsibilityDisplay.from_estimator(
        mixture, rows, features=(2, 0), ax=ax, component=component
    )
    shares = np.asarray(mixture.predict_proba(X))
    expected = 1 - shares.max(1) if component is None else shares[:, component]
    places, values = drawn(display)
    order = np.lexsort(X[:, [2, 0]].T)
    assert_allclose(places, X[order][:, [2, 0]])
    assert_allclose(values, expected[order])
    assert_allclose(display.scatter_.get_clim(), (0.0, 2 / 3 if component is None else 1.0))
    name = "uncertainty" if component is None else f"responsibility of component {component}"
    assert display.colorbar_.ax.get_ylabel() == name
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("feature 2", "feature 0")
    # The most uncertain are drawn last.
    assert (np.diff(display.scatter_.get_array()) >= 0).all()


def test_ellipses_of_each_component_and_level(ax):
    mixture = make(MIXTURE_CLASSES[0], 3, random_state=0).fit(X)
    display = ResponsibilityDisplay.from_estimator(
        mixture, X, ax=ax, levels=(0.2, 0.5), ellipse_kwargs={"lw": 3}, scatter_kwargs={"s": 40}
    )
    assert [len(own) for own in display.ellipses_] == [2, 2, 2]
    assert display.ellipses_[0][0].get_linewidth() == 3
    assert display.scatter_.get_sizes().tolist() == [40]


def test_a_search_and_again_with_a_component(ax):
    search = GaussianMixtureIC(2, 2, random_state=0).fit(X)
    display = ResponsibilityDisplay.from_estimator(search, X, ax=ax)
    assert_allclose(display.responsibilities, search.predict_proba(X))
    other = Figure().subplots()
    assert display.plot(other, component=1) is display
    assert display.ax_ is other
    assert display.figure_ is other.figure


def test_one_component_is_certain(ax):
    mixture = make(MIXTURE_CLASSES[0], 1, random_state=0).fit(X)
    display = ResponsibilityDisplay.from_estimator(mixture, X, ax=ax)
    assert (display.scatter_.get_array() == 0).all()
    assert display.scatter_.get_clim() == (0.0, 0.5)


@pytest.mark.parametrize("background", ["white", "black"])
def test_every_colour_can_be_told_from_a_background(background):
    """The contrast of WCAG 2, of which 3 is asked for graphics."""

    def luminance(colours):
        c = np.asarray(colours)
        return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [
            0.2126, 0.7152, 0.0722
        ]  # fmt: skip

    shades, behind = (
        luminance(READABLE_MAP(np.linspace(0, 1, 50))[:, :3]),
        luminance(to_rgb(background)),
    )
    contrast = (np.maximum(shades, behind) + 0.05) / (np.minimum(shades, behind) + 0.05)
    assert contrast.min() > 3


@pytest.mark.parametrize("component", [3, -1, 0.5, True, "a"])
def test_components_that_are_not_there(component, ax):
    mixture = make(MIXTURE_CLASSES[0], 3, random_state=0).fit(X)
    with pytest.raises(ValueError, match="component must be one of 0 to 2, got"):
        ResponsibilityDisplay.from_estimator(mixture, X, ax=ax, component=component)
    assert not ax.patches, "nothing is drawn before the error"


def test_an_unfitted_mixture():
    with pytest.raises(NotFittedError):
        ResponsibilityDisplay.from_estimator(make(MIXTURE_CLASSES[0], 2), X)

"""What all displays of a mixture have in common: the samples, features and axes they accept."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from sklearn_torch_gmm import (
    GaussianMixtureClassifier,
    GaussianMixtureIC,
    MixtureDisplay,
    PairDisplay,
    ResponsibilityDisplay,
)
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn

rng = np.random.default_rng(0)
X = rng.normal(size=(80, 3)) * [1.0, 2.0, 0.5]
X[:40] += [8.0, -3.0, 1.0]


@pytest.fixture
def closed_figures():
    yield
    plt.close("all")


COLUMNS = pd.DataFrame(X).round(2)
BOOLEAN = COLUMNS.assign(b=COLUMNS[1] > 0)
KINDS = {
    "strings": COLUMNS.astype(str),
    "list of strings": COLUMNS.astype(str).to_numpy().tolist(),
    "nullable": COLUMNS.astype("Float64"),
    "bool beside float": BOOLEAN.rename(columns=str),
    "objects": COLUMNS.to_numpy().astype(object),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("display", [MixtureDisplay, PairDisplay, ResponsibilityDisplay])
def test_samples_are_drawn_as_the_numbers_that_the_mixture_reads(display, kind, closed_figures):
    samples = KINDS[kind]
    mixture = DropIn(2, random_state=0).fit(samples)
    drawn = display.from_estimator(mixture, samples)
    if display is PairDisplay:
        drawn = drawn.displays_[1, 0]
    expected = COLUMNS.to_numpy()[:, :2]
    found = np.asarray(drawn.scatter_.get_offsets())
    assert_allclose(np.sort(found, axis=0), np.sort(expected, axis=0), rtol=1e-6)


@pytest.mark.parametrize("display", [MixtureDisplay, PairDisplay, ResponsibilityDisplay])
def test_missing_values_of_a_frame_are_left_out(display, closed_figures):
    samples = COLUMNS.astype("Float64")
    samples.iloc[0, 1] = pd.NA
    mixture = DropIn(2, missing="em", random_state=0).fit(samples)
    display.from_estimator(mixture, samples)


def test_a_feature_without_values_has_no_histogram(recwarn, closed_figures):
    samples = np.where([False, False, True], np.nan, X)
    mixture = DropIn(1).fit(X).set_params(missing="em")
    drawn = PairDisplay.from_estimator(mixture, samples)
    assert not drawn.axes_[2, 2].patches
    assert not recwarn.list


@pytest.mark.parametrize("display", [MixtureDisplay, PairDisplay, ResponsibilityDisplay])
def test_one_feature_cannot_be_drawn(display):
    mixture = DropIn(1).fit(X[:, :1])
    with pytest.raises(ValueError, match=r"has one feature, and a plot needs two .* draw np\.exp"):
        display.from_estimator(mixture, X[:, :1])


def test_the_mixture_of_another_estimator_is_named():
    classifier = GaussianMixtureClassifier().fit(X, X[:, 0] > 4)
    with pytest.raises(TypeError, match="pass the estimator's mixture_"):
        MixtureDisplay.from_estimator(classifier, X)


@pytest.mark.parametrize("name", ["color", "facecolors", "fc"])
def test_colours_that_show_values_cannot_be_replaced(name, closed_figures):
    mixture = DropIn(2, random_state=0).fit(X)
    with pytest.raises(ValueError, match="choose a scale with 'cmap'"):
        ResponsibilityDisplay.from_estimator(mixture, X, scatter_kwargs={name: "red"})


@pytest.mark.parametrize("wrong", ["a", ["a"], [None]])
def test_axes_are_axes(wrong):
    search = GaussianMixtureIC(1, 2, covariance_type="diag", random_state=0).fit(X)
    with pytest.raises(TypeError, match="ax must hold Axes of matplotlib"):
        search.plot(wrong)

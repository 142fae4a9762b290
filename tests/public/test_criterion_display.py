"""The lines are those of the table, and the mark is at the chosen mixture."""

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from sklearn.exceptions import NotFittedError

from sklearn_torch_gmm import CriterionDisplay, GaussianMixtureIC
from sklearn_torch_gmm.mixture import GaussianMixture

rng = np.random.default_rng(0)
X = rng.normal(size=(90, 2))
X[:30] += [6.0, 0.0]
X[30:60] += [0.0, 6.0]


@pytest.fixture
def ax():
    # A figure of its own, which pyplot doesn't keep.
    return Figure().subplots()


def fitted(**options):
    defaults = {"covariance_type": ["tied", "diag"], "n_init": 2, "random_state": 0}
    return GaussianMixtureIC(1, 4, **defaults | options).fit(X)


COLUMNS = {"cv": "mean_test_score"}
LABELS = {"cv": "held-out log-likelihood", "stability": "stability"}


@pytest.mark.parametrize("criterion", ["bic", "aic", "icl", "cv", "stability"])
def test_each_line_is_a_covariance_type_and_each_point_its_best_initialization(ax, criterion):
    search = fitted(criterion=criterion)
    display = CriterionDisplay.from_estimator(search, ax=ax)
    (lines,) = display.lines_
    assert [line.get_label() for line in lines] == ["tied", "diag"]
    table = search.results_
    for line in lines:
        rows = table["is_kept"] & (table["covariance_type"] == line.get_label())
        expected = table[COLUMNS.get(criterion, criterion)][rows]
        if criterion == "stability":
            # A single component agrees with itself.
            expected = [np.nan, *expected[1:]]
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4])
        np.testing.assert_array_equal(line.get_ydata(), expected)
    assert display.ax_.get_ylabel() == LABELS.get(criterion, criterion.upper())
    assert display.axes_.tolist() == [ax]
    assert display.ax_ is ax
    assert display.figure_ is ax.figure


def test_the_mark_is_at_the_smallest_value(ax):
    search = fitted()
    display = search.plot(ax)
    (mark,) = display.winners_
    (x,), (y,) = mark.get_data()
    assert x == search.n_components_
    assert y == min(line.get_ydata().min() for line in display.lines_[0])
    assert mark.get_label() == f"chosen: {search.covariance_type_}, {x}"


def test_several_criteria_side_by_side():
    search = fitted(stability=True)
    display = search.plot(criteria=["icl", "stability", "bic"])
    assert list(display.values) == ["ICL", "stability", "BIC"]
    assert [one.get_ylabel() for one in display.axes_] == ["ICL", "stability", "BIC"]
    for column, lines, mark in zip(
        ("icl", "stability", "bic"), display.lines_, display.winners_, strict=True
    ):
        row = np.flatnonzero(
            search.results_["is_kept"]
            & (search.results_["n_components"] == search.n_components_)
            & (search.results_["covariance_type"] == search.covariance_type_)
        )
        assert mark.get_data()[1] == search.results_[column][row]
        assert len(lines) == 2
    # Space for the labels, and one explanation of the lines for all plots.
    assert isinstance(display.figure_.get_layout_engine(), ConstrainedLayoutEngine)
    assert len(display.figure_.legends) == 1
    plt.close(display.figure_)


def test_on_given_axes():
    pair = Figure().subplots(1, 2)
    display = CriterionDisplay.from_estimator(fitted(), criteria=("bic", "aic"), ax=pair)
    assert (display.axes_ == pair).all()
    assert pair[0].get_legend() is not None
    with pytest.raises(ValueError, match="an Axes for each of the 2 criteria, got 1"):
        display.plot(ax=pair[0])


@pytest.mark.parametrize(
    ("criteria", "message"),
    [
        ("mdl", r"criteria must be some of \['bic', .*'stability'\], got 'mdl'"),
        ([], "criteria must be some of"),
        (3, r"criteria must be some of .*got 3"),
        ([["bic"]], "criteria must be some of"),
        (["bic", "cv"], "results_ has no column 'mean_test_score'"),
        ("stability", "results_ has no column 'stability'"),
    ],
)
def test_criteria_that_are_not_there(criteria, message, ax):
    with pytest.raises(ValueError, match=message):
        fitted().plot(ax, criteria=criteria)


def test_a_fit_that_failed_leaves_a_gap(ax):
    values = {"full": np.array([3.0, np.nan, 2.0]), "diag": np.array([4.0, 5.0, 6.0])}
    display = CriterionDisplay(
        n_components=np.array([2, 3, 4]), values={"BIC": values}, best=("full", 4)
    ).plot(ax=ax, line_kwargs={"linewidth": 3}, winner_kwargs={"color": "red"})
    np.testing.assert_array_equal(display.lines_[0][0].get_ydata(), values["full"])
    assert display.lines_[0][0].get_linewidth() == 3
    assert display.winners_[0].get_color() == "red"
    assert [x[0] for x in display.winners_[0].get_data()] == [4, 2.0]


def test_only_a_fitted_search_is_drawn(ax):
    with pytest.raises(NotFittedError):
        CriterionDisplay.from_estimator(GaussianMixtureIC(), ax=ax)
    with pytest.raises(TypeError, match="draws a GaussianMixtureIC, got a GaussianMixture"):
        CriterionDisplay.from_estimator(GaussianMixture().fit(X), ax=ax)


def test_matplotlib_is_needed_for_drawing_alone():
    program = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import numpy as np\n"
        "from sklearn_torch_gmm import CriterionDisplay\n"
        "display = CriterionDisplay(n_components=np.arange(2), values={}, best=('full', 1))\n"
        "try:\n    display.plot()\n"
        "except ImportError as error:\n    assert 'matplotlib' in str(error)\n"
        "else:\n    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)

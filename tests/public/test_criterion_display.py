"""The lines are the table's, the mark is what was chosen."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
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


@pytest.mark.parametrize("criterion", ["bic", "aic", "icl", "cv"])
def test_each_line_is_a_covariance_type_and_each_point_its_best_initialization(ax, criterion):
    search = fitted(criterion=criterion)
    display = CriterionDisplay.from_estimator(search, ax=ax)
    assert [line.get_label() for line in display.lines_] == ["tied", "diag"]
    table = search.results_
    for line in display.lines_:
        rows = table["is_kept"] & (table["covariance_type"] == line.get_label())
        expected = -table["mean_test_score"] if criterion == "cv" else table[criterion]
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4])
        np.testing.assert_array_equal(line.get_ydata(), expected[rows])
    name = {"cv": "held-out negative log-likelihood"}.get(criterion, criterion.upper())
    assert display.ax_.get_ylabel() == name
    assert display.ax_ is ax
    assert display.figure_ is ax.figure


def test_the_mark_is_at_the_smallest_value(ax):
    search = fitted()
    display = search.plot(ax)
    (x,), (y,) = display.winner_.get_data()
    assert x == search.n_components_
    assert y == min(line.get_ydata().min() for line in display.lines_)
    assert display.winner_.get_label() == f"{search.covariance_type_}, {x}"


def test_a_fit_that_failed_leaves_a_gap(ax):
    values = {"full": np.array([3.0, np.nan, 2.0]), "diag": np.array([4.0, 5.0, 6.0])}
    display = CriterionDisplay(
        n_components=np.array([2, 3, 4]), values=values, best=("full", 4), criterion_name="BIC"
    ).plot(ax=ax, line_kwargs={"linewidth": 3}, winner_kwargs={"color": "red"})
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), values["full"])
    assert display.lines_[0].get_linewidth() == 3
    assert display.winner_.get_color() == "red"
    assert [x[0] for x in display.winner_.get_data()] == [4, 2.0]


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

"""The choice among the rows of a table, derived by hand."""

import math

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from sklearn_torch_gmm._selection.candidates import covariance_types_of
from sklearn_torch_gmm._selection.criteria import (
    CRITERIA,
    EQUALLY_STABLE,
    described,
    information_criteria,
    summary,
)


def table(**columns):
    """Four mixtures, the third from two starts."""
    defaults = {
        "n_components": [1, 2, 3, 3, 4],
        "covariance_type": ["full", "full", "diag", "diag", "diag"],
        "is_kept": [True, True, False, True, True],
        "bic": [9.0, 7.0, 1.0, 6.0, 5.0],
        "stability": [1.0, 0.95, 0.945, 0.945, 0.9],
        "mean_test_score": [-4.0, -2.0, -1.0, -3.0, -5.0],
        "n_iter": [2, 3, 4, 5, 6],
        "converged": [True, True, True, False, True],
    }
    return {name: np.array(values) for name, values in {**defaults, **columns}.items()}


@pytest.mark.parametrize(("name", "row"), [("bic", 4), ("cv", 1)])
def test_the_best_value_of_the_fits_that_are_kept(name, row):
    assert CRITERIA[name].row_of_best(table()) == row


def test_failed_fits_are_left_out():
    assert CRITERIA["bic"].row_of_best(table(bic=[9.0, math.nan, 1.0, 6.0, math.nan])) == 3


def test_stability_leaves_the_choice_among_equals_to_bic():
    # A single component is left out; 0.945 is as stable as 0.95, and 0.9 is not.
    assert CRITERIA["stability"].row_of_best(table()) == 3
    assert CRITERIA["stability"].row_of_best(table(stability=[1.0, 0.97, 0.9, 0.9, 0.9])) == 1


def test_what_counts_as_equally_stable_in_samples():
    labels = np.repeat([0, 1], 400)
    moved = labels.copy()
    moved[[0, 500]] = [1, 0]
    assert 1 - adjusted_rand_score(labels, moved) == pytest.approx(EQUALLY_STABLE, rel=0.01)


def test_a_column_that_was_not_computed():
    results = table()
    del results["stability"]
    with pytest.raises(ValueError, match="no column 'stability'"):
        CRITERIA["stability"].row_of_best(results)


def test_information_criteria_by_hand():
    # -2 · (-10) + 3 log e² = 26, 20 + 6, and 26 - 2 · (-1).
    values = information_criteria(-10.0, -1.0, 3, math.e**2)
    assert values == pytest.approx({"bic": 26.0, "aic": 26.0, "icl": 28.0})


def test_lines_of_a_summary():
    results = table(mean_test_score=[-4.0, -2.0, math.nan, math.nan, -5.0])
    lines = summary(results, 1, "cv", 2)
    assert lines == [
        "full, n_components=1: held-out log-likelihood -4, converged in 2 iterations",
        "full, n_components=2: held-out log-likelihood -2, converged in 3 iterations",
        "diag, n_components=3: held-out log-likelihood unknown, see results_['error']",
        "diag, n_components=4: held-out log-likelihood -5, converged in 6 iterations",
        "chosen: full, n_components=2: held-out log-likelihood -2, converged in 3 iterations",
    ]
    assert summary(results, 1, "cv", 1) == lines[-1:]
    assert described(results, 3, "bic").endswith("BIC 6, did not converge in 5 iterations")


def test_covariance_types_of_a_parameter():
    assert covariance_types_of("all") == ["full", "tied", "diag", "spherical"]
    assert covariance_types_of("diag") == ["diag"]
    assert covariance_types_of(("tied", "diag", "tied")) == ["tied", "diag"]
    for value in ([], ["round"], [3]):
        with pytest.raises(ValueError, match="covariance_type must hold some of"):
            covariance_types_of(value)

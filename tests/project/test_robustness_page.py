"""The rules that tell how a fit ended, on made-up ends, and the page that shows what they tell."""

import json

import numpy as np
import pytest

from benchmarks.environment import ROOT
from benchmarks.peers import OURS
from benchmarks.peers.base import Fitted
from benchmarks.peers.ours import Ours
from benchmarks.peers.scikit_learn import ScikitLearn
from benchmarks.problems import Settings
from benchmarks.request import Request
from benchmarks.robustness.attempt import attempt
from benchmarks.robustness.endings import Ending, ending, wrong
from benchmarks.robustness.examine import examine
from benchmarks.robustness.inputs import INPUTS
from benchmarks.robustness.page import page_of, quote
from sklearn_torch_gmm import GaussianMixture

GOOD = {"finite": True, "converged": True, "weights_sum": 1.0, "warnings": []}
CLEAR = "ValueError: The fit failed. Component 3 has no width; reg_covar=1e-6 is sufficient."


def returned(**changes):
    return {"values": {**GOOD, **changes}}


def raised(text):
    return {"values": {"raised": text, "warnings": []}}


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (returned(), "good"),
        (returned(whole_mean=0.09, group_covariance=0.09), "good"),
        (returned(warnings=["UserWarning: component 3 is empty"]), "good, warns"),
        (returned(warnings=["UserWarning: as always"]), "good"),
        (raised(CLEAR), "clear error"),
        (raised("ValueError: Row 17 holds NaN: leave it out."), "clear error"),
        (raised("ValueError: Component 3 has no width."), "error"),
        (raised("ValueError: Some components have no width. Try fewer."), "error"),
        (raised("RuntimeError: cholesky: leading minor of order 2"), "error"),
        ({"error": "TypeError: raised outside of the fit"}, "error"),
        (returned(finite=False), "wrong"),
        (returned(weights_sum=0.9), "wrong"),
        (returned(smallest_eigenvalue=0.0), "wrong"),
        (returned(whole_variance=2.6), "wrong"),
        (returned(group_mean="NaN"), "wrong"),
        (returned(warnings=["UserWarning: something"], group_weight=0.11), "wrong"),
        ({"error": "the process ended with -11: ", "ended": "crash"}, "crash"),
        ({"error": "not done after 60 s", "ended": "time-out"}, "time-out"),
        ({"not_offered": "no batches"}, "not offered"),
    ],
)
def test_the_first_rule_that_holds_names_the_end(record, name):
    assert ending(record, "data", usual={"UserWarning: as always"}).name == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ValueError: covariance_type must be one of full, diag; got 'diagonal'", "clear error"),
        ("ValueError: Data is of type float64. Transform it.", "clear error"),
        ("AttributeError: 'list' object has no attribute 'dtype'", "error"),
        ("ValueError: a must be greater than 0 unless no samples are taken", "error"),
        ("ValueError: n_components=5 must be <= n_samples=3.", "clear error"),
        ("ValueError: 0 sample(s), while a minimum of 2 is required", "clear error"),
        ("UnboundLocalError: cannot access local variable 'covs'", "error"),
    ],
)
def test_a_wrong_argument_is_named_by_what_it_is(text, name):
    assert ending(raised(text), "argument").name == name


def test_of_several_warnings_the_one_that_names_a_component_is_quoted():
    told = ["ConvergenceWarning: few clusters", "UserWarning: Component 1 lost all its samples"]
    assert ending(returned(warnings=told), "data").words == told[1]
    assert ending(returned(warnings=told[:1]), "data").words == told[0]
    assert ending(returned(warnings=told, finite=False), "data").warning == told[1]


def test_what_is_wrong_is_said():
    assert wrong({**GOOD, "finite": False}) == "NaN or infinity, converged_ is True"
    assert wrong({**GOOD, "finite": False, "converged": False}) == "NaN or infinity"
    assert wrong({**GOOD, "weights_sum": 0.25}) == "the weights sum to 0.25"
    assert wrong({**GOOD, "whole_variance": 2.6}) == "variance of the whole off by 3"
    assert wrong({**GOOD, "group_mean": 0.5}) == "group mean off by 0.5"
    assert wrong(GOOD) == ""


def test_a_quotation_has_the_words_that_make_an_error_clear():
    clear = "ValueError: … Component 3 has no width; reg_covar=1e-6 is sufficient."
    assert quote(Ending("clear error", CLEAR), "data") == clear
    far = Ending("clear error", "ValueError: " + "word " * 50 + "row 17: leave it out.")
    assert quote(far, "data") == "ValueError: … row 17: leave it out."
    long = quote(Ending("error", "ValueError: " + "word " * 50), "data")
    assert long.endswith("word …")
    assert len(long) < 110


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_a_right_mixture_is_good_and_a_moved_one_is_not(covariance):
    difficult = INPUTS["ordinary"]
    data = difficult.data()
    settings = Settings(difficult.components, covariance)
    for peer in (ScikitLearn(), Ours()):
        fitted = peer.fitted(peer.fit(data.X, settings))
        facts = examine(fitted, data, covariance, 1e-6)
        assert facts["group_covariance"] < 1e-9
        assert wrong(facts) == ""
    weights, means, covariances, converged = fitted
    moved = Fitted(weights, means + 0.3, covariances, converged)
    assert "mean" in wrong(examine(moved, data, covariance, 1e-6))
    wider = Fitted(weights, means, 1.2 * covariances, converged)
    assert "group covariance" in wrong(examine(wider, data, covariance, 1e-6))
    exchanged = Fitted(weights[::-1], means, covariances, converged)
    assert wrong(examine(exchanged, data, covariance, 1e-6))
    empty = Fitted(weights, means * np.nan, covariances, converged)
    assert not examine(empty, data, covariance, 1e-6)["finite"]


@pytest.mark.parametrize("covariance", INPUTS["spreads-means"].covariances)
def test_the_other_class_takes_given_means_for_centroids(covariance):
    data = INPUTS["spreads-means"].data()
    mixture = GaussianMixture(2, covariance_type=covariance, init_means=data.means).fit(data.X)
    assert wrong(examine(Ours().fitted(mixture), data, covariance, 1e-6)) == ""


def test_inputs_are_the_same_each_time():
    for difficult in INPUTS.values():
        if "2,000" not in difficult.title and "ReLU" not in difficult.title:
            np.testing.assert_array_equal(
                np.asarray(difficult.data().X), np.asarray(difficult.data().X)
            )


def record(case, covariance, library, answer):
    return {"case": case, "covariance": covariance, "library": library, "version": "1.0", **answer}


def test_the_page_groups_types_quotes_words_and_shows_losses(tmp_path):
    other, usual = "scikit-learn", returned(warnings=["UserWarning: as always"])
    records = [
        record("ordinary", "full", other, usual),
        record("ordinary", "full", OURS, returned()),
        record("spreads-1e6", "full", other, usual),
        record("spreads-1e6", "diag", other, returned(finite=False)),
        record("spreads-1e6", "full", OURS, raised("ValueError: no | reason")),
        record("spreads-1e6", "diag", OURS, raised(CLEAR)),
    ]
    results = tmp_path / "example.json"
    results.write_text(json.dumps({"environments": {}, "records": records}))
    text = page_of(results, tmp_path / "plot.png")
    assert "| input | scikit-learn 1.0 | sklearn_torch_gmm 1.0 |" in text
    row = next(
        line
        for line in text.splitlines()
        if line.startswith("| standard deviations that differ by 1e6:")
    )
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == "✓ good [full]; ✗ **wrong**: NaN or infinity, converged_ is True [diag]"
    assert cells[2] == "○ clear error (1) [diag]; △ error (2) [full]"
    assert "2. `ValueError: no | reason`" in text
    assert "- standard deviations that differ by 1e6 (full): scikit-learn" in text


def test_an_attempt_tells_what_was_raised_and_what_was_returned(monkeypatch):
    # The limit is for a process of its own.
    monkeypatch.setattr("benchmarks.robustness.attempt.limit_memory", lambda limit: None)
    failed = attempt(Request("robustness", "nan", "full", library="scikit-learn"))
    assert failed["raised"].startswith("ValueError: Input X contains NaN")
    found = attempt(Request("robustness", "ordinary", "full", library=OURS))
    assert wrong(found) == ""


def test_the_published_page_is_what_the_results_give(tmp_path):
    results = ROOT / "benchmarks" / "results" / "robustness.json"
    page = (ROOT / "docs" / "robustness.md").read_text()
    assert page_of(results, tmp_path / "plot.png") in page, (
        "write it again: python -m benchmarks robustness --page"
    )
    records = json.loads(results.read_text())["records"]
    assert {record["case"] for record in records} == set(INPUTS)
    fits = {(record["case"], record["covariance"]) for record in records}
    assert f"{len(INPUTS)} such inputs, in {len(fits)} fits each" in page

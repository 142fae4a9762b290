"""scikit-learn's own tests of its mixtures, as its wheel has them, run on our classes.

They run in a process of their own, where our classes take the place of scikit-learn's before the
tests import it, with scikit-learn's fixtures and without the settings of this project. All of them
run: those listed below must fail, and no other may.
"""

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import pytest
import sklearn

ROOT = Path(__file__).parents[1]

REACHES_INTO_PRIVATE_PARTS = {
    "test_gaussian_mixture_all_init_does_not_estimate_gaussian_parameters": (
        "counts the calls of _estimate_gaussian_parameters, a private function of scikit-learn's "
        "module; what it is after, that a start which is given whole is not estimated, is tested "
        "by test_mixture.py"
    ),
}
"""Tests that are left out, and why."""

NEEDS_ARRAY_API = {
    "test_gaussian_mixture_array_api_compliance": (
        "wants fitted attributes to be tensors where the data are; ours are always NumPy arrays"
    ),
    "test_gaussian_mixture_raises_where_array_api_not_implemented": (
        "wants an error from init_params='kmeans' and 'k-means++'; ours works with all of them"
    ),
}
"""Tests that scikit-learn skips unless SCIPY_ARRAY_API=1 is set, and what we do differently.

With or without `array_api_dispatch`, our class does the same; test_mixture.py tests that.
"""

# 1.8 was the first version whose mixture takes part in dispatch.
HAS_ARRAY_API = not sklearn.__version__.startswith("1.7.")

RUN = """
import sys

import pytest
import sklearn.mixture

from sklearn_torch_gmm.mixture import BayesianGaussianMixture, GaussianMixture

sklearn.mixture.GaussianMixture = GaussianMixture
sklearn.mixture.BayesianGaussianMixture = BayesianGaussianMixture
folder = sklearn.mixture.__path__[0] + "/tests/test_"
files = [folder + name + ".py" for name in ("gaussian_mixture", "bayesian_mixture", "mixture")]
sys.exit(pytest.main([*files, *sys.argv[1:]]))
"""


def run_tests_of_scikit_learn(tmp_path, *arguments, **environment):
    """Run them; return the names of the functions by outcome, and what was printed."""
    # Neither this project's settings nor those of a folder that holds scikit-learn shall count.
    settings = tmp_path / "pytest.ini"
    settings.write_text("[pytest]\n", encoding="utf-8")
    results = tmp_path / "results.xml"
    process = subprocess.run(
        [
            *(sys.executable, "-c", RUN),
            *("-c", str(settings), f"--rootdir={tmp_path}", f"--junit-xml={results}"),
            *("-p", "no:cacheprovider", "--tb=short", "-q"),
            *arguments,
        ],
        cwd=ROOT,
        # The numbers that scikit-learn's tests draw without a seed of their own.
        env={**os.environ, "SKLEARN_SEED": "0", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert results.exists(), process.stdout
    outcomes = defaultdict(set)
    for case in ElementTree.parse(results).iter("testcase"):
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        assert len(kinds) <= 1, case.attrib
        outcomes[kinds.pop() if kinds else "passed"].add(case.attrib["name"].split("[")[0])
    return outcomes, process.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_but_those_that_reach_into_private_parts(tmp_path):
    # Most of these tests take one type of numbers; those that take two, then run with both.
    outcomes, printed = run_tests_of_scikit_learn(tmp_path, SKLEARN_RUN_FLOAT32_TESTS="1")
    assert outcomes["error"] == set(), printed
    assert outcomes["failure"] == REACHES_INTO_PRIVATE_PARTS.keys(), printed
    assert outcomes["skipped"] == (NEEDS_ARRAY_API.keys() if HAS_ARRAY_API else set()), printed
    # None of a test's variants passes where another fails or is skipped.
    assert not outcomes["passed"] & (outcomes["failure"] | outcomes["skipped"])
    assert len(outcomes["passed"]) > 45


@pytest.mark.skipif(not HAS_ARRAY_API, reason="scikit-learn 1.7 has no such tests")
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_differs_with_array_api_dispatch(tmp_path):
    outcomes, printed = run_tests_of_scikit_learn(tmp_path, "-k", "array_api", SCIPY_ARRAY_API="1")
    assert outcomes["error"] == set(), printed
    assert outcomes["failure"] == NEEDS_ARRAY_API.keys(), printed

"""The harness measures, and its report counts right; no time is asserted."""

import json
import subprocess
import sys
import warnings
from argparse import Namespace
from pkgutil import iter_modules, resolve_name

import numpy as np
import pytest

from benchmarks import figures, report, run, tables, worker
from benchmarks.cases import CASES, COVARIANCES
from benchmarks.environment import ROOT, told
from benchmarks.forms import SHORT, WHOLE, Measurement
from benchmarks.markdown import END, START, fill
from benchmarks.peers import OURS, PEERS
from benchmarks.peers.ours import Ours
from benchmarks.peers.scikit_learn import ScikitLearn
from benchmarks.problems import make_problem
from benchmarks.request import Request
from benchmarks.results import Results
from benchmarks.tables.cost_of_the_bound import parts_of
from benchmarks.tasks import TASKS, jobs, libraries
from benchmarks.timing import Timing, timed

MB = 2**20


def record(library, seconds, task="fit", repeat=0, **values):
    numbers = {"seconds": seconds, **values}
    if task == "fit":
        numbers |= {"per_iteration": seconds / 5, "whole_per_iteration": seconds / 6}
        numbers.setdefault("iterations", 6)
    return {
        "task": task,
        "case": "100k-32-16",
        "covariance": "full",
        "dtype": "float64",
        "device": "cpu",
        "library": library,
        "repeat": repeat,
        "version": "1.0",
        "values": numbers,
        "environment": "here",
    }


def failure(library, **answer):
    made = record(library, 1.0)
    del made["values"]
    return {**made, **answer}


ENVIRONMENT = {
    "processor": "Example",
    "cores": 2,
    "memory_gb": 8,
    "system": "Linux x86_64",
    "python": "3.12.0",
    "commit": "abc",
    "versions": {"numpy": "2.0"},
    "blas": ["openblas 0.3, 2 threads"],
    "torch_threads": 2,
    "torch_blas": "mkl",
}


def made_by_hand():
    """scikit-learn: median 12 s against 2 s. daal4py: 1.5 s, with fewer iterations."""
    product = record("torch", 1.0, task="product", flops_per_second=1e12)
    return {
        "environments": {"here": ENVIRONMENT},
        "records": [
            *(record(OURS, s, repeat=r, log_likelihood=-3.0) for r, s in enumerate((2, 9, 1))),
            *(record("scikit-learn", s, repeat=r) for r, s in enumerate((12, 10, 60))),
            record("daal4py", 1.5, iterations=4, log_likelihood=-3.5),
            failure("tgmm", error="ValueError: not positive definite"),
            failure("pomegranate", not_offered="no full covariances"),
            product,
        ],
    }


def figures_by_hand():
    """All of them, and those of the fits by library."""
    found = figures.figures_of(made_by_hand()["records"])
    return found, found[found["task"] == "fit"].set_index("library")


def test_a_ratio_is_that_of_medians():
    found, fits = figures_by_hand()
    assert fits.loc[OURS, "seconds"] == 2
    ratios = fits["ratio"].dropna()
    assert ratios.to_dict() == pytest.approx({OURS: 1.0, "scikit-learn": 6.0, "daal4py": 0.75})
    (lost,) = figures.losses(found).to_dict("records")
    assert (lost["library"], lost["ratio"]) == ("daal4py", pytest.approx(0.75))


def test_share_of_a_product_counts_the_arithmetic_of_two_products():
    found, fits = figures_by_hand()
    # 2 products × 2 operations × 100,000 rows × 16 components × (1 + 32 + 32 · 33 / 2) in 2 / 5 s.
    expected = 4 * 100_000 * 16 * 561 / 0.4 / 1e12
    assert figures.product_fraction(fits.loc[OURS], found) == pytest.approx(expected)


def test_a_difference_lost_in_noise_is_replaced_by_the_mean(monkeypatch):
    seconds = iter([3.0, 3.0])
    monkeypatch.setattr(
        libraries, "timed", lambda fit, *args, wait: Timing([next(seconds)], fit(*args))
    )
    values = libraries.fit(Request("fit", "tiny", "diag", library="scikit-learn"))
    assert values["per_iteration"] == values["whole_per_iteration"] == 1.0


def test_report_shows_ratios_losses_and_failures(tmp_path):
    results = tmp_path / "example.json"
    results.write_text(json.dumps(made_by_hand()))
    text = report.section(results, tmp_path / "images", "images/")
    table = next(line for line in text.splitlines() if line.startswith("| [100k, 32] → 16, full"))
    cells = [cell.strip() for cell in table.strip("|").split("|")]
    assert cells[1].startswith("400 ms [333 ms], 1% of a product")
    assert cells[2] == "6×, 2.4 s [2 s]"
    assert cells[3] == "**0.75×**, 300 ms [250 ms] (1)"
    assert cells[4:] == ["–", "fails (2)"]
    assert "1. after 4 of 6 iterations; log-likelihood -0.5 nats per sample" in text
    assert "2. ValueError: not positive definite" in text
    assert "- An EM iteration, [100k, 32] → 16, full: daal4py, 0.75×" in text
    assert text.index("daal4py, 0.75×") < text.index("| [100k")
    assert "- Example, 2 cores, 8 GB, Linux x86_64; commit abc" in text
    assert "torch with 2 threads, mkl" in text
    assert "](images/benchmarks-example.png)" in text
    image = tmp_path / "images" / "benchmarks-example.png"
    assert image.read_bytes().startswith(b"\x89PNG")


def test_the_readme_gets_ratios_and_their_machine(tmp_path):
    results = tmp_path / "example.json"
    results.write_text(json.dumps(made_by_hand()))
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    fill(readme, report.ratios(results))
    written = readme.read_text()
    machine = "Example, 2 cores, 8 GB, Linux x86_64:"
    assert written.startswith(f"before\n{START}\n\n{machine}\n\n| covariances |")
    assert written.endswith(f"\n\n{END}\nafter\n")
    assert "| full | 6× | 0.75× |" in written
    assert "old" not in written
    fill(readme, report.ratios(results))
    assert readme.read_text() == written


def test_a_page_without_the_marks_stays_as_it_is(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"{END} and {START}")
    with pytest.raises(ValueError, match="lacks the marks"):
        fill(page, "text")
    assert page.read_text() == f"{END} and {START}"


@pytest.mark.parametrize("name", ["cpu", "cpu-amd"])
def test_the_published_pages_are_what_the_results_give(tmp_path, name):
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    page, readme = ROOT / "docs" / "benchmarks.md", ROOT / "README.md"
    again = "write it again: python -m benchmarks report"
    assert report.section(path, tmp_path, "images/").strip() in page.read_text(), again
    assert report.ratios(path).strip() in readme.read_text(), again


def test_units():
    assert report.with_unit("fit", 2.5) == "2.5 s"
    assert report.with_unit("fit", 0.0314159) == "31.4 ms"
    assert report.with_unit("fit", 2e-5) == "20 µs"
    assert report.with_unit("memory-fit", 1.5 * MB) == "1.5 MB"
    assert report.with_unit("product", 2e11) == "200 GFLOP/s"


def test_two_libraries_on_one_tiny_case(tmp_path):
    output = tmp_path / "tiny.json"
    which = ["--cases", "tiny", "--tasks", "fit", "--covariances", "diag", "--repeats", "1"]
    libraries = ["--libraries", OURS, "scikit-learn"]
    command = [sys.executable, "-m", "benchmarks", "run", *which, *libraries, "--output"]
    done = subprocess.run([*command, str(output)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    content = json.loads(output.read_text())
    ours, theirs = content["records"]
    assert [ours["library"], theirs["library"]] == [OURS, "scikit-learn"]
    for found in (ours, theirs):
        assert found["values"]["iterations"] == CASES["tiny"].iterations[1]
        assert found["values"]["seconds"] > 0
        environment = content["environments"][found["environment"]]
        assert {"processor", "cores", "commit", "versions", "blas"} <= set(environment)
    assert "### An EM iteration" in output.with_suffix(".md").read_text()
    likelihoods = [found["values"]["log_likelihood"] for found in (ours, theirs)]
    assert likelihoods[0] == pytest.approx(likelihoods[1], rel=1e-9)


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_libraries_start_from_the_same_parameters(covariance):
    problem = make_problem(CASES["tiny"], covariance, "float64")
    ours, theirs = (peer().fit(problem.X, problem.fit_of(2)) for peer in (Ours, ScikitLearn))
    np.testing.assert_allclose(ours.means_, theirs.means_, rtol=1e-9)
    np.testing.assert_allclose(ours.lower_bounds_, theirs.lower_bounds_, rtol=1e-9)


def test_problems_are_the_same_each_time_and_as_conditioned_as_they_say():
    case = CASES["10k-8-4"]
    first, second = (make_problem(case, "full", "float64", rows=50) for _ in range(2))
    np.testing.assert_array_equal(first.X, second.X)
    assert np.linalg.cond(first.start.covariances) == pytest.approx(case.condition)
    assert make_problem(case, "full", "float32", rows=50).X.dtype == np.float32


def options(**changes):
    defaults = {
        "form": "whole",
        "cases": None,
        "tasks": None,
        "covariances": None,
        "dtypes": None,
        "libraries": None,
    }
    return Namespace(**{**defaults, **changes})


def test_each_measurement_of_both_forms_can_be_taken():
    for blocks in (SHORT, WHOLE):
        measurements = [measurement for block in blocks for measurement in block]
        assert len(measurements) == len(set(measurements))
        for block in blocks:
            assert set(block.tasks) <= set(TASKS)
            assert set(block.cases) <= set(CASES)
            assert set(block.libraries) <= set(PEERS)


def test_a_plan_can_be_narrowed_down():
    plan = run.make_plan(options(cases=["iris"], tasks=["predict"], covariances=["tied"]))
    assert plan == [(Measurement("predict", "iris", "tied"), tuple(PEERS))]
    plan = run.make_plan(options(tasks=["restarts"]))
    assert {measurement.task for measurement, _ in plan} == {"restarts"}
    plan = run.make_plan(options(tasks=["fit"], dtypes=["float32"], libraries=["tgmm"]))
    assert {libraries for _, libraries in plan} == {("tgmm",)}
    assert {measurement.dtype for measurement, _ in plan} == {"float32"}


def test_results_are_replaced_when_taken_again_and_kept_for_a_later_run(tmp_path):
    path = tmp_path / "results.json"
    one = Measurement("fit", "100k-32-16", "full")
    for seconds in (2.0, 1.0):
        results = Results(path, "cpu")
        results.add({**record(OURS, seconds), "libraries": {"blas": []}})
    (kept,) = json.loads(path.read_text())["records"]
    assert kept["values"]["seconds"] == 1.0
    results = Results(path, "cpu")
    assert results.holds(one, [OURS])
    assert not results.holds(one, [OURS, "scikit-learn"])
    assert not results.holds(Measurement("fit", "100k-32-16", "tied"), [OURS])


def test_errors_are_told_on_a_line_without_paths():
    error = ValueError("cannot read /home/somebody/data/file.py:\nand more")
    assert told(error, 100) == "ValueError: cannot read file.py: and more"
    assert told(error, 23) == "ValueError: cannot read"


def test_a_library_that_is_not_installed_is_no_failure_of_the_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "tgmm", None)
    answer = worker._answer(Request("import", "tiny", "full", library="tgmm"))
    assert answer["error"].startswith("not installed: ")


@pytest.mark.parametrize("name", [module.name for module in iter_modules(tables.__path__)])
def test_each_table_finds_what_it_needs_of_the_package(name):
    assert callable(resolve_name(f"benchmarks.tables.{name}:table"))


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_parts_of_an_iteration_can_be_taken(covariance):
    for part in parts_of(CASES["tiny"], covariance).values():
        part()


def test_a_call_is_repeated_for_its_budget():
    ticks = iter(range(100))
    calls = []
    timing = timed(lambda: calls.append(1), budget=3, warm=True, clock=lambda: next(ticks))
    assert timing.times == [1, 1, 1]
    assert len(calls) == 4
    assert timed(lambda: "result", budget=0) == ([pytest.approx(0, abs=60)], "result")


def timed_once(call, *arguments, **options):
    return Timing([1.0], call(*arguments))


@pytest.mark.parametrize("library", [OURS, "scikit-learn"])
@pytest.mark.parametrize(
    ("task", "case", "covariance"),
    [
        ("given-sweep", "100-2-4", "tied"),
        ("choice", "iris", "all"),
        ("1-row", "wine", "diag"),
        ("100-rows-busy", "iris", "spherical"),
        ("column", "500-10-4", "full"),
    ],
)
def test_each_library_does_the_jobs(monkeypatch, library, task, case, covariance):
    monkeypatch.setattr(jobs, "timed", timed_once)
    request = Request(task, case, covariance, library=library)
    with warnings.catch_warnings():
        assert TASKS[task].measure(request)["seconds"] > 0


def test_a_search_and_a_loop_find_the_same_best(monkeypatch):
    monkeypatch.setattr(jobs, "timed", timed_once)
    with warnings.catch_warnings():
        ours, theirs = (
            jobs.choice(Request("choice", "iris", "all", library=library))["bic"]
            for library in (OURS, "scikit-learn")
        )
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_real_data_start_from_their_classes():
    problem = make_problem(CASES["digits-20"], "diag", "float64")
    assert problem.X.shape == (1797, 20)
    assert problem.start.means.shape == problem.start.precisions.shape == (10, 20)
    np.testing.assert_allclose(problem.start.weights.sum(), 1.0)

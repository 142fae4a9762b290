"""`verbose` shows the stages of a fit on stderr, and nothing stays behind."""

import pickle
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import pytorch_lightning as pl
from sklearn.exceptions import FitFailedWarning
from tqdm.std import tqdm

from sklearn_torch_gmm import GaussianMixture, GaussianMixtureClassifier, GaussianMixtureIC
from sklearn_torch_gmm._estimator import bar as bar_module
from sklearn_torch_gmm._estimator.bar import Bar
from sklearn_torch_gmm._estimator.progress_bars import ProgressBars, progress_bars
from sklearn_torch_gmm.em.progress import PassReport
from tests.searches import three_groups

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = three_groups()
y = np.where(np.arange(len(X)) % 2, -1, X[:, 0] > 2)


def mixture(**options):
    return GaussianMixture(3, **{"random_state": 0, "num_init": 2} | options)


ESTIMATORS = {
    "mixture": mixture,
    "classifier": lambda **options: GaussianMixtureClassifier(2, random_state=0, **options),
    "search": lambda **options: GaussianMixtureIC(
        2, 3, n_init=2, stability=True, random_state=0, **options
    ),
}


def last_screen(text):
    """What is left on a terminal that knows line ends, returns and the line above."""
    lines, row, column = [""], 0, 0
    for sign in re.findall(r"\x1b\[A|.|\n|\r", text):
        if sign == "\n":
            row, column = row + 1, 0
            lines.extend([""] * (row == len(lines)))
        elif sign == "\r":
            column = 0
        elif sign == "\x1b[A":
            row -= 1
        else:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + sign + line[column + 1 :]
            column += 1
    return "\n".join(line.rstrip() for line in lines).rstrip()


def assert_nothing_is_left(captured):
    assert captured.out == ""
    assert last_screen(captured.err) == ""
    assert not list(tqdm._instances)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_nothing_is_shown_unless_asked(name, capfd):
    ESTIMATORS[name]().fit(X, y)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["mixture", "classifier"])
@pytest.mark.parametrize("batch_size", [None, 100], ids=["plain", "trainer"])
def test_the_stages_of_a_fit(name, batch_size, capfd):
    threads = threading.active_count()
    shown = ESTIMATORS[name](verbose=1, batch_size=batch_size).fit(X, y)
    captured = capfd.readouterr()
    assert captured.err.index("initialization:   0%") < captured.err.index("EM: ")
    assert "/100" in captured.err
    assert_nothing_is_left(captured)
    assert threading.active_count() == threads
    silent = ESTIMATORS[name](batch_size=batch_size).fit(X, y)
    assert shown.lower_bound_ == silent.lower_bound_


def test_the_stages_of_a_search(capfd):
    search = ESTIMATORS["search"](verbose=1, criterion="cv", cv=2).fit(X)
    out, err = capfd.readouterr()
    stages = ["fold 1 of 2: initialization:", "fold 1 of 2: EM:", "fold 2 of 2: initialization:",
              "fold 2 of 2: EM:", "\rinitialization:", "\rEM:", "stability:"]  # fmt: skip
    places = [err.index(stage) for stage in stages]
    assert places == sorted(places)
    score = search.results_["mean_test_score"].max()
    assert last_screen(err) == (
        f"chosen: {search.covariance_type_}, n_components={search.n_components_}: "
        f"held-out log-likelihood {score:.8g}, converged in {search.n_iter_} iterations"
    )
    assert out == ""


@pytest.mark.parametrize("criterion", ["bic", "aic", "icl", "stability"])
def test_the_values_of_a_search_are_those_of_its_results(criterion, capfd):
    search = ESTIMATORS["search"](verbose=2, criterion=criterion).fit(X)
    *lines, chosen = last_screen(capfd.readouterr().err).splitlines()
    results = search.results_
    kept = np.flatnonzero(results["is_kept"])
    assert len(lines) == len(kept) == 8
    for line, row in zip(lines, kept, strict=True):
        kind, size = results["covariance_type"][row], results["n_components"][row]
        assert line.startswith(f"{kind}, n_components={size}: {criterion}"[:-3])
        assert f" {results[criterion][row]:.8g}, converged in {results['n_iter'][row]} " in line
    assert chosen.removeprefix("chosen: ") in lines
    assert f"{search.covariance_type_}, n_components={search.n_components_}: " in chosen


def test_a_mixture_that_failed_is_listed(capfd):
    rows = np.vstack([X, np.full((100, 3), 30.0)])
    search = GaussianMixtureIC(
        1, 2, covariance_type=["full", "tied"], reg_covar=0.0, verbose=2, random_state=0
    )
    with pytest.warns(FitFailedWarning, match="1 of 4 fits failed"):
        search.fit(rows)
    lines = last_screen(capfd.readouterr().err).splitlines()
    assert "full, n_components=2: BIC unknown, see results_['error']" in lines


class Interrupt(pl.Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["mixture", "search"])
def test_an_interruption_leaves_nothing(name, capfd):
    params = {"callbacks": [Interrupt()]}
    with pytest.raises(KeyboardInterrupt):
        ESTIMATORS[name](verbose=1, trainer_params=params).fit(X)
    captured = capfd.readouterr()
    assert "initialization" in captured.err
    assert_nothing_is_left(captured)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_error_leaves_nothing(name, capfd):
    """Samples that are all alike have no covariance, and no distinct means of a class."""
    no_regularization = {"mixture": "covariance_regularization"}.get(name, "reg_covar")
    estimator = ESTIMATORS[name](verbose=1, **{no_regularization: 0.0})
    with pytest.raises(ValueError, match=r"covariance|distinct"):
        estimator.fit(np.ones((60, 2)), np.arange(60) % 2)
    assert_nothing_is_left(capfd.readouterr())


def test_fits_in_threads_share_the_screen(capfd):
    expected = mixture().fit(X).lower_bound_
    with ThreadPoolExecutor(4) as pool:
        fits = list(pool.map(lambda _: mixture(verbose=1).fit(X).lower_bound_, range(8)))
    assert fits == [expected] * 8
    assert_nothing_is_left(capfd.readouterr())


def test_only_the_first_of_several_processes_reports(capfd):
    params = {"accelerator": "cpu", "devices": 2, "strategy": "ddp_fork"}
    mixture(verbose=1, trainer_params=params, convergence_tolerance=0.0).fit(X)
    captured = capfd.readouterr()
    assert captured.err.count("EM:   0%") == 1
    assert_nothing_is_left(captured)


def test_bars_of_the_caller_stay_where_they_are(capfd):
    for _ in tqdm(range(2), desc="outer"):
        mixture(verbose=1).fit(X)
    shown = last_screen(capfd.readouterr().err)
    assert shown.startswith("outer: 100%")
    assert "EM" not in shown


# -- the bars themselves --------------------------------------------------------------------------


def report(**values):
    defaults = {"iterations": 1, "max_iter": 10, "fits_done": 0, "num_fits": 1, "bound": -2.5,
                "change": 0.25, "is_last": False}  # fmt: skip
    return PassReport(**defaults | values)


def test_a_single_fit_counts_iterations_and_a_search_counts_fits():
    with progress_bars(1) as bars:
        bars.pass_done(report(iterations=3))
        assert (bars._bar.n, bars._bar.total, bars._bar.unit) == (3, 10, "it")
        assert bars._bar.postfix == "log-likelihood -2.5 (+2e-01)"
        bars.stage("other", 2, "step")
        bars.pass_done(report(iterations=3, fits_done=2, num_fits=7))
        assert (bars._bar.n, bars._bar.total, bars._bar.unit) == (2, 7, "fit")
        assert bars._bar.postfix == "iteration 3 of 10"
        bars.pass_done(report(fits_done=7, num_fits=7, is_last=True))
        assert bars._bar is None


@pytest.mark.parametrize("limit", [None, -1])
def test_iterations_without_a_limit(limit):
    with progress_bars(1) as bars:
        bars.pass_done(report(max_iter=limit))
        assert bars._bar.total is None


def test_a_bar_that_is_closed_early_counts_as_done():
    """A notebook would keep an unfinished one, in red."""
    bar = Bar("EM", 10, "iteration")
    bar.update(3)
    bar.close()
    assert (bar.n, bar.total) == (3, 3)


def test_the_clock_runs_during_a_long_step(monkeypatch, capfd):
    monkeypatch.setattr(bar_module, "SECONDS_BETWEEN_TICKS", 0.01)
    threads, refreshed = threading.active_count(), threading.Event()
    bar = Bar("initialization", 1, "start", ticks=True)
    monkeypatch.setattr(bar, "refresh", refreshed.set)
    assert refreshed.wait(60)
    assert threading.active_count() == threads + 1
    bar.close()
    assert threading.active_count() == threads
    assert_nothing_is_left(capfd.readouterr())


def test_a_copy_for_another_process_has_no_bar():
    with progress_bars(1) as bars:
        bars.stage("EM", 3, "iteration")
        copy = pickle.loads(pickle.dumps(bars))
        assert isinstance(copy, ProgressBars)
        assert copy._bar is None

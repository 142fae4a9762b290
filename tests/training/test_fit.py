"""Which loop runs a fit, and that both give the same, bit by bit."""

import os
import signal
import subprocess
import sys
import textwrap
from itertools import chain

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from sklearn_torch_gmm import GaussianMixture
from sklearn_torch_gmm.core.covariance import STRUCTURES
from sklearn_torch_gmm.core.fixed import PARTS, fix_whole
from sklearn_torch_gmm.em import loop as plain_loop
from sklearn_torch_gmm.em.settings import StartSettings
from sklearn_torch_gmm.exceptions import IllDefinedCovarianceError, NonFiniteLikelihoodError
from sklearn_torch_gmm.rows.in_memory import ArrayRows
from sklearn_torch_gmm.training import fit as fit_module
from sklearn_torch_gmm.training.fit import fit_mixture, fit_sweep
from tests.em.settings import fit_settings

TYPES = sorted(STRUCTURES)


def blobs(rng, num_rows=100):
    half = num_rows // 2
    return np.vstack([rng.normal(size=(half, 3)), rng.normal(size=(num_rows - half, 3)) + 3.0])


@pytest.fixture
def X(rng):
    return blobs(rng)


def settings_for(covariance_type="full", strategy="random_from_data", **options):
    defaults = {"max_iter": 20, "tolerance": 1e-3}
    start = StartSettings(strategy) if isinstance(strategy, str) else strategy
    random_state = np.random.RandomState(0)
    return fit_settings(2, covariance_type, start, random_state, **defaults | options)


@pytest.fixture
def plain_runs(monkeypatch):
    """Grows by one with each run of the plain loop."""
    runs = []
    run = plain_loop.run
    monkeypatch.setattr(plain_loop, "run", lambda job: (runs.append(job), run(job))[1])
    return runs


def by_both_loops(monkeypatch, run):
    """What a function of no arguments returns, with the plain loop and with Lightning's."""
    plain = run()
    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "asks_nothing_of_a_trainer", lambda trainer_params: False)
        return plain, run()


def assert_same_tensors(one, other):
    for mine, yours in zip(one.tensors(), other.tensors(), strict=True):
        # A fit that failed may hold NaN.
        torch.testing.assert_close(mine, yours, rtol=0, atol=0, equal_nan=True)


EMPTY = StartSettings(
    weights=np.array([0.5, 0.5]),
    means=np.array([[0.0, 0.0, 0.0], [1e6, 1e6, 1e6]]),
)


CASES = {
    "plain": {},
    "restarts": {"num_init": 3},
    "kmeans": {"strategy": "kmeans"},
    "one iteration": {"max_iter": 1},
    "no iteration": {"max_iter": 0},
    "no limit": {"max_iter": -1},
    "not converged": {"tolerance": 0.0, "max_iter": 5},
    "least iterations": {"tolerance": 1e6, "trainer_params": {"min_epochs": 4}},
    "fixed means": {"fixed": fix_whole(["means"], 2)},
    "fixed others": {"fixed": fix_whole(["weights", "covariances"], 2)},
    "fixed": {"fixed": fix_whole(PARTS, 2)},
    "empty component": {"strategy": EMPTY},
    "float32": {"trainer_params": {"precision": "32-true"}},
    "rounding kept": {"keep_rounding": True},
}


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
@pytest.mark.parametrize("is_weighted", [False, True], ids=["", "weighted"])
def test_both_loops_give_the_same(X, rng, monkeypatch, covariance_type, options, is_weighted):
    rows = ArrayRows(X, rng.uniform(0.5, 1.5, size=len(X)) if is_weighted else None)
    plain, by_lightning = by_both_loops(
        monkeypatch, lambda: fit_mixture(rows, settings_for(covariance_type, **options))
    )
    assert_same_tensors(plain.parameters, by_lightning.parameters)
    assert plain.lower_bounds == by_lightning.lower_bounds
    assert plain.converged == by_lightning.converged
    assert plain.empty == by_lightning.empty
    assert plain.fall == by_lightning.fall
    assert (options.get("strategy") is EMPTY) == (plain.empty == [1])


@pytest.mark.parametrize("covariance_type", TYPES)
def test_both_loops_repeat_the_same_iterations(X, monkeypatch, covariance_type):
    # So narrow for their distance that the fast pass loses digits.
    X[:50] = 1e-7 * X[:50] + 3e3
    plain, by_lightning = by_both_loops(
        monkeypatch,
        lambda: fit_mixture(ArrayRows(X), settings_for(covariance_type, regularization=1e-20)),
    )
    assert_same_tensors(plain.parameters, by_lightning.parameters)
    assert plain.lower_bounds == by_lightning.lower_bounds


def test_both_loops_sweep_the_same_with_a_fit_that_fails(X, monkeypatch):
    X = np.vstack([X, np.full((30, 3), 20.0)])

    def sweep():
        start = StartSettings("kmeans")
        random_state = np.random.RandomState(0)
        options = {"records_failures": True, "regularization": 0.0, "num_init": 2}
        fits = [
            fit_settings(components, name, start, random_state, **options)
            for name in TYPES
            for components in (1, 3)
        ]
        return fit_sweep(ArrayRows(X), fits)

    plain, by_lightning = by_both_loops(monkeypatch, sweep)
    errors = [restart.error for fit in plain for restart in fit]
    assert any(isinstance(error, IllDefinedCovarianceError) for error in errors)
    assert None in errors
    for one, other in zip(chain(*plain), chain(*by_lightning), strict=True):
        assert repr(one.error) == repr(other.error)
        assert one.lower_bounds == other.lower_bounds
        assert one.log_likelihood == pytest.approx(other.log_likelihood, rel=0, nan_ok=True)
        assert one.certainty == pytest.approx(other.certainty, rel=0, nan_ok=True)
        assert_same_tensors(one.parameters, other.parameters)


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        (np.ones((10, 3)), IllDefinedCovarianceError, "is sufficient"),
        (1e200 * np.arange(30.0).reshape(10, 3), ValueError, "not finite|became"),
        (np.full((10, 3), np.nan), ValueError, "contains NaN or infinity: sample 0 of batch 0"),
    ],
    ids=["collapsed", "huge", "nan"],
)
def test_both_loops_fail_with_the_same_words(monkeypatch, rows, error, words):
    start = StartSettings(
        weights=np.ones(2) / 2, means=np.zeros((2, 3)), precisions=np.ones((2, 3))
    )
    messages = []

    def fail():
        with pytest.raises(error, match=words) as caught:
            fit_mixture(ArrayRows(rows), settings_for("diag", start, regularization=0.0))
        assert isinstance(caught.value, (error, NonFiniteLikelihoodError))
        messages.append(str(caught.value))

    by_both_loops(monkeypatch, fail)
    assert messages[0] == messages[1]


# -- which loop -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trainer_params",
    [
        None,
        {},
        {"max_epochs": 3},
        {"min_epochs": 2},
        {"precision": "64-true"},
        {"precision": 32},
        {"accelerator": "cpu"},
        {"accelerator": "cpu", "devices": 1, "max_epochs": 7, "min_epochs": 1, "precision": 64},
    ],
    ids=str,
)
def test_what_asks_nothing_of_a_trainer_runs_in_the_plain_loop(X, plain_runs, trainer_params):
    GaussianMixture(2, random_state=0, trainer_params=trainer_params).fit(X)
    assert len(plain_runs) == 1


@pytest.mark.filterwarnings("ignore:Starting from v1.9.0, `tensorboardX`")
@pytest.mark.parametrize(
    "trainer_params",
    [
        {"callbacks": [pl.Callback()]},
        {"max_steps": 100},
        {"max_time": "00:01:00:00"},
        {"max_epochs": None},
        {"profiler": "simple"},
        {"logger": True},
        {"enable_progress_bar": True},
        {"enable_checkpointing": True},
        {"min_epochs": None},
        {"min_steps": 2},
        {"devices": "1"},
        {"devices": True},
        {"strategy": "auto"},
        {"limit_train_batches": 1.0},
    ],
    ids=lambda params: next(iter(params)),
)
def test_what_asks_something_of_a_trainer_runs_in_one(X, plain_runs, tmp_path, trainer_params):
    params = {"default_root_dir": str(tmp_path), **trainer_params}
    GaussianMixture(2, random_state=0, trainer_params=params).fit(X)
    # Without the folder it would be the same.
    assert not fit_module.asks_nothing_of_a_trainer(
        {name: value for name, value in trainer_params.items() if name != "max_epochs"}
    ) or (trainer_params == {"max_epochs": None})
    assert len(plain_runs) == 0


def test_batches_mapped_files_and_checkpoints_are_lightnings(X, plain_runs, tmp_path):
    np.save(tmp_path / "X.npy", X)
    GaussianMixture(2, random_state=0).fit(np.load(tmp_path / "X.npy", mmap_mode="r"))
    GaussianMixture(2, random_state=0, batch_size=30).fit(X)
    GaussianMixture(2, random_state=0).fit(torch.utils.data.TensorDataset(torch.from_numpy(X)))
    assert len(plain_runs) == 0
    GaussianMixture(2, random_state=0).fit(torch.from_numpy(X))
    assert len(plain_runs) == 1


def test_callbacks_that_a_package_adds_are_called(X, plain_runs, monkeypatch):
    seen = []

    class Counts(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            seen.append(trainer.current_epoch)

    connector = "pytorch_lightning.trainer.connectors.callback_connector"
    monkeypatch.setattr(f"{connector}._load_external_callbacks", lambda group: [Counts()])
    asked = []
    monkeypatch.setattr(fit_module, "entry_points", lambda group: asked.append(group) or ["one"])
    fit_module._packages_add_callbacks.cache_clear()
    try:
        mixture = GaussianMixture(2, random_state=0).fit(X)
    finally:
        fit_module._packages_add_callbacks.cache_clear()
    assert asked == ["pytorch_lightning.callbacks_factory"]
    assert len(seen) == mixture.n_iter_
    assert len(plain_runs) == 0


@pytest.mark.parametrize("accelerator", ["no such thing", 3])
def test_lightning_refuses_what_the_plain_loop_does_not_know(X, accelerator):
    with pytest.raises((ValueError, TypeError), match="trainer_params"):
        GaussianMixture(2, trainer_params={"accelerator": accelerator}).fit(X)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_plain_loop(number):
    """As they end any computation: by KeyboardInterrupt, and by the end of the process."""
    program = textwrap.dedent(
        """
        import os, sys
        import numpy as np
        from sklearn_torch_gmm import GaussianMixture
        from sklearn_torch_gmm.em.iterations import Iterations

        m_step = Iterations.m_step
        counts = []

        def signalled(self, *args):
            counts.append(1)
            if len(counts) == 3:
                os.kill(os.getpid(), int(sys.argv[1]))
            return m_step(self, *args)

        Iterations.m_step = signalled
        mixture = GaussianMixture(2, convergence_tolerance=0, random_state=0)
        try:
            mixture.fit(np.random.default_rng(0).normal(size=(50, 2)))
        except KeyboardInterrupt:
            print("interrupted", len(counts), hasattr(mixture, "means_"))
        """
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(int(number))],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=dict(os.environ),
    )
    if number == signal.SIGINT:
        assert (run.returncode, run.stdout) == (0, "interrupted 3 False\n"), run.stderr
    else:
        assert run.returncode == -signal.SIGTERM, run.stderr

"""An epoch of Lightning's is an iteration, and gives what the plain loop gives."""

import os
import signal

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping

from sklearn_torch_gmm.core.covariance import STRUCTURES
from sklearn_torch_gmm.em.iterations import Iterations
from sklearn_torch_gmm.em.settings import StartSettings
from sklearn_torch_gmm.rows.in_memory import ArrayRows
from sklearn_torch_gmm.training.fit import fit_mixture, fit_sweep
from sklearn_torch_gmm.training.module import EMModule
from tests.em.settings import fit_settings

TYPES = sorted(STRUCTURES)

ITERATIONS = 5


@pytest.fixture
def X(rng):
    return np.vstack([rng.normal(size=(60, 3)), rng.normal(size=(40, 3)) + 3.0])


def settings_for(covariance_type="full", start=None, **options):
    defaults = {"max_iter": ITERATIONS, "tolerance": 0.0}
    start = start or StartSettings("random_from_data")
    return fit_settings(2, covariance_type, start, np.random.RandomState(0), **defaults | options)


def watched():
    return {"callbacks": [pl.Callback()]}


def assert_equal(one, other):
    assert one.lower_bounds == other.lower_bounds
    assert one.converged == other.converged
    for mine, yours in zip(one.parameters.tensors(), other.parameters.tensors(), strict=True):
        torch.testing.assert_close(mine, yours, rtol=0, atol=0)


@pytest.fixture
def epochs(monkeypatch):
    """Grows by one with each epoch of Lightning's."""
    steps = []
    step = EMModule.training_step

    def counted(self, batch, batch_idx):
        if batch_idx == 0:
            steps.append(self.trainer.current_epoch)
        step(self, batch, batch_idx)

    monkeypatch.setattr(EMModule, "training_step", counted)
    return steps


def test_iterations_that_are_repeated_count_once(X, epochs):
    # So narrow for their distance that a fast pass loses digits, which the wide components of the
    # start do not tell.
    X[:60] = 1e-7 * X[:60] + 3e3
    means = np.array([[3e3] * 3, [3.0] * 3])
    start = StartSettings(weights=np.full(2, 0.5), means=means, precisions=np.full((2, 3), 1e-5))
    one, many = (
        fit_mixture(
            ArrayRows(X), settings_for("diag", start, regularization=0.0, trainer_params=params)
        )
        for params in ({}, watched())
    )
    assert len(epochs) > ITERATIONS
    assert len(one.lower_bounds) == ITERATIONS
    assert_equal(one, many)


def test_an_epoch_of_a_sweep_is_an_iteration_of_all(X, epochs):
    fits = [settings_for(name, records_failures=True) for name in TYPES]
    alone = fit_sweep(ArrayRows(X), fits)
    assert len(epochs) == 0
    fits = [settings_for(name, records_failures=True, trainer_params=watched()) for name in TYPES]
    assert len(fit_sweep(ArrayRows(X), fits)) == len(alone)
    # The last one finds the scores.
    assert len(epochs) == ITERATIONS + 1


@pytest.mark.parametrize(
    "options",
    [
        {"trainer_params": watched()},
        {"trainer_params": {"max_steps": 100}},
        {"trainer_params": {"profiler": "simple"}},
        {"trainer_params": {"max_time": "00:01:00:00"}},
        {"batch_size": 99},
    ],
    ids=["callback", "max_steps", "profiler", "max_time", "batches"],
)
def test_an_epoch_is_an_iteration_where_something_is_told(X, epochs, options):
    assert len(fit_mixture(ArrayRows(X), settings_for(**options)).lower_bounds) == ITERATIONS
    assert len(epochs) == ITERATIONS


@pytest.mark.parametrize("name", ["min_epochs", "min_steps"])
@pytest.mark.parametrize("options", [{}, {"batch_size": 30}, {"num_init": 2}], ids=str)
def test_a_fit_that_converges_early_goes_on_for_its_least_iterations(X, name, options):
    found = fit_mixture(
        ArrayRows(X),
        settings_for(tolerance=1e6, max_iter=9, trainer_params={name: 4}, **options),
    )
    alone = fit_mixture(ArrayRows(X), settings_for(max_iter=4, **options))
    assert found.converged
    np.testing.assert_array_equal(found.lower_bounds, alone.lower_bounds)


@pytest.mark.parametrize("name", ["min_epochs", "min_steps"])
@pytest.mark.parametrize("options", [{}, {"batch_size": 30}], ids=str)
def test_a_callback_ends_a_fit_after_its_least_iterations(X, name, options):
    # After the second iteration: no improvement is that large.
    stopping = EarlyStopping("nll", min_delta=1e9, patience=1)
    params = {"callbacks": [stopping], name: 4}
    found = fit_mixture(ArrayRows(X), settings_for(max_iter=9, trainer_params=params, **options))
    assert len(found.lower_bounds) == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_fit_between_two_epochs(X, epochs, monkeypatch, number):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    ended = []
    m_step = Iterations.m_step

    def signalled(self, *args):
        ended.append(len(epochs))
        if len(ended) == 3:
            os.kill(os.getpid(), number)
        return m_step(self, *args)

    monkeypatch.setattr(Iterations, "m_step", signalled)
    # What Lightning answers SIGTERM with is a SystemExit.
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit):
        fit_mixture(ArrayRows(X), settings_for(max_iter=50, trainer_params=watched()))
    assert ended == [1, 2, 3]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers

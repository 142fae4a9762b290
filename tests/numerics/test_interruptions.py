"""A fit that is broken off leaves the estimator as it was, and nothing running."""

import os
import signal
import threading

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import Dataset

from tests.estimators import MIXTURE_CLASSES, make
from tests.rows.examples import no_workers_are_left
from tests.training.test_quiet import global_state

both_classes = pytest.mark.parametrize("cls", MIXTURE_CLASSES)


class Mine(Exception):
    """An error of a user's own."""


class Raising(pl.Callback):
    """Raises in one of Lightning's hooks, or lets the user press Ctrl-C there."""

    def __init__(self, hook, error):
        def act(*args, **kwargs):
            if error is signal.SIGINT:
                os.kill(os.getpid(), signal.SIGINT)
            else:
                raise error

        setattr(self, hook, act)


class Rows(Dataset):
    def __init__(self, X):
        self.X = torch.from_numpy(X)

    def __len__(self):
        return len(self.X)

    def __getitem__(self, index):
        return self.X[index]


@pytest.fixture
def X(rng):
    return np.vstack([rng.normal(size=(40, 2)), rng.normal(size=(40, 2)) + 5.0])


def interrupted(cls, hook, error, **options):
    callbacks = [Raising(hook, error)]
    # A run of a few batches and epochs, so that each hook is reached before the end.
    params = {"callbacks": callbacks, "max_epochs": 5}
    if cls is not MIXTURE_CLASSES[0]:
        params.pop("max_epochs")
    options = {"batch_size": 20, "tolerance": 0.0, "trainer_params": params, **options}
    return make(cls, 2, random_state=0, **options)


ERRORS = {Mine: Mine("in a callback"), KeyboardInterrupt: KeyboardInterrupt()}

HOOKS = [
    "setup",
    "on_fit_start",
    "on_train_start",
    "on_train_epoch_start",
    "on_train_batch_start",
    "on_train_batch_end",
    "on_train_epoch_end",
    "on_train_end",
    "teardown",
]


@both_classes
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("error", ERRORS.values(), ids=[e.__name__ for e in ERRORS])
def test_an_unfitted_estimator_stays_unfitted(cls, X, hook, error):
    before = global_state()
    mixture = interrupted(cls, hook, error)
    attributes = dict(vars(mixture))
    with pytest.raises(type(error)):
        mixture.fit(X)
    assert vars(mixture) == attributes
    assert global_state() == before


@both_classes
@pytest.mark.parametrize("error", [*ERRORS.values(), signal.SIGINT], ids=str)
def test_a_fitted_estimator_stays_as_it_was(cls, X, error):
    mixture = make(cls, 2, random_state=0).fit(X)
    before = dict(vars(mixture))
    labels = mixture.predict(X)
    params = {"callbacks": [Raising("on_train_epoch_end", error)]}
    mixture.set_params(trainer_params=params)
    with pytest.raises(KeyboardInterrupt if error is signal.SIGINT else type(error)):
        # Three features, where there were two.
        mixture.fit(np.column_stack([X, X[:, 0]]))
    mixture.set_params(trainer_params=None)
    assert vars(mixture) == before
    np.testing.assert_array_equal(mixture.predict(X), labels)


@both_classes
def test_a_failing_partial_fit_changes_nothing(cls, X):
    mixture = make(cls, 2, random_state=0, regularization=0.0).fit(X)
    before = dict(vars(mixture))
    with pytest.raises(ValueError, match="features"):
        mixture.partial_fit(X[:, :1])
    with pytest.raises(ValueError, match=r"is sufficient|not finite|log-likelihood"):
        mixture.partial_fit(np.full((5, 2), 1e200))
    assert vars(mixture) == before


@both_classes
@pytest.mark.parametrize("error", [*ERRORS.values(), signal.SIGINT], ids=str)
def test_readers_are_ended(cls, X, error):
    before = set(threading.enumerate())
    mixture = interrupted(cls, "on_train_batch_end", error, num_workers=2)
    with pytest.raises(KeyboardInterrupt if error is signal.SIGINT else type(error)):
        mixture.fit(Rows(X))
    assert no_workers_are_left()
    # The threads that fed the processes have been told, and end when they have heard it.
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert not hasattr(mixture, "means_")

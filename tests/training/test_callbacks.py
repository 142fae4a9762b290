"""Callbacks, profilers and strategies of a user, over several fits."""

import gc
import pickle
import weakref

import numpy as np
import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, Timer
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import SingleDeviceStrategy
from sklearn.base import clone

from sklearn_torch_gmm import GaussianMixture
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(300, 3))


def mixture(**trainer_params):
    return GaussianMixture(3, random_state=0, trainer_params=trainer_params)


class Recorder(pl.Callback):
    """Keeps what it has seen, in a list of somebody else."""

    def __init__(self, seen):
        self.seen = seen

    def on_train_epoch_end(self, trainer, pl_module):
        self.seen.append(trainer.current_epoch)


class PatientRecorder(EarlyStopping):
    """Has a state of its own in addition to that of Lightning's class."""

    def __init__(self, seen):
        super().__init__("nll", patience=1, min_delta=0.1)
        self.seen = seen

    def on_train_epoch_end(self, trainer, pl_module):
        super().on_train_epoch_end(trainer, pl_module)
        self.seen.append(trainer.current_epoch)


class TestLaterFits:
    def test_early_stopping_starts_over(self, X):
        callback = EarlyStopping("nll", patience=1, min_delta=0.1)
        fitted = mixture(callbacks=[callback]).fit(X)
        first, stopped = fitted.n_iter_, callback.stopped_epoch
        assert 1 < first < mixture().fit(X).n_iter_
        for again in (fitted, clone(fitted), pickle.loads(pickle.dumps(fitted))):
            # Data whose likelihood is less than the best one of the last fit.
            again.fit(100.0 * X)
            assert again.fit(X).n_iter_ == first
        # For the user to read.
        assert callback.stopped_epoch == stopped

    def test_checkpoints_are_written_again(self, X, tmp_path):
        callback = ModelCheckpoint(tmp_path, monitor="nll")
        fitted = mixture(callbacks=callback).fit(X)
        best = callback.best_model_score
        fitted.fit(100.0 * X)
        assert callback.best_model_score > best + 1.0
        assert callback.best_model_score.item() == pytest.approx(fitted.nll_, abs=0.1)

    def test_what_the_user_changes_stays(self, X):
        callback = EarlyStopping("nll", patience=1, min_delta=0.1)
        fitted = mixture(callbacks=[callback]).fit(X)
        first = fitted.n_iter_
        callback.patience = 2
        assert fitted.fit(X).n_iter_ == first + 1
        assert callback.patience == 2

    def test_a_fit_after_one_from_a_checkpoint_starts_over(self, X, tmp_path):
        every = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
        first = mixture(callbacks=[every], max_epochs=3).fit(X).n_iter_
        callback = EarlyStopping("nll", patience=1, min_delta=0.1)
        fitted = mixture(callbacks=[callback])
        fitted.fit(X, ckpt_path=tmp_path / f"epoch={first - 1}.ckpt")
        fresh = mixture(callbacks=[EarlyStopping("nll", patience=1, min_delta=0.1)])
        assert fitted.fit(X).n_iter_ == fresh.fit(X).n_iter_

    def test_a_fit_from_the_best_checkpoint_finds_it(self, X, tmp_path):
        callback = ModelCheckpoint(tmp_path, monitor="nll")
        fitted = mixture(callbacks=[callback]).fit(X)
        assert fitted.fit(X, ckpt_path="best").nll_ == pytest.approx(fitted.nll_)

    def test_callbacks_of_the_user_keep_what_they_know(self, X):
        seen, of_subclass = [], []
        callbacks = [Recorder(seen), PatientRecorder(of_subclass)]
        fitted = mixture(callbacks=callbacks).fit(X)
        first = len(seen)
        fitted.fit(X)
        assert len(seen) == len(of_subclass) == 2 * first
        assert callbacks[0].seen is seen
        assert callbacks[1].seen is of_subclass

    def test_a_strategy_may_be_used_again(self, X):
        params = {"strategy": SingleDeviceStrategy("cpu"), "accelerator": "cpu"}
        fitted = mixture(**params).fit(X)
        assert fitted.fit(X).n_iter_ == mixture().fit(X).n_iter_
        # Each initialization has a trainer of its own.
        DropIn(2, n_init=2, verbose=1, random_state=0, trainer_params=params).fit(X)


class Open:
    """Refers to what cannot be pickled."""

    def __init__(self, rows):
        self.rows, self.shape = rows, rows.shape
        self.lock = (lambda: None,)

    def __getitem__(self, index):
        return self.rows[index]


@pytest.mark.parametrize(
    "params",
    [
        {"callbacks": [Timer()]},
        {"callbacks": [Recorder([])]},
        {"profiler": PassThroughProfiler()},
        {"strategy": SingleDeviceStrategy("cpu")},
    ],
    ids=["Timer", "own callback", "profiler", "strategy"],
)
def test_a_fitted_estimator_does_not_keep_the_data(X, params):
    rows = Open(X)
    fitted = mixture(**params).fit(rows)
    for copied in (clone(fitted), pickle.loads(pickle.dumps(fitted))):
        assert copied.num_components == 3
    kept = weakref.ref(rows)
    del rows
    gc.collect()
    assert kept() is None

"""What becomes of ``trainer_params``."""

import inspect
import os
import signal
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.accelerators import CPUAccelerator, CUDAAccelerator
from pytorch_lightning.callbacks import (
    EarlyStopping,
    ModelCheckpoint,
    OnExceptionCheckpoint,
    TQDMProgressBar,
)
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.plugins import HalfPrecision

from sklearn_torch_gmm import GaussianMixture
from sklearn_torch_gmm.training.trainer import QUIET_DEFAULTS, make_trainer, warn_of_many_processes

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return np.vstack([rng.normal(size=(40, 2)), rng.normal(size=(40, 2)) + 4])


def fit(X, **trainer_params):
    return GaussianMixture(
        2,
        convergence_tolerance=0,
        random_state=0,
        trainer_params={"max_epochs": 6} | trainer_params,
    ).fit(X)


class Recorder(pl.Callback):
    def __init__(self):
        self.seen = []
        self.epochs_started = 0

    def on_train_epoch_start(self, trainer, pl_module):
        self.epochs_started += 1

    def on_train_end(self, trainer, pl_module):
        self.seen.append(float(trainer.callback_metrics["nll"]))


def test_defaults_are_parameters_of_the_trainer():
    assert set(QUIET_DEFAULTS) <= set(inspect.signature(pl.Trainer.__init__).parameters)


@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn"])
def test_many_more_processes_than_cores_are_warned_of(strategy, monkeypatch, recwarn):
    monkeypatch.setattr("sklearn_torch_gmm.training.trainer.cpu_count", lambda: 2)
    params = {"accelerator": "cpu", "strategy": strategy}
    make_trainer(params | {"devices": 8}, max_epochs=1)
    assert len(recwarn) == 0
    make_trainer(params | {"devices": 9}, max_epochs=1)
    (warning,) = recwarn
    assert "devices=9 on the CPU" in str(warning.message)
    assert "Set devices to at most 2." in str(warning.message)
    assert warning.filename == __file__


def test_only_the_first_process_of_a_script_warns(monkeypatch, recwarn):
    monkeypatch.setattr("sklearn_torch_gmm.training.trainer.cpu_count", lambda: 1)
    # A trainer of a second process would make this process one, for Lightning's messages.
    for rank in (1, 0):
        assert len(recwarn) == 0
        warn_of_many_processes(
            SimpleNamespace(accelerator=CPUAccelerator(), local_rank=rank, num_devices=9)
        )
    assert len(recwarn) == 1


def test_accelerators_check_their_devices_themselves(recwarn):
    accelerator = CUDAAccelerator()
    warn_of_many_processes(
        SimpleNamespace(accelerator=accelerator, local_rank=0, num_devices=10**6)
    )
    assert len(recwarn) == 0


def test_unknown_parameter_is_named():
    with pytest.raises(
        TypeError, match=r"'no_such_thing', which pytorch_lightning\.Trainer does not"
    ):
        make_trainer({"no_such_thing": 1}, max_epochs=1)


def test_every_default_can_be_overridden(tmp_path):
    logger = CSVLogger(tmp_path)
    trainer = make_trainer({"max_epochs": 3, "logger": logger}, max_epochs=100)
    assert trainer.max_epochs == 3
    assert trainer.logger is logger


@pytest.mark.parametrize("make", [ModelCheckpoint, OnExceptionCheckpoint, TQDMProgressBar])
@pytest.mark.parametrize("wrap", [lambda callback: [callback], lambda callback: callback])
def test_a_callback_turns_on_what_it_is_for(make, wrap, tmp_path):
    callback = make() if make is TQDMProgressBar else make(tmp_path)
    trainer = make_trainer({"callbacks": wrap(callback)}, max_epochs=1)
    assert trainer.callbacks == [callback]


@pytest.mark.parametrize(
    ("callback", "name"),
    [(ModelCheckpoint(), "enable_checkpointing"), (TQDMProgressBar(), "enable_progress_bar")],
)
def test_what_a_callback_is_for_can_be_refused(callback, name):
    with pytest.raises(ValueError, match=f"configured with `{name}=False`"):
        make_trainer({"callbacks": [callback], name: False}, max_epochs=1)


@pytest.mark.parametrize("wrap", [lambda plugin: [plugin], lambda plugin: plugin])
def test_a_plugin_does_not_choose_the_arithmetic(X, wrap):
    # Rows of three or four digits would have the same few values.
    with pytest.raises(ValueError, match="plugins in trainer_params holds a HalfPrecision"):
        fit(X + 1e4, plugins=wrap(HalfPrecision("16-true")))


def test_one_device_unless_asked():
    assert make_trainer({}, max_epochs=1).num_devices == 1


def test_the_callers_list_of_callbacks_is_left_alone():
    callbacks = [Recorder()]
    make_trainer({"callbacks": callbacks, "enable_checkpointing": True}, max_epochs=1)
    assert len(callbacks) == 1


def test_a_job_under_slurm_is_not_taken_for_one_of_many_nodes(X):
    program = textwrap.dedent(
        """
        import numpy as np
        from sklearn_torch_gmm import GaussianMixture
        X = np.random.default_rng(0).normal(size=(50, 2))
        print(GaussianMixture(2, random_state=0).fit(X).n_iter_ > 0)
        """
    )
    slurm = {
        "SLURM_NTASKS": "2",
        "SLURM_JOB_NAME": "job",
        "SLURM_JOB_ID": "1",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "1",
        "SLURM_NODEID": "0",
    }
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | slurm,
    )
    assert (run.stdout, run.returncode) == ("True\n", 0), run.stderr


def test_a_callback_sees_the_nll(X):
    recorder = Recorder()
    mixture = fit(X, callbacks=[recorder])
    assert recorder.seen == [mixture.nll_]
    assert recorder.epochs_started == mixture.n_iter_ == 6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_callbacks_see_all_digits_whatever_the_default_type_is(X, dtype):
    stopping = EarlyStopping("nll", min_delta=0.0, patience=1)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        mixture = fit(X, callbacks=[stopping], max_epochs=8)
    finally:
        torch.set_default_dtype(before)
    # The last iterations improve it in the tenth digit.
    assert mixture.n_iter_ == 8
    assert stopping.best_score.item() == mixture.nll_


@pytest.mark.parametrize("kind", [list, tuple])
def test_early_stopping_on_the_nll(X, kind):
    stopping = EarlyStopping("nll", min_delta=1e9, patience=2)
    mixture = fit(X, callbacks=kind([stopping]), max_epochs=50)
    assert mixture.n_iter_ == 3


def test_a_logger_gets_the_nll_of_each_iteration(X, tmp_path):
    mixture = fit(X, logger=CSVLogger(tmp_path, name="", version=""), log_every_n_steps=1)
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("nll")
    logged = [float(row.split(",")[column]) for row in rows[1:]]
    np.testing.assert_allclose(logged, -np.array(mixture.lower_bounds_), rtol=1e-6)


def test_the_progress_bar_shows_when_asked(X, capfd):
    fit(X, enable_progress_bar=True)
    assert "nll" in capfd.readouterr().out


class Interrupting(pl.Callback):
    def __init__(self, error):
        self.error = error

    def on_train_epoch_end(self, trainer, pl_module):
        raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("mine")])
def test_exceptions_pass_on_and_leave_no_half_fitted_estimator(X, error):
    handler = signal.getsignal(signal.SIGINT)
    mixture = GaussianMixture(2, trainer_params={"callbacks": [Interrupting(error)]})
    with pytest.raises(type(error)):
        mixture.fit(X)
    assert signal.getsignal(signal.SIGINT) is handler
    assert not hasattr(mixture, "means_")
    mixture.set_params(trainer_params=None).fit(X)
    assert mixture.means_.shape == (2, 2)


@pytest.mark.parametrize("callback", [print, EarlyStopping, object()])
def test_what_is_no_callback_is_refused(callback):
    with pytest.raises(TypeError, match="trainer_params holds callbacks="):
        make_trainer({"callbacks": [callback]}, max_epochs=1)

"""The processes of a fit end together, and leave nothing behind."""

import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy

from sklearn_torch_gmm import GaussianMixture
from sklearn_torch_gmm.training import launchers
from sklearn_torch_gmm.training.launchers import ProcessLauncher, ScriptLauncher
from sklearn_torch_gmm.training.trainer import make_trainer

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # The threads of this process are not used in its copies.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

FORKED = {"accelerator": "cpu", "devices": 2, "strategy": "ddp_fork"}


class Fail(pl.Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        raise RuntimeError("the disk is gone")


@pytest.mark.parametrize("port", [None, "29511"])
@pytest.mark.parametrize("fails", [False, True])
def test_neither_a_file_nor_a_variable_stays(tmp_path, monkeypatch, port, fails):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if port is None:
        monkeypatch.delenv("MASTER_PORT", raising=False)
    else:
        monkeypatch.setenv("MASTER_PORT", port)
    X = np.random.default_rng(0).normal(size=(60, 3))
    before = dict(os.environ)
    params = FORKED | {"callbacks": [Fail()] if fails else []}
    mixture = GaussianMixture(2, random_state=0, trainer_params=params)
    if fails:
        with pytest.raises(Exception, match="the disk is gone"):
            mixture.fit(X)
    else:
        mixture.fit(X)
    assert dict(os.environ) == before
    assert list(tmp_path.iterdir()) == []


class Announce(pl.Callback):
    """Writes into a pipe which process is in the middle of a fit."""

    def __init__(self, pipe):
        self.pipe = pipe

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            os.write(self.pipe, f"{os.getpid()}\n".encode())


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks into /proc")
def test_no_process_stays_after_an_interrupt():
    X = np.random.default_rng(0).normal(size=(60, 3))
    read, write = os.pipe()
    began = []

    def interrupt():
        with os.fdopen(read) as announced:
            began.extend(int(announced.readline()) for _ in range(2))
        os.kill(os.getpid(), signal.SIGINT)

    params = FORKED | {"max_epochs": -1, "callbacks": [Announce(write)]}
    mixture = GaussianMixture(2, convergence_tolerance=0, random_state=0, trainer_params=params)
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        mixture.fit(X)
    thread.join()
    os.close(write)
    # What has ended, and nobody has waited for, is still there.
    assert [pid for pid in began if Path(f"/proc/{pid}").exists()] == []


class End(pl.Callback):
    """Ends a process during the second iteration."""

    def __init__(self, how, ranks=(0, 1)):
        self.how, self.ranks = how, ranks

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == 1 and trainer.global_rank in self.ranks:
            self.how()


class Sleep(pl.Callback):
    """Keeps one process from the sum for which the other waits."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_rank == 1:
            time.sleep(3600)


def interrupt():
    raise KeyboardInterrupt


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


WAYS = {
    "sys.exit(0)": (lambda: sys.exit(0), "SystemExit"),
    "os._exit(0)": (lambda: os._exit(0), "exit code 0 before the fit had ended"),
    "KeyboardInterrupt": (interrupt, "KeyboardInterrupt"),
    "SIGTERM": (terminate, "signal SIGTERM"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ranks", [(1,), (0, 1)])
def test_a_process_without_an_answer_is_an_error(way, ranks):
    how, message = WAYS[way]
    X = np.random.default_rng(0).normal(size=(60, 3))
    mixture = GaussianMixture(
        2,
        init_means=X[:2],
        convergence_tolerance=0,
        trainer_params=FORKED | {"callbacks": [End(how, ranks)]},
    )
    began = time.monotonic()
    with pytest.raises(Exception, match=message):
        mixture.fit(X)
    assert time.monotonic() - began < 30


def test_a_handler_of_the_caller_ends_the_fit():
    """Whatever it raises, and also while the processes wait for each other."""

    def stop(signum, frame):
        raise RuntimeError("stopped by the caller")

    X = np.random.default_rng(0).normal(size=(60, 3))
    mixture = GaussianMixture(2, init_means=X[:2], trainer_params=FORKED | {"callbacks": [Sleep()]})
    before = signal.signal(signal.SIGTERM, stop)
    timer = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    try:
        with pytest.raises(RuntimeError, match="stopped by the caller"):
            mixture.fit(X)
        assert signal.getsignal(signal.SIGTERM) is stop
    finally:
        timer.join()
        signal.signal(signal.SIGTERM, before)


# -- the parts of Lightning -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "launcher"),
    [
        ("ddp_fork", ProcessLauncher),
        ("ddp_spawn", ProcessLauncher),
        ("ddp", ScriptLauncher),
        (DDPStrategy(start_method="fork"), ProcessLauncher),
    ],
)
def test_strategies_keep_the_launcher_of_their_processes(strategy, launcher):
    """Otherwise processes would wait for each other, and folders and ports would stay."""
    params = {"accelerator": "cpu", "devices": 2, "strategy": strategy}
    trainer = make_trainer(params, max_epochs=1)
    assert type(trainer.strategy.launcher) is launcher
    assert launchers.starts_processes(trainer) == (launcher is ProcessLauncher)
    is_forked = strategy not in ("ddp", "ddp_spawn")
    assert launchers.is_in_forked_process(trainer) == is_forked


def test_a_launcher_has_the_methods_that_are_used():
    """Otherwise the result of the first process would not arrive, or no copy would start."""
    parent, script = ProcessLauncher.__mro__[1], ScriptLauncher.__mro__[1]
    for name in ("_wrapping_function", "_recover_results_in_main_process"):
        assert callable(getattr(parent, name))
    for name in ("_collect_rank_zero_results", "get_extra_results", "update_main_process_results"):
        assert callable(getattr(parent, name))
    assert callable(script._call_children_scripts)
    observer = launchers._Observer.__mro__[1]
    assert callable(observer._run)
    assert callable(observer._terminate_all)


def test_a_trainer_of_several_processes_leaves_sigterm_as_it_was():
    """Otherwise the handler of Lightning would wait for the other processes."""
    trainer = make_trainer(FORKED, max_epochs=1)
    before = signal.getsignal(signal.SIGTERM)
    trainer._signal_connector.register_signal_handlers()
    assert signal.getsignal(signal.SIGTERM) == before
    trainer._signal_connector.teardown()

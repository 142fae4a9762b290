"""What breaks when Lightning no longer has a private part that we use; what its processes leave."""

import os
import signal
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from sklearn_torch_gmm import GaussianMixture
from sklearn_torch_gmm.training import private_parts, quiet
from sklearn_torch_gmm.training.private_parts import OneLoader, QuietTrainer, TidyLauncher
from sklearn_torch_gmm.training.trainer import make_trainer

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked"),
    # The threads of this process are not used in its copies.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

FORKED = {"accelerator": "cpu", "devices": 2, "strategy": "ddp_fork"}


class Fail(pl.Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        raise RuntimeError("the disk is gone")


@pytest.mark.parametrize("port", [None, "29511"])
@pytest.mark.parametrize("fails", [False, True])
def test_neither_a_folder_nor_a_variable_stays(tmp_path, monkeypatch, port, fails):
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
    # What torch writes for an error is a file.
    assert [path for path in tmp_path.iterdir() if path.is_dir() or not fails] == []


class Announce(pl.Callback):
    """Writes into a pipe which process is in the midst of a fit."""

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


# -- the parts themselves -------------------------------------------------------------------------


class Module(pl.LightningModule):
    """Notes its batches, and whether Lightning is silenced while it trains."""

    def __init__(self, batches):
        super().__init__()
        self.automatic_optimization = False
        self.batches, self.seen, self.was_quiet = batches, [], False

    def train_dataloader(self):
        return OneLoader(self.batches)

    def configure_optimizers(self):
        return None

    def training_step(self, batch, batch_idx):
        self.seen.append((batch_idx, batch))
        self.was_quiet = quiet._is_quiet.get()


SILENT = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "max_epochs": 2,
}


@pytest.mark.filterwarnings("ignore")
def test_fit_impl_is_what_a_trainer_runs_in_each_process():
    """Otherwise new processes would not be silent: they know no context of the caller's."""
    module = Module([1, 2])
    assert not quiet._is_quiet.get()
    QuietTrainer(**SILENT).fit(module)
    assert module.was_quiet
    assert not quiet._is_quiet.get()


@pytest.mark.filterwarnings("ignore")
def test_a_combined_loader_needs_no_more_than_one_loader_gives_it():
    """Otherwise batches would be lost, or searched for more loaders."""
    module = Module(["a", "b", "c"])
    QuietTrainer(**SILENT).fit(module)
    assert module.seen == 2 * [(0, "a"), (1, "b"), (2, "c")]


def test_strategies_keep_the_launcher_of_their_processes():
    """Otherwise folders, ports and zombies would be left by fits in new processes."""
    trainer = make_trainer(FORKED, max_epochs=1)
    assert type(trainer.strategy.launcher) is TidyLauncher
    assert trainer.strategy.launcher._start_method == "fork"
    assert private_parts.starts_processes(trainer)
    assert private_parts.is_in_forked_process(trainer)


def test_a_launcher_hands_over_the_state_by_a_method_of_this_name():
    """Otherwise the folder of the state would stay."""
    parent = TidyLauncher.__mro__[1]
    assert callable(parent._recover_results_in_main_process)
    assert callable(parent.kill)


def test_signals_are_told_before_each_batch_by_a_method_of_this_name():
    """Otherwise processes with more batches than others would wait for them forever.

    Older releases tell nothing.
    """
    trainer = make_trainer({"accelerator": "cpu"}, max_epochs=1)
    loop = trainer.fit_loop.epoch_loop
    is_new = tuple(map(int, pl.__version__.split(".")[:2])) >= (2, 6)
    assert hasattr(loop, "_broadcast_sigterm_tensor") or not is_new
    trainer.strategy._lightning_module = Module([])
    private_parts.communicate_between_epochs_only(trainer)
    assert trainer.strategy.model is trainer.strategy.lightning_module
    if is_new:
        assert loop._broadcast_sigterm_tensor is private_parts._do_nothing


def test_words_for_checkpoints_are_paths_before_the_fit(tmp_path):
    params = {"callbacks": [ModelCheckpoint(tmp_path, save_last=True)]}
    trainer = make_trainer(params, max_epochs=1)
    with pytest.warns(UserWarning, match="no last checkpoint"):
        assert private_parts.find_checkpoint(trainer, "last") is None
    (tmp_path / "last.ckpt").touch()
    assert private_parts.find_checkpoint(trainer, "last") == str(tmp_path / "last.ckpt")
    assert private_parts.find_checkpoint(trainer, tmp_path / "other") == str(tmp_path / "other")

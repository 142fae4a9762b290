"""What breaks when Lightning no longer has a private part that we use."""

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.profilers import PassThroughProfiler

from sklearn_torch_gmm.training import private_parts, quiet
from sklearn_torch_gmm.training.private_parts import OneLoader, QuietTrainer
from sklearn_torch_gmm.training.trainer import make_trainer


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


@pytest.mark.filterwarnings("ignore")
def test_a_fit_leaves_its_module_in_callbacks_and_profilers_under_these_names():
    """Otherwise an estimator with one of them would keep the data of its fit."""
    callback, profiler = pl.Callback(), PassThroughProfiler()
    trainer = QuietTrainer(**SILENT, callbacks=[callback], profiler=profiler)
    trainer.fit(Module([1]))
    assert {"log", "log_dict"} <= vars(callback).keys()
    assert profiler._lightning_module is not None
    private_parts.forget_module(trainer)
    assert vars(callback) == {}
    assert profiler._lightning_module is None

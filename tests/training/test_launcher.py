"""What a fit in new processes leaves behind: nothing."""

import os
import signal
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl

from sklearn_torch_gmm import GaussianMixture

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

"""What a fit in new processes leaves behind: nothing."""

import os
import tempfile

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

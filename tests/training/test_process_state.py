"""Switches of the whole process are the caller's again after a fit."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from sklearn_torch_gmm import GaussianMixture
from sklearn_torch_gmm.model_selection import GaussianMixtureIC
from sklearn_torch_gmm.training.process_state import switches_as_before

VARIABLE = "CUBLAS_WORKSPACE_CONFIG"


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(60, 3))


@pytest.fixture(params=["default", "warn"])
def before(request, monkeypatch):
    """What the caller has set."""
    monkeypatch.delenv(VARIABLE, raising=False)
    if request.param == "warn":
        monkeypatch.setenv(VARIABLE, ":16:8")
    torch.set_deterministic_debug_mode(request.param)
    yield switches()
    torch.set_deterministic_debug_mode("default")
    torch.backends.cudnn.benchmark = False


def switches():
    mode = torch.get_deterministic_debug_mode()
    return mode, torch.backends.cudnn.benchmark, os.environ.get(VARIABLE)


class Watch(pl.Callback):
    def __init__(self, fails=False):
        self.seen = None
        self.fails = fails

    def on_train_epoch_start(self, trainer, pl_module):
        self.seen = switches()
        if self.fails:
            raise RuntimeError("the disk is gone")


PARAMS = [{"deterministic": True}, {"deterministic": "warn"}, {"benchmark": True}]


@pytest.mark.parametrize("params", PARAMS, ids=str)
def test_they_are_put_back_after_a_fit(X, before, params):
    GaussianMixture(2, random_state=0, trainer_params=params).fit(X)
    assert switches() == before


@pytest.mark.parametrize("params", PARAMS, ids=str)
def test_they_are_put_back_after_a_search(X, before, params):
    GaussianMixtureIC(1, 2, random_state=0, trainer_params=params).fit(X)
    assert switches() == before


def test_they_are_set_in_each_fit_and_put_back_after_an_error(X, before):
    for fails in (False, True):
        watch = Watch(fails)
        params = {"deterministic": True, "benchmark": False, "callbacks": [watch]}
        mixture = GaussianMixture(2, random_state=0, trainer_params=params)
        if fails:
            with pytest.raises(RuntimeError, match="the disk is gone"):
                mixture.fit(X)
        else:
            mixture.fit(X)
        assert watch.seen == (2, False, ":4096:8")
        assert switches() == before


def test_concurrent_fits_put_them_back(X, before):
    params = {"deterministic": True}
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        uses = ExitStack(), ExitStack()
        for thread, use in zip((one, other), uses, strict=True):
            thread.submit(use.enter_context, switches_as_before(params)).result()
            torch.use_deterministic_algorithms(True)
        one.submit(uses[0].close).result()
        other.submit(uses[1].close).result()
    assert switches() == before

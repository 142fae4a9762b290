"""Lightning is silent during a fit, and nothing of that lasts or reaches further."""

import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from sklearn.utils.parallel import Parallel, delayed
from torch.utils.data import TensorDataset

from sklearn_torch_gmm import GaussianMixture, GaussianMixtureIC
from sklearn_torch_gmm.training.quiet import quiet_lightning
from tests.estimators import MIXTURE_CLASSES

LIGHTNING_LOGGERS = [
    "pytorch_lightning",
    "pytorch_lightning.utilities.rank_zero",
    "lightning_fabric",
]


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(60, 3))


def global_state():
    _, words, *place = np.random.get_state()
    loggers = {
        name: (logger.level, list(logger.filters), list(logger.handlers), logger.propagate)
        for name in [None, *LIGHTNING_LOGGERS]
        for logger in [logging.getLogger(name)]
    }
    return {
        "loggers": loggers,
        "warning filters": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "environment": dict(os.environ),
        "signals": {s: signal.getsignal(s) for s in signal.valid_signals()},
        # Most draws leave the words alone and move the place in them.
        "numpy": (words.tolist(), *place),
        "torch": torch.get_rng_state().tolist(),
        "python": random.getstate(),
        "dtype": torch.get_default_dtype(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "floating-point errors": np.geterr(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "gradients": torch.is_grad_enabled(),
        "products": torch.get_float32_matmul_precision(),
        "hooks": (sys.excepthook, threading.excepthook, sys.displayhook),
        "directory": Path.cwd(),
    }


def test_a_fit_in_a_new_process_prints_and_warns_nothing():
    program = textwrap.dedent(
        """
        import numpy as np, logging, random
        logging.basicConfig(level=logging.INFO)
        random.seed(0); before = random.getstate()
        from sklearn_torch_gmm import GaussianMixture
        X = np.random.default_rng(0).normal(size=(50, 2))
        GaussianMixture(2, random_state=0).fit(X).predict(X)
        assert random.getstate() == before
        """
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_a_fit_in_this_process_prints_logs_and_warns_nothing(X, capfd, caplog):
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        GaussianMixture(2, random_state=0, batch_size=7).fit(X)
    assert capfd.readouterr() == ("", "")
    assert [r for r in caplog.records if "lightning" in r.name] == []
    assert caught == []


def test_nothing_global_is_changed_by_a_fit(X):
    GaussianMixture(2, random_state=0).fit(X)
    before = global_state()
    with torch.no_grad():
        GaussianMixture(2, random_state=0).fit(X)
        assert not torch.is_grad_enabled()
    assert global_state() == before


def search(**params):
    return GaussianMixtureIC(1, 2, random_state=0, **params)


WORK = {
    "fit": lambda mixture, X: mixture.fit(X),
    "fit in batches": lambda mixture, X: mixture.set_params(batch_size=7).fit(X),
    "fit a dataset": lambda mixture, X: mixture.fit(TensorDataset(torch.from_numpy(X))),
    "partial_fit": lambda mixture, X: mixture.partial_fit(X).partial_fit(X),
    "predict": lambda mixture, X: mixture.fit(X).predict(X),
    "score": lambda mixture, X: (mixture.fit(X).score(X), mixture.bic(X)),
    "sample": lambda mixture, X: mixture.fit(X).sample(100),
    "choose": lambda mixture, X: search(n_init=2).fit(X).sample(100),
    "choose by held-out rows": lambda mixture, X: search(criterion="cv", cv=2).fit(X),
    "trainer": lambda mixture, X: GaussianMixture().trainer(),
}


@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
@pytest.mark.parametrize("work", WORK)
def test_nothing_global_is_changed_by(X, cls, work):
    mixture = cls(2, random_state=0)
    before = global_state()
    WORK[work](mixture, X)
    assert global_state() == before


def test_nothing_global_is_changed_by_the_first_fit_of_a_process():
    program = textwrap.dedent(
        """
        from tests.training.test_quiet import WORK, global_state
        from tests.estimators import MIXTURE_CLASSES
        import numpy as np
        X = np.random.default_rng(0).normal(size=(60, 3))
        before = global_state()
        for cls in MIXTURE_CLASSES:
            for work in WORK.values():
                work(cls(2, random_state=0), X)
        after = global_state()
        assert after == before, [name for name in after if after[name] != before[name]]
        """
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert run.returncode == 0, run.stderr


def test_nothing_global_is_changed_by_a_fit_that_fails(X):
    class Failing(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            raise RuntimeError

    before = global_state()
    with pytest.raises(RuntimeError):
        GaussianMixture(random_state=0, trainer_params={"callbacks": [Failing()]}).fit(X)
    assert global_state() == before


def test_fits_in_eight_threads_stay_silent_and_leave_nothing(X, capfd):
    before = global_state()
    failures = []

    def work():
        try:
            for _ in range(5):
                GaussianMixture(2, random_state=0).fit(X)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert capfd.readouterr() == ("", "")
    assert global_state() == before


def test_messages_of_other_threads_are_heard_meanwhile():
    logger = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    heard = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        with quiet_lightning():
            logger.info("ours")
            other = threading.Thread(target=logger.info, args=("the user's",))
            other.start()
            other.join()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert heard == ["the user's"]


def test_scikit_learn_can_copy_the_filters_while_fits_run(X):
    # A search with threads copies them for each of its tasks, while other tasks are fitting.
    def filters_in_a_task():
        return list(warnings.filters)

    with quiet_lightning():
        here = list(warnings.filters)
        (there,) = Parallel(n_jobs=1)([delayed(filters_in_a_task)()])
        assert [entry[0] for entry in there] == [entry[0] for entry in here]
        assert there[0] == here[0]
    assert here[0] not in warnings.filters


def test_the_warning_filter_silences_lightning_alone_and_in_its_context_alone():
    def warn_as(module):
        warnings.warn_explicit("told", UserWarning, "file.py", 1, module=module, registry={})

    def heard(module):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with quiet_lightning():
                thread = threading.Thread(target=warn_as, args=[module])
                thread.start()
                thread.join()
                elsewhere = len(caught)
                warn_as(module)
        return elsewhere, len(caught) - elsewhere

    assert heard("pytorch_lightning.trainer.setup") == (1, 0)
    assert heard("somebody_else") == (1, 1)

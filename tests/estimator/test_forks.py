"""The child of a fork computes, although the threads of its parent do not exist in it."""

import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from sklearn_torch_gmm import GaussianMixture
from sklearn_torch_gmm.em import threads
from sklearn_torch_gmm.em.kmeans import LARGEST_OF_ONE_THREAD, kmeans
from sklearn_torch_gmm.em.threads import libraries
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn
from sklearn_torch_gmm.model_selection import GaussianMixtureIC
from sklearn_torch_gmm.rows.source import StartingRows
from sklearn_torch_gmm.training import quiet

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

SECONDS = 200
"""Much more than any of the tasks takes; without an answer, the child waits indefinitely."""


X = np.random.default_rng(0).normal(size=(5000, 4))


@pytest.fixture(scope="module")
def mixture():
    """A mixture that was fitted, and has predicted, with two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    fitted = DropIn(3, max_iter=2, random_state=0).fit(X)
    fitted.predict(X)
    yield fitted
    torch.set_num_threads(before)


def run_in_fork(task):
    child = multiprocessing.get_context("fork").Process(target=task)
    child.start()
    child.join(SECONDS)
    child.kill()
    child.join()
    assert child.exitcode == 0


TASKS = {
    "predict": lambda mixture: mixture.predict(X[:400]),
    "score": lambda mixture: (mixture.score(X), mixture.bic(X), mixture.aic(X)),
    "fit": lambda mixture: DropIn(3, max_iter=2, random_state=0).fit(X),
    "fit in batches": lambda mixture: DropIn(3, batch_size=900, max_iter=2).fit(X),
    "fit a dataset": lambda mixture: GaussianMixture(
        3, num_workers=1, random_state=0, trainer_params={"max_epochs": 2}
    ).fit(TensorDataset(torch.tensor(X))),
    "partial_fit": lambda mixture: DropIn(3, random_state=0).partial_fit(X),
    "search": lambda mixture: GaussianMixtureIC(max_components=2, random_state=0).fit(X),
    "convert": lambda mixture: DropIn.from_sklearn(mixture.to_sklearn()).predict(X),
}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_child_answers_after_a_fit_and_a_prediction_of_its_parent(mixture, task):
    run_in_fork(lambda: task(mixture))


def test_a_child_gives_the_labels_of_its_parent(mixture):
    labels = mixture.predict(X)
    run_in_fork(lambda: np.testing.assert_array_equal(mixture.predict(X), labels))


def test_the_parent_keeps_its_threads(mixture):
    run_in_fork(lambda: mixture.predict(X))
    assert torch.get_num_threads() == 2


def test_k_means_of_many_rows_after_that_of_the_parent(mixture):
    """It may have an OpenMP of its own, which torch does not know."""
    rows = np.repeat([[0.0] * 8, [1.0] * 8], LARGEST_OF_ONE_THREAD // 30, axis=0)

    def run():
        with libraries("openmp").limit(limits=2):
            kmeans(StartingRows(rows), 2, np.random.RandomState(0))

    run()
    run_in_fork(run)


def test_a_fork_before_the_first_computation_keeps_its_threads():
    program = """
        import os, torch
        import sklearn_torch_gmm.mixture

        torch.set_num_threads(3)
        child = os.fork()
        if child == 0:
            os._exit(torch.get_num_threads())
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
    )
    assert done.stdout.strip() == "3"


@pytest.mark.parametrize("owner", [threads._blas_threads, quiet], ids=["threads", "quiet"])
def test_a_lock_of_another_thread_is_free_in_a_child(owner):
    is_held, may_go = threading.Event(), threading.Event()

    def hold():
        with owner._lock:
            is_held.set()
            may_go.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    is_held.wait()
    try:
        run_in_fork(lambda: DropIn(2, batch_size=50, max_iter=2).fit(X[:200]))
    finally:
        may_go.set()
        thread.join()


MODULE_ALONE = """
import os, signal
import torch
from sklearn_torch_gmm import GaussianMixtureModel, GaussianMixtureModelConfig

torch.set_num_threads(2)
model = GaussianMixtureModel(GaussianMixtureModelConfig(8, 8, "full"))
rows = torch.randn(40000, 8)
model(rows)
if os.fork() == 0:
    # Without an answer the child waits indefinitely.
    signal.alarm(30)
    model(rows)
    os._exit(0)
_, status = os.wait()
assert status == 0, status
"""


def test_a_child_computes_where_only_the_torch_module_has_computed():
    subprocess.run([sys.executable, "-c", MODULE_ALONE], check=True, timeout=120)

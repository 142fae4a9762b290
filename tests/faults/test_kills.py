"""Whichever process of a fit is killed, in whatever way and at whatever moment: all of them end."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from sklearn_torch_gmm import GaussianMixture
from tests.faults.processes import start, until
from tests.faults.program import ENDINGS

pytestmark = [pytest.mark.faults, pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")]

STRATEGIES = ["ddp_fork", "ddp_spawn", "ddp", "nodes"]
SIGNALS = [signal.SIGTERM, signal.SIGKILL, signal.SIGINT]
TARGETS = ["one", "all", "parent"]
MOMENTS = ["rendezvous", "iteration", "sum"]

SECONDS = 10
"""Time in which every process has ended."""

SECONDS_TO_BEGIN = 120
"""Time that a busy machine may take to import everything in each process."""

TIMEOUT = 20
"""Timeout of the strategy, which is also that for the processes to meet."""

LIMITS = {
    "rendezvous": "a process that waits for another node hears of nothing before they have met",
    "sum": "a node hears of the end of another one in its next sum",
    "interrupt": "torch hears no interrupt before the processes have met",
}


def limit(strategy, number, target, moment):
    """The reason for which a fit cannot end, or None."""
    if strategy == "nodes" and target != "all" and moment == "rendezvous":
        return LIMITS["rendezvous"]
    if strategy == "nodes" and target == "parent" and moment == "sum":
        return LIMITS["sum"]
    if strategy == "ddp" and (number, target, moment) == (signal.SIGINT, "parent", "rendezvous"):
        return LIMITS["interrupt"]
    if strategy == "nodes" and (number, moment) == (signal.SIGINT, "rendezvous"):
        return LIMITS["interrupt"]
    return None


SCRIPT = """
import os, time
from pathlib import Path
from sklearn_torch_gmm import GaussianMixture

params = {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}
X = [[0.0], [1.0], [2.0]]
GaussianMixture(1, trainer_params=params).fit(X)
if os.environ["LOCAL_RANK"] == "1":
    time.sleep(5)
    Path(__file__).with_name("done").touch()
"""


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def begin(tmp_path, port):
    """Starts a fit, and waits until each of its processes has come to a moment."""
    runs = []

    def begin(strategy, *arguments, **options):
        run = start(tmp_path, strategy, *arguments, free_port=port, **options)
        runs.append(run)
        ranks = [tmp_path / "rank-0", tmp_path / "rank-1"]
        began = until(lambda: all(rank.exists() for rank in ranks), SECONDS_TO_BEGIN)
        assert began is not None, run.messages()
        return run

    yield begin
    for run in runs:
        run.end()


def assert_all_is_over(run, seconds=SECONDS):
    assert until(lambda: not run.living(), seconds) is not None, run.messages()
    # Neither a fit that was ended returns, nor does a program that was ended succeed.
    assert not list(run.folder.glob("returned-*"))
    assert all(caller.wait() != 0 for caller in run.callers)
    # Where torchrun is told of no folder for the output of its processes, it leaves one.
    names = [path.name for path in (run.folder / "tmp").iterdir()]
    assert [name for name in names if not name.startswith("torchelastic_")] == []
    checkpoint = run.folder / "checkpoints" / "last.ckpt"
    if checkpoint.exists():
        X = np.random.default_rng(0).normal(size=(200, 2))
        done = torch.load(checkpoint, weights_only=True)["epoch"] + 1
        params = {"max_epochs": done + 1, "accelerator": "cpu"}
        mixture = GaussianMixture(
            2, init_means=X[:2], convergence_tolerance=0.0, batch_size=20, trainer_params=params
        )
        assert mixture.fit(X, ckpt_path=checkpoint).n_iter_ == done + 1


def pids_of(run, target):
    ranks = [run.rank(0), run.rank(1)]
    return {"one": ranks[1:], "all": ranks, "parent": [run.callers[0].pid]}[target]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_signal_ends_all_processes(begin, strategy, number, target, moment):
    reason = limit(strategy, number, target, moment)
    if reason is not None:
        pytest.skip(reason)
    run = begin(strategy, moment)
    for pid in pids_of(run, target):
        os.kill(pid, number)
    assert_all_is_over(run)
    messages = run.messages()
    if number == signal.SIGINT or (strategy != "nodes" and target != "parent"):
        is_caller = target == "all" and strategy == "ddp" and number != signal.SIGINT
        # A process that was killed itself has no last word.
        assert is_caller or "Error" in messages or "Interrupt" in messages or "ended" in messages


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("strategy", ["ddp_fork", "ddp_spawn", "ddp"])
def test_orphans_that_ignore_interrupts_end(begin, strategy, moment):
    run = begin(strategy, moment, ignores_interrupts=True)
    run.callers[0].kill()
    assert_all_is_over(run, seconds=5)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("moment", ["rendezvous", "iteration"])
@pytest.mark.parametrize("ranks", ["1", "01"])
@pytest.mark.parametrize("ending", [name for name in ENDINGS if name != "SIGSTOP"])
@pytest.mark.parametrize("strategy", ["ddp_fork", "ddp_spawn", "ddp"])
def test_processes_that_end_without_an_answer(begin, strategy, ending, ranks, moment):
    if strategy == "ddp" and "0" in ranks and ending != "KeyboardInterrupt":
        pytest.skip("the first process is the script itself, which ends as it wants to")
    if strategy == "ddp" and "0" in ranks and moment == "rendezvous":
        pytest.skip("the first process ends before the copy that it has started has begun")
    assert_all_is_over(begin(strategy, moment, ending, ranks))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("strategy", ["ddp", "nodes"])
def test_a_process_that_no_longer_answers_ends_the_others_after_the_timeout(begin, strategy):
    """A process that is stopped is to the others what a cut link is: open, and silent."""
    run = begin(strategy, "iteration", "SIGSTOP", "1", FAULTS_TIMEOUT=str(TIMEOUT))
    first = run.callers[0]
    assert until(lambda: first.poll() is not None, TIMEOUT + SECONDS) is not None
    assert first.returncode != 0
    assert "imed out" in run.messages()
    if strategy == "nodes":
        # The link is there again, and the other end is not.
        os.kill(run.rank(1), signal.SIGCONT)
    assert_all_is_over(run)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_processes_of_torchrun_end_with_it(begin, number):
    run = begin("torchrun", "sum", ignores_interrupts=True)
    run.callers[0].send_signal(number)
    assert_all_is_over(run)


def test_a_copy_of_a_script_may_outlive_it(tmp_path):
    """Only until the end of the fit do the processes depend on each other."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    subprocess.run([sys.executable, script], check=True, timeout=SECONDS_TO_BEGIN)
    assert not (tmp_path / "done").exists()
    assert until((tmp_path / "done").exists, SECONDS) is not None


def test_nothing_ends_too_early(begin):
    """A check of the program: without a fault, it would go on."""
    run = begin("ddp_fork", "iteration")
    time.sleep(3)
    assert len(run.living()) == 3

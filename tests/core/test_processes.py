"""A process that is told to ends with its parent, wherever it waits."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from sklearn_torch_gmm.core import processes

looks_into_proc = pytest.mark.skipif(not Path("/proc").exists(), reason="looks into /proc")

PROGRAM = """
    import importlib.util, os, signal, sys, time

    # Without the rest of the package, whose import takes a second.
    spec = importlib.util.spec_from_file_location("processes", sys.argv[1])
    processes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(processes)

    sys.platform = sys.argv[2]
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        outlive = processes.end_with_parent(parent)
        if sys.argv[3] == "outlive":
            outlive()
        print(os.getpid(), flush=True)
        while True:
            time.sleep(0.1)
    time.sleep(3600)
"""


def is_running(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.fixture
def orphan(request):
    """A child whose parent has been killed."""
    arguments = [sys.executable, "-c", textwrap.dedent(PROGRAM), processes.__file__]
    parent = subprocess.Popen([*arguments, *request.param], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    yield pid
    if is_running(pid):
        os.kill(pid, signal.SIGKILL)


@looks_into_proc
# Any other name stands for a system that does not tell of the death of a parent.
@pytest.mark.parametrize("orphan", [("linux", "end"), ("other", "end")], indirect=True, ids=str)
def test_an_orphan_ends_within_five_seconds(orphan):
    deadline = time.monotonic() + 5
    while is_running(orphan):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@looks_into_proc
@pytest.mark.parametrize("orphan", [("linux", "outlive"), ("other", "outlive")], indirect=True)
def test_an_orphan_that_may_outlive_its_parent_does(orphan):
    # Longer than the time between two looks for the parent.
    time.sleep(1.5)
    assert is_running(orphan)


def test_on_windows_the_number_of_the_parent_means_nothing(monkeypatch):
    """There, the parent of a process in a virtual environment is not the one that started it."""
    ended = []
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "_exit", ended.append)
    threads = threading.active_count()
    outlive = processes.end_with_parent(os.getppid() + 1)
    outlive()
    assert not ended
    assert threading.active_count() == threads

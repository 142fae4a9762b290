"""Locks between processes: one holder at a time, and none that is dead."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from sklearn_torch_gmm._saving import locks
from sklearn_torch_gmm._saving.locks import locked


def test_one_thread_at_a_time(tmp_path):
    inside, most = 0, 0
    count = threading.Lock()

    def work():
        nonlocal inside, most
        for _ in range(50):
            with locked(tmp_path / "lock"):
                with count:
                    inside += 1
                    most = max(most, inside)
                with count:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert list(tmp_path.iterdir()) == []


def test_an_error_inside_gives_it_back(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "lock"):
        1 / 0  # noqa: B018
    with locked(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()


def test_a_holder_that_stands_still(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.05)
    with (
        locked(tmp_path / "lock"),
        pytest.raises(TimeoutError, match=r"end it if it hangs, or remove.*lock'"),
        locked(tmp_path / "lock"),
    ):
        pass


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_a_killed_process_holds_nothing(tmp_path):
    program = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from sklearn_torch_gmm._saving.locks import locked

        with locked(Path(sys.argv[1])):
            print("held", flush=True)
            time.sleep(60)
        """
    )
    lock = tmp_path / "lock"
    process = subprocess.Popen([sys.executable, "-c", program, lock], stdout=subprocess.PIPE)
    with process:
        assert process.stdout.readline() == b"held\n"
        process.send_signal(signal.SIGKILL)
    assert lock.exists()
    with locked(lock):
        pass
    assert not lock.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_does_not_go_on_holding_it(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "WAIT_SECONDS", 1.0)
    read, write = os.pipe()
    with locked(tmp_path / "lock"):
        child = os.fork()
        if child == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        os.close(read)
    try:
        with locked(tmp_path / "lock"):
            pass
    finally:
        os.close(write)
        os.waitpid(child, 0)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("kind", ["directory", "link", "pipe"])
def test_something_else_in_its_place(tmp_path, kind):
    lock = tmp_path / "lock"
    if kind == "directory":
        lock.mkdir()
    elif kind == "link":
        lock.symlink_to(tmp_path / "elsewhere")
    else:
        os.mkfifo(lock)
    with pytest.raises(OSError, match=r"remove it.*lock'"), locked(lock):
        pass
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(os.name != "posix", reason="the system call of POSIX")
def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with locked(tmp_path / "lock"), locked(tmp_path / "lock"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="the lock of POSIX")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_lock_that_goes_between_two_looks_at_it(tmp_path, monkeypatch, number):
    """Another process may give it back at any time, which is no error."""
    lock, looks, look = tmp_path / "lock", [], type(tmp_path).stat
    lock.touch()

    def last_look(path, **options):
        found = look(path, **options)
        looks.append(path)
        if len(looks) == number:
            os.unlink(lock)  # noqa: PTH108
        return found

    monkeypatch.setattr(type(lock), "stat", last_look)
    with locked(lock):
        pass
    assert looks

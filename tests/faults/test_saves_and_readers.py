"""Processes that save to one path, are killed in the middle of it, and read from it."""

import os
import subprocess
import sys

import pytest

from sklearn_torch_gmm import GaussianMixture
from tests.faults.savers import marked

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes"),
]


def start(*arguments):
    command = [sys.executable, "-m", "tests.faults.savers", *map(str, arguments)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, text=True, **pipes)


def go(*processes):
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()


def end(process):
    """The output of a process that must end by itself, without an error."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert errors == ""
    return output


def test_savers_that_are_killed_beside_readers(tmp_path):
    """200 savers are killed, two at a time; two readers never see an error or half a model."""
    path = tmp_path / "model"
    marked(0).save(path)
    readers = [start("read", path, 20.0) for _ in range(2)]
    savers = [start("save_and_die", path, 3 * index, 100) for index in range(2)]
    go(*readers, *savers)
    for process in savers:
        assert end(process) == ""
    for reader in readers:
        number, seen = map(int, end(reader).split())
        print("models read:", number, "of them different:", seen)
        assert number > 100
        assert seen > 20
    # Whatever the dead have left, the next save works, and removes the lock.
    marked(7).save(path)
    assert GaussianMixture.load(path).means_[0, 0] == 7.0
    left = {p.name for p in path.iterdir()} - {"model.safetensors"}
    assert all(name.endswith(".new") for name in left)


def test_two_that_save_a_part_each(tmp_path):
    """Neither part is ever put back: each saver finds what it has saved last."""
    path = tmp_path / "model"
    marked(0).save(path)
    savers = [start("save_part", path, name, 500) for name in ("parameters", "attributes")]
    go(*savers)
    for saver in savers:
        assert end(saver) == ""
    assert [p.name for p in path.iterdir()] == ["model.safetensors"]

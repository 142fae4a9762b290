"""Twelve thousand damaged files: each is refused by name, or read as if it were whole."""

import json
import subprocess
import sys

import pytest

from tests.conftest import SEED

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

NUMBER = 6000


@pytest.mark.parametrize("kind", ["model", "checkpoint"])
def test_damaged_files(kind):
    command = [sys.executable, "-m", "tests.faults.damage", kind, str(SEED), str(NUMBER)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    # A negative code would be the signal of a crash.
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    print(kind, found)
    assert found["others"] == []
    assert found["refused"] + found["the same"] == NUMBER
    # Most damage is damage to something.
    assert found["refused"] > 0.5 * NUMBER
    # The files have a few kilobytes, a few of them 2 GiB by a hole; torch takes some for itself.
    assert found["memory"] < 2**28

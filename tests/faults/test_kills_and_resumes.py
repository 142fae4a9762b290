"""A hundred fits that are killed at random moments end with the result of those that are not."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import SEED

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes"),
]


def test_killed_and_resumed_is_not_interrupted():
    command = [sys.executable, "-m", "tests.faults.resume", str(SEED), "100"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    print(found)
    assert found["kills"] >= 100
    assert found["differ"] == []
    # The others were killed before their first checkpoint.
    assert found["resumed"] > 50

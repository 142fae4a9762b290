"""Runs the tests in each of the settings in which numbers round, and tests run, otherwise.

Libraries of matrix products choose their instructions by the processor; variables that they read
let one processor stand for older ones. MKL follows `MKL_ENABLE_INSTRUCTIONS` on Intel's processors
only, and `MKL_CBWR` on all.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

_SEED = "SKLEARN_TORCH_GMM_TEST_SEED"

IGNORES_INTERRUPTS = "interrupts ignored, seed 5"

# Each has a seed of its own, so that the seeds take no runs of theirs.
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "as it is": {},
    "SSE 4.2, seed 1": {
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "OPENBLAS_CORETYPE": "Nehalem",
        _SEED: "1",
    },
    "AVX2, seed 2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        _SEED: "2",
    },
    "any processor, seed 3": {"MKL_CBWR": "COMPATIBLE", _SEED: "3"},
    "two threads, random order, seed 4": {
        "OMP_NUM_THREADS": "2",
        "SKLEARN_TORCH_GMM_TEST_ORDER": "1",
        _SEED: "4",
    },
    IGNORES_INTERRUPTS: {_SEED: "5"},
}


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def main(arguments: Sequence[str]) -> int:
    """Run pytest with the arguments in each of the settings; return the number of failures."""
    outcomes = {}
    for name, variables in SETTINGS.items():
        print(f"== {name}: {dict(variables)}", flush=True)
        outcomes[name] = subprocess.run(
            [sys.executable, "-m", "pytest", "--quiet", *arguments],
            env={**os.environ, **variables},
            preexec_fn=_ignore_interrupts if name == IGNORES_INTERRUPTS else None,
            check=False,
        ).returncode
    for name, code in outcomes.items():
        print(f"{'failed' if code else 'passed'}: {name}")
    return sum(code != 0 for code in outcomes.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

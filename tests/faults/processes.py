"""Starts the program, finds its processes, and tells what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.faults import program

MARK = "SKLEARN_TORCH_GMM_FAULTS"

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


@dataclass
class Run:
    """The processes of one fit: one caller, or one for each of two nodes."""

    folder: Path
    callers: list[subprocess.Popen] = field(default_factory=list)

    def rank(self, rank: int) -> int:
        return int((self.folder / f"rank-{rank}").read_text())

    def living(self) -> list[int]:
        """Every process of the run, found by a variable that all of them inherit."""
        for caller in self.callers:
            caller.poll()
        mark = f"{MARK}={self.folder}".encode()
        return [int(p.name) for p in Path("/proc").glob("[0-9]*") if mark in _environment(p)]

    def messages(self, node: int = 0) -> str:
        return (self.folder / f"stderr-{node}").read_text()

    def end(self) -> None:
        """Kill what is left, so that nothing stays after a test that fails."""
        for pid in self.living():
            os.kill(pid, signal.SIGKILL)
        for caller in self.callers:
            caller.wait()


def _environment(process: Path) -> list[bytes]:
    try:
        if (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return []
        return (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def start(
    folder: Path,
    strategy: str,
    *arguments: str,
    free_port: int = 0,
    ignores_interrupts: bool = False,
    **environment: str,
) -> Run:
    """Start the program with a temporary folder of its own.

    A program that a shell starts in the background, or with nohup, ignores interrupts.
    """
    handler = signal.SIG_IGN if ignores_interrupts else signal.SIG_DFL
    run = Run(folder)
    launcher = TORCHRUN if strategy == "torchrun" else []
    command = [sys.executable, *launcher, program.__file__, str(folder), strategy, *arguments]
    (folder / "tmp").mkdir()
    for node in range(2 if strategy == "nodes" else 1):
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SLURM", "PYTEST"))
        }
        own = {MARK: str(folder), "TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1"}
        if strategy == "nodes":
            own |= {"NODE_RANK": str(node), "MASTER_ADDR": "127.0.0.1"}
            own |= {"MASTER_PORT": str(free_port)}
        with (folder / f"stderr-{node}").open("w") as messages:
            run.callers.append(
                subprocess.Popen(
                    command,
                    env=inherited | own | environment,
                    stdout=messages,
                    stderr=messages,
                    start_new_session=True,
                    preexec_fn=partial(signal.signal, signal.SIGINT, handler),
                )
            )
    return run


def until(condition: Callable[[], object], seconds: float) -> float | None:
    """Seconds until the condition holds, or None if it does not hold in time."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            return None
        time.sleep(0.05)
    return time.monotonic() - began

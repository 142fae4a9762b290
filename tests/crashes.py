"""What a process leaves of a save when it is killed, before each thing that it does to the disk.

Run as a program, since Python's audit hooks, which see these things coming, cannot be taken back.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from sklearn_torch_gmm._saving.model_file import Part, read_model, write_model

CLASS = "some.Class"


def parts(number: float, *names: str) -> dict:
    tensors = {"a": torch.full((100,), float(number))}
    return {name: Part({"number": number}, tensors) for name in names}


WHOLE = parts(1, "parameters", "attributes")
SCENARIOS = {
    "first save": (None, WHOLE, False),
    "fitted by fitted": (WHOLE, parts(2, "parameters", "attributes"), False),
    "fitted by unfitted": (WHOLE, parts(2, "parameters"), False),
    "parameters alone": (WHOLE, parts(2, "parameters"), True),
    "attributes alone": (parts(1, "parameters"), parts(2, "attributes"), True),
}


class Steps:
    """Calls a function before each thing that is done to the file system."""

    def __init__(self) -> None:
        self.notice: Callable[[], None] | None = None
        os.fsync = lambda descriptor: self.happen()
        sys.addaudithook(self.audit)

    def audit(self, event: str, arguments: tuple) -> None:
        is_write = event == "open" and isinstance(arguments[2], int)
        is_write = is_write and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if is_write or event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir"):
            self.happen()

    def happen(self) -> None:
        notice, self.notice = self.notice, None
        if notice is not None:
            notice()
        self.notice = notice


STEPS = Steps()


def numbers(directory: Path) -> dict | None:
    """The number in each part of a model, and in its tensors."""
    try:
        found = read_model(directory, CLASS)
    except FileNotFoundError:
        return None
    return {n: (part.values["number"], part.tensors["a"][0].item()) for n, part in found.items()}


def die_before(step: int) -> None:
    passed = 0

    def notice() -> None:
        nonlocal passed
        if passed == step:
            os.kill(os.getpid(), signal.SIGKILL)
        passed += 1

    STEPS.notice = notice


def deaths(place: Path, old: dict | None, new: dict, keep_other: bool) -> Iterator[dict]:
    was_killed, step = True, 0
    while was_killed:
        directory = place / str(step)
        if old is not None:
            write_model(directory, CLASS, old, keep_other=False)
        before = numbers(directory)
        child = os.fork()
        if child == 0:
            die_before(step)
            write_model(directory, CLASS, new, keep_other=keep_other)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        was_killed = os.WIFSIGNALED(status)
        after = dict.fromkeys(new, (2.0, 2.0) if new is not WHOLE else (1.0, 1.0))
        after = {**((before or {}) if keep_other else {}), **after}
        found = numbers(directory)
        result = {"found": "old" if found == before else "new" if found == after else "neither"}
        write_model(directory, CLASS, parts(3, "parameters"), keep_other=False)
        result["found at last"] = numbers(directory) == {"parameters": (3, 3.0)}
        yield result
        step += 1


def main(place: Path) -> None:
    print(json.dumps({name: list(deaths(place / name, *s)) for name, s in SCENARIOS.items()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""What a crash leaves of a save, for each thing that the save does to the file system.

Run as a program, since Python's audit hooks, which see these things coming, cannot be taken back.
Before each of them the directory is copied: a process that is killed there leaves just that. One
of the scenarios is run again with processes that are indeed killed.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from sklearn_torch_gmm._saving.directory import (
    ATTRIBUTE_FILES,
    PARAMETER_FILES,
    read_model,
    write_model,
)

ALL_FILES = (*PARAMETER_FILES, *ATTRIBUTE_FILES)

FITTED = {"params.json": b"{1}", "attributes.json": b"{}", "model.safetensors": b"1" * 1000}
REFITTED = {name: content + b" " for name, content in FITTED.items()}
UNFITTED = {"params.json": b"{2}", "params.safetensors": b"2" * 100}
THIRD = {"params.json": b"{3}", "attributes.json": b"[]", "model.safetensors": b"3"}

SCENARIOS = {
    "first save": (None, FITTED, ALL_FILES),
    "fitted by fitted": (FITTED, REFITTED, ALL_FILES),
    "fitted by unfitted": (FITTED, UNFITTED, ALL_FILES),
    "unfitted by fitted": (UNFITTED, FITTED, ALL_FILES),
    "parameters alone": (FITTED, UNFITTED, PARAMETER_FILES),
    "attributes alone": (UNFITTED, REFITTED, ATTRIBUTE_FILES),
}

INTERRUPTED_AGAIN = ("fitted by unfitted",)


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


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def save(directory: Path, files: dict, replaced: tuple = ALL_FILES) -> None:
    files = {name: content for name, content in files.items() if name in replaced}
    write_model(directory, "some.Class", files, replaced=replaced)


def load(directory: Path) -> dict | None:
    try:
        return read_model(directory, "some.Class", ALL_FILES)
    except FileNotFoundError:
        return None


def states(directory: Path, files: dict, replaced: tuple, copies: Path) -> Iterator[Path]:
    """Save, and give a copy of the directory as it was before each step, and as it is at last."""
    number = 0

    def copy() -> None:
        nonlocal number
        place = copies / str(number)
        place.mkdir(parents=True)
        if directory.exists():
            shutil.copytree(directory, place / "model")
        number += 1

    STEPS.notice = copy
    save(directory, files, replaced)
    STEPS.notice = None
    copy()
    return (copies / str(index) / "model" for index in range(number))


def found_in(directory: Path, old: dict | None, new: dict) -> str:
    found = load(directory)
    return "old" if found == old else "new" if found == new else "neither"


def snapshots(
    place: Path, old: dict | None, new: dict, replaced: tuple, interrupt_next: bool
) -> Iterator[dict]:
    directory = place / "model"
    if old is not None:
        save(directory, old)
    expected = {n: c for n, c in (old or {}).items() if n not in replaced}
    expected.update({n: c for n, c in new.items() if n in replaced})
    for state in states(directory, new, replaced, place / "copies"):
        result = {"found": found_in(state, old, expected)}
        if result["found"] == "old":
            # The machine lost its power: what was not forced to the disk may be cut.
            cut = shutil.copytree(state, state.parent / "cut") if state.exists() else state
            for path in cut.glob("*.new"):
                os.truncate(path, path.stat().st_size // 2)
            result["found after a cut"] = found_in(cut, old, expected)
        crashed = load(state)
        if interrupt_next:
            further = states(state, THIRD, ALL_FILES, state.parent / "further")
            result["found after the next"] = [found_in(again, crashed, THIRD) for again in further]
        else:
            save(state, THIRD)
        result["found at last"] = "third" if load(state) == THIRD else "neither"
        result["files at last"] = names_in(state)
        yield result


def die_before(step: int) -> None:
    passed = 0

    def notice() -> None:
        nonlocal passed
        if passed == step:
            os.kill(os.getpid(), signal.SIGKILL)
        passed += 1

    STEPS.notice = notice


def killed(place: Path, old: dict, new: dict, replaced: tuple) -> Iterator[str]:
    was_killed = True
    step = 0
    while was_killed:
        directory = place / str(step)
        save(directory, old)
        child = os.fork()
        if child == 0:
            die_before(step)
            save(directory, new, replaced)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        was_killed = os.WIFSIGNALED(status)
        yield found_in(directory, old, new)
        step += 1


def main(place: Path) -> None:
    results = {
        name: list(snapshots(place / name, *scenario, name in INTERRUPTED_AGAIN))
        for name, scenario in SCENARIOS.items()
    }
    deaths = list(killed(place / "killed", *SCENARIOS["fitted by fitted"]))
    print(json.dumps({"snapshots": results, "killed": deaths}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

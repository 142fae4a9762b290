"""One measurement of one library in this process: a request comes in, an answer goes out."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from benchmarks.process import limit_memory, without_paths


def main() -> None:
    request = json.loads(sys.argv[1])
    # Libraries print; the answer alone goes to standard output.
    answers = os.dup(1)
    os.dup2(2, 1)
    if request["device"] == "cpu":
        from benchmarks.environment import physical_memory

        # A library that takes more memory than there is fails, not the machine.
        limit_memory(int(0.9 * physical_memory()))
    answer = _answer(request)
    with os.fdopen(answers, "w") as file:
        file.write(json.dumps(answer) + "\n")
    # Threads and processes of a library must not keep this one.
    sys.stdout.flush()
    os._exit(0)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    if request["task"] == "robustness":
        from benchmarks.robustness.attempt import attempt as task
    else:
        from benchmarks.tasks import TASKS

        task = TASKS[request["task"]]
    try:
        values = task(request)
    except BaseException as error:
        if type(error).__name__ == "NotOffered":
            return {"not_offered": str(error)}
        return {"error": plain(error)}
    from benchmarks.environment import loaded_libraries

    return {"values": values, "libraries": loaded_libraries()}


def plain(error: BaseException) -> str:
    """The first line of an error, without the paths of the machine that it happened on."""
    if isinstance(error, ModuleNotFoundError):
        return f"not installed: {error}"
    text = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {without_paths(text)}"[:200]


if __name__ == "__main__":
    main()

"""One measurement of one library in this process: a request comes in, an answer goes out."""

import json
import os
import sys

from benchmarks.environment import loaded_libraries, without_paths
from benchmarks.memory import limit_memory, physical_memory
from benchmarks.peers.base import NotOffered
from benchmarks.request import Request
from benchmarks.robustness.attempt import attempt
from benchmarks.tasks import TASKS


def main():
    request = Request(**json.loads(sys.argv[1]))
    # Libraries print; the answer alone goes to standard output.
    answers = os.dup(1)
    os.dup2(2, 1)
    if request.device == "cpu":
        # A library that takes more memory than there is fails, not the machine.
        limit_memory(int(0.9 * physical_memory()))
    answer = _answer(request)
    with os.fdopen(answers, "w") as file:
        file.write(json.dumps(answer) + "\n")
    # Threads and processes of a library must not keep this one.
    sys.stdout.flush()
    os._exit(0)


def _answer(request):
    measure = attempt if request.task == "robustness" else TASKS[request.task].measure
    try:
        values = measure(request)
    except NotOffered as error:
        return {"not_offered": str(error)}
    except BaseException as error:
        return {"error": plain(error)}
    return {"values": values, "libraries": loaded_libraries()}


def plain(error):
    """The first line of an error, without the paths of the machine that it happened on."""
    if isinstance(error, ModuleNotFoundError):
        return f"not installed: {error}"
    text = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {without_paths(text)}"[:200]


if __name__ == "__main__":
    main()

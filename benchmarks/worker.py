"""One measurement of one library in this process: a request comes in, an answer goes out."""

import json
import os
import sys

from benchmarks.environment import limit_memory, loaded_libraries, physical_memory, told
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
        return {"values": measure(request), "libraries": loaded_libraries()}
    except NotOffered as error:
        return {"not_offered": str(error)}
    except ModuleNotFoundError as error:
        return {"error": f"not installed: {error}"}
    except BaseException as error:
        return {"error": told(error, 200)}


if __name__ == "__main__":
    main()

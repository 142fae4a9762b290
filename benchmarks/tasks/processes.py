"""What a fresh process takes for its first import, prediction or fit."""

import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.peers import PEERS
from benchmarks.timing import timed

_TIMED = """
from time import perf_counter
begin = perf_counter()
{}
print(perf_counter() - begin)
"""

_FIRST_PREDICTION = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    pipeline, X = pickle.load(file)
pipeline.predict(X)
"""

_FIRST_FIT = """
from sklearn.datasets import load_iris
from {} import GaussianMixture
GaussianMixture(3, random_state=0).fit(load_iris().data)
"""


def import_library(request):
    """An import; the baseline is one of what users of torch and scikit-learn have anyway."""
    line = "import torch, sklearn"
    if request.library in PEERS:
        # A library that is not installed says so here.
        PEERS[request.library].load()
        line = PEERS[request.library].imports
    return {"seconds": _seconds_inside(line)}


def first_prediction(request):
    """Unpickle a pipeline and predict, imports included."""
    problem = request.problem()
    pipeline = make_pipeline(StandardScaler(), request.peer.unfitted(problem.start))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.pickle"
        path.write_bytes(pickle.dumps((pipeline.fit(problem.X), problem.X)))
        return {"seconds": _seconds_inside(_FIRST_PREDICTION, str(path))}


def first_fit(request):
    """Import the class and fit iris, the start and the end of the process included."""
    script = _FIRST_FIT.format(request.peer.module.__name__)
    return {"seconds": timed(_run, script, warm=True).median}


def _seconds_inside(lines, *arguments):
    """Seconds that lines of Python take after the interpreter has started."""
    return float(_run(_TIMED.format(lines), *arguments).split()[-1])


def _run(script, *arguments):
    command = [sys.executable, "-W", "ignore", "-c", script, *arguments]
    return subprocess.check_output(command, text=True)

"""What a fresh process takes for its first import, prediction or fit."""

import pickle
import subprocess
import sys

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
pipeline, X = pickle.load(sys.stdin.buffer)
pipeline.predict(X)
"""

_FIRST_FIT = """
from sklearn.datasets import load_iris
from {} import GaussianMixture
GaussianMixture(3, random_state=0).fit(load_iris().data)
"""


def import_library(request):
    """An import; the baseline is one of what users of torch and scikit-learn have anyway."""
    if request.library not in PEERS:
        return {"seconds": _seconds_inside("import torch, sklearn")}
    # A library that is not installed says so here.
    PEERS[request.library].load()
    return {"seconds": _seconds_inside(PEERS[request.library].imports)}


def first_prediction(request):
    """Unpickle a pipeline and predict, imports included."""
    problem = request.problem()
    pipeline = make_pipeline(StandardScaler(), request.peer.unfitted(problem.start))
    pickled = pickle.dumps((pipeline.fit(problem.X), problem.X))
    return {"seconds": _seconds_inside(_FIRST_PREDICTION, pickled)}


def first_fit(request):
    """Import the class and fit iris, the start and the end of the process included."""
    script = _FIRST_FIT.format(request.peer.module.__name__)
    return {"seconds": timed(_run, script, warm=True).median}


def _seconds_inside(lines, given=b""):
    """Seconds that lines of Python take after the interpreter has started."""
    return float(_run(_TIMED.format(lines), given).split()[-1])


def _run(script, given=b""):
    return subprocess.check_output([sys.executable, "-W", "ignore", "-c", script], input=given)

"""What is measured, and how: each function is given a library and a problem, and returns numbers.

The first number is the one that libraries are compared by.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES
from benchmarks.clocks import extra_bytes, seconds, steady_seconds
from benchmarks.jobs import JOBS

Numbers = dict[str, float | None]

_PRODUCT_SIZE = 2_048


def fit(request: dict[str, Any]) -> Numbers:
    """Fits from given initial parameters, of two lengths."""
    peer, problem = _peer(request), _problem(request)
    X = peer.prepare(problem.X)
    # Whatever is imported or set up at the first call is not what is measured.
    peer.fit(peer.prepare(problem.head), problem, 1)
    few, many = problem.case.iterations
    model = None

    def fit_for(iterations: int) -> float:
        def call() -> None:
            nonlocal model
            model = peer.fit(X, problem, iterations)

        return steady_seconds(call, peer.synchronize)

    short = fit_for(few)
    # What was done, not what was asked for: some libraries stop where nothing changes any more.
    few = peer.iterations(model)
    long = fit_for(many)
    many = peer.iterations(model)
    return {
        "per_iteration": (long - short) / (many - few) if many > few else 0.0,
        "whole_per_iteration": long / many,
        "seconds": long,
        "iterations": many,
        "log_likelihood": peer.log_likelihood(model),
    }


def fit_default(request: dict[str, Any]) -> Numbers:
    """A fit with the default initialization, until it converges."""
    peer, problem = _peer(request), _problem(request)
    X = peer.prepare(problem.X)
    peer.fit_default(peer.prepare(problem.head), problem)
    model = None

    def whole_fit() -> None:
        nonlocal model
        model = peer.fit_default(X, problem)

    took = steady_seconds(whole_fit, peer.synchronize)
    return {
        "seconds": took,
        "iterations": peer.iterations(model),
        "log_likelihood": peer.log_likelihood(model),
    }


def _inference(method: str) -> Callable[[dict[str, Any]], Numbers]:
    def measure(request: dict[str, Any]) -> Numbers:
        peer, problem = _peer(request), _problem(request)
        head = peer.prepare(problem.head)
        X = peer.prepare(problem.X)
        model = peer.fit(head, problem, 1)
        call = getattr(peer, method)
        what = len(problem.X) if method == "sample" else X
        call(model, 10 if method == "sample" else head)
        return {"seconds": steady_seconds(lambda: call(model, what), peer.synchronize)}

    return measure


def _restarts(*, default: bool) -> Callable[[dict[str, Any]], Numbers]:
    def measure(request: dict[str, Any]) -> Numbers:
        """Ten initializations in one fit, and ten fits that draw the same random numbers."""
        peer, problem = _peer(request), _problem(request)
        X = peer.prepare(problem.X)
        head = peer.prepare(problem.head)
        peer.fit_restarts(head, problem, 2, 0, default)
        together = seconds(
            lambda: peer.fit_restarts(X, problem, 10, peer.restarts_seed(), default),
            peer.synchronize,
        )
        seed = peer.restarts_seed()
        single = [
            seconds(lambda: peer.fit_restarts(X, problem, 1, seed, default), peer.synchronize)
            for _ in range(10)
        ]
        mean = sum(single) / len(single)
        return {"seconds": together, "single": mean, "single_fits": together / mean}

    return measure


def _memory_of_fit(times: int) -> Callable[[dict[str, Any]], Numbers]:
    def measure(request: dict[str, Any]) -> Numbers:
        peer, problem = _peer(request), _problem(request, times)
        X = peer.prepare(problem.X)
        peer.fit(peer.prepare(problem.head), problem, 1)
        extra, _ = extra_bytes(lambda: peer.fit(X, problem, 2))
        return {"bytes": extra}

    return measure


def memory_of_predict_proba(request: dict[str, Any]) -> Numbers:
    """Extra memory above that of the result."""
    peer, problem = _peer(request), _problem(request)
    X = peer.prepare(problem.X)
    head = peer.prepare(problem.head)
    model = peer.fit(head, problem, 1)
    peer.predict_proba(model, head)
    extra, result = extra_bytes(lambda: peer.predict_proba(model, X))
    return {"bytes": max(0, extra - result.nbytes)}


def import_time(request: dict[str, Any]) -> Numbers:
    """An import in a process that has imported nothing."""
    from benchmarks.peers import BASELINE, PEERS

    library = request["library"]
    line = "import torch, sklearn" if library == BASELINE else PEERS[library].imports
    return {"seconds": seconds(lambda: exec(line, {}), lambda: None)}


_FIRST_PREDICTION = """
from time import perf_counter
begin = perf_counter()
import pickle, sys
with open(sys.argv[1], "rb") as file:
    pipeline, X = pickle.load(file)
pipeline.predict(X)
print(perf_counter() - begin)
"""


def first_prediction(request: dict[str, Any]) -> Numbers:
    """Unpickle a pipeline and predict, imports included, in a process that has imported nothing."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    peer, problem = _peer(request), _problem(request)
    mixture = peer.pipeline_step(problem.case.components)
    pipeline = make_pipeline(StandardScaler(), mixture).fit(problem.X)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.pickle"
        path.write_bytes(pickle.dumps((pipeline, problem.X)))
        command = [sys.executable, "-c", _FIRST_PREDICTION, str(path)]
        run = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    return {"seconds": float(run.stdout)}


def product(request: dict[str, Any]) -> Numbers:
    """The rate of a large product of matrices."""
    import numpy as np

    size, dtype = _PRODUCT_SIZE, request["dtype"]
    a = np.random.default_rng(0).normal(size=(size, size)).astype(dtype)
    if request["library"] == "torch":
        import torch

        matrix = torch.from_numpy(a).to(request["device"])

        def synchronize() -> None:
            if request["device"] != "cpu":
                torch.cuda.synchronize()
    else:
        matrix = a

        def synchronize() -> None:
            pass

    def multiply() -> Any:
        return matrix @ matrix

    seconds(multiply, synchronize)
    took = steady_seconds(multiply, synchronize, budget=1.5)
    return {"flops_per_second": 2 * size**3 / took}


TASKS: dict[str, Callable[[dict[str, Any]], Numbers]] = {
    "fit": fit,
    "fit-default": fit_default,
    "predict": _inference("predict"),
    "predict_proba": _inference("predict_proba"),
    "score_samples": _inference("score_samples"),
    "sample": _inference("sample"),
    "restarts": _restarts(default=False),
    "restarts-default": _restarts(default=True),
    "memory-fit": _memory_of_fit(1),
    "memory-fit-4n": _memory_of_fit(4),
    "memory-predict_proba": memory_of_predict_proba,
    "import": import_time,
    "first-prediction": first_prediction,
    "product": product,
    **JOBS,
}


def _peer(request: dict[str, Any]) -> Any:
    from benchmarks.peers import PEERS
    from benchmarks.peers.base import NotOffered

    # Fits of so many iterations don't converge, and scikit-learn says so.
    warnings.simplefilter("ignore")
    peer = PEERS[request["library"]].load()(request["device"])
    if request["covariance"] not in peer.covariances:
        raise NotOffered(f"no {request['covariance']} covariances")
    return peer


def _problem(request: dict[str, Any], times: int = 1) -> Any:
    from benchmarks.problems import make_problem

    case = CASES[request["case"]]
    rows = times * case.rows
    return make_problem(case, request["covariance"], request["dtype"], rows)

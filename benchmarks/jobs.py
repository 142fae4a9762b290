"""Jobs that people run, from a first fit to a search, with scikit-learn's classes and with ours."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
from joblib.externals.loky import get_reusable_executor
from sklearn.cluster import AgglomerativeClustering
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.cases import CASES, COVARIANCES
from benchmarks.clocks import seconds, steady_seconds, times_of
from benchmarks.environment import num_cores
from benchmarks.peers import OURS
from benchmarks.peers.base import NotOffered
from benchmarks.problems import assigned_start, make_problem

Numbers = dict[str, float]

MODULES = {OURS: "sklearn_torch_gmm.mixture", "scikit-learn": "sklearn.mixture"}

SWEEPS = {"30k-8-8": (range(2, 13), ("full",), 3)}
"""Numbers of components, covariance types and initializations; other cases use the defaults."""

SWEEP = range(1, 11), COVARIANCES, 1

BAYESIAN_ITERATIONS = 2, 12

_FIRST_FIT = """
from sklearn.datasets import load_iris
from {} import GaussianMixture
GaussianMixture(3, random_state=0).fit(load_iris().data)
"""


def class_of(request: dict[str, Any], name: str = "GaussianMixture") -> Any:
    warnings.simplefilter("ignore")
    return getattr(import_module(MODULES[request["library"]]), name)


def problem_of(request: dict[str, Any]) -> Any:
    covariance = request["covariance"]
    known = covariance if covariance in COVARIANCES else "full"
    return make_problem(CASES[request["case"]], known, request["dtype"])


def warm_seconds(call: Callable[[], Any]) -> float:
    call()
    return steady_seconds(call, lambda: None)


def first_fit(request: dict[str, Any]) -> Numbers:
    """A process that imports the class and fits iris."""
    command = [sys.executable, "-W", "ignore", "-c", _FIRST_FIT.format(MODULES[request["library"]])]
    return {"seconds": warm_seconds(lambda: subprocess.run(command, check=True))}


def search(num_jobs: int) -> Callable[[dict[str, Any]], Numbers]:
    def measure(request: dict[str, Any]) -> Numbers:
        """Cross-validation over numbers of components and covariance types."""
        X = problem_of(request).X
        step = class_of(request)(random_state=0)
        grid = {"n_components": range(1, 7), "covariance_type": COVARIANCES}
        one = GridSearchCV(
            make_pipeline(StandardScaler(), step),
            {f"gaussianmixture__{name}": list(values) for name, values in grid.items()},
            n_jobs=num_jobs,
        )
        took = warm_seconds(lambda: one.fit(X))
        if num_jobs > 1:
            # Its processes would keep the pipe of this one open for minutes.
            get_reusable_executor().shutdown()
        return {"seconds": took}

    return measure


def choice(request: dict[str, Any]) -> Numbers:
    """The best BIC: one search here, a loop over fits there."""
    X, mixture = problem_of(request).X, class_of(request)
    sizes, types, starts = SWEEPS.get(request["case"], SWEEP)

    def loop() -> float:
        fits = (
            mixture(k, covariance_type=name, n_init=starts, random_state=0).fit(X)
            for name in types
            for k in sizes
        )
        return min(fit.bic(X) for fit in fits)

    if request["library"] != OURS:
        return {"seconds": steady_seconds(loop, lambda: None), "bic": loop()}
    from sklearn_torch_gmm import GaussianMixtureIC

    chooser = GaussianMixtureIC(
        sizes[0], sizes[-1], covariance_type=list(types), n_init=starts, random_state=0
    )
    took, by_loop = warm_seconds(lambda: chooser.fit(X)), warm_seconds(loop)
    number = len(sizes) * len(types)
    best = float(np.nanmin(chooser.results_["bic"]))
    return {"seconds": took, "single_fits": number * took / by_loop, "bic": best}


def given_sweep(request: dict[str, Any]) -> Numbers:
    """Fits from the parameters of agglomerative clusters, as graspologic's AutoGMMCluster does."""
    X, covariance, mixture = problem_of(request).X, request["covariance"], class_of(request)
    starts = []
    for k in range(1, 11):
        labels = AgglomerativeClustering(k).fit_predict(X) if k > 1 else np.zeros(len(X), int)
        weights, means, _, precisions = assigned_start(X, labels, covariance)
        starts.append({
            "n_components": k, "covariance_type": covariance, "weights_init": weights,
            "means_init": means, "precisions_init": precisions,
        })  # fmt: skip
    return {"seconds": warm_seconds(lambda: [mixture(**start).fit(X) for start in starts])}


@contextmanager
def busy_neighbours() -> Iterator[None]:
    """Processes that keep every core busy."""
    commands = [[sys.executable, "-c", "while True: pass"]] * num_cores()
    neighbours = [subprocess.Popen(command) for command in commands]
    try:
        yield
    finally:
        for one in neighbours:
            one.kill()
            one.wait()


def few_rows(size: int, *, busy: bool = False) -> Callable[[dict[str, Any]], Numbers]:
    def measure(request: dict[str, Any]) -> Numbers:
        """Predictions and scores of a few samples: the median, or when busy the slowest of 100."""
        problem = problem_of(request)
        mixture = class_of(request)(
            problem.case.components, covariance_type=request["covariance"], random_state=0
        ).fit(problem.X)
        rows = np.resize(problem.X, (size, problem.X.shape[1]))

        def call() -> None:
            for name in ("predict", "predict_proba", "score_samples", "score"):
                getattr(mixture, name)(rows)

        call()
        if not busy:
            return {"seconds": steady_seconds(call, lambda: None)}
        with busy_neighbours():
            times = times_of(call, lambda: None, budget=5.0, most=2_000)
        return {"seconds": float(np.quantile(times, 0.99)), "median": float(np.median(times))}

    return measure


def bayesian(request: dict[str, Any]) -> Numbers:
    """An iteration of variational Bayes."""
    problem, cls = problem_of(request), class_of(request, "BayesianGaussianMixture")
    options = {"n_components": problem.case.components, "covariance_type": request["covariance"]}
    options |= {"init_params": "random_from_data", "tol": 0.0, "random_state": 0}

    def fit_for(iterations: int) -> float:
        one = cls(**options, max_iter=iterations)
        return warm_seconds(lambda: one.fit(problem.X))

    few, many = BAYESIAN_ITERATIONS
    return {"seconds": (fit_for(many) - fit_for(few)) / (many - few)}


def column(request: dict[str, Any]) -> Numbers:
    """A Bayesian mixture of one column of a table, as generators of synthetic tables fit it."""
    cls = class_of(request, "BayesianGaussianMixture")
    rng = np.random.default_rng(0)
    rows = CASES[request["case"]].rows
    noise = rng.normal(size=(rows, 1))
    values = np.where(rng.random((rows, 1)) < 0.3, 0.5 * noise + 5, noise)
    one = cls(n_components=10, weight_concentration_prior=0.001, random_state=0)
    return {"seconds": seconds(lambda: one.fit(values), lambda: None)}


def two_processes(request: dict[str, Any]) -> Numbers:
    """An iteration by two processes of one thread each, and by one."""
    if request["library"] != OURS:
        raise NotOffered("one process")
    import torch

    from sklearn_torch_gmm import GaussianMixture

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    problem = problem_of(request)
    few, many = problem.case.iterations

    def seconds_of(iterations: int, processes: int) -> float:
        params = {"accelerator": "cpu", "devices": processes, "max_epochs": iterations}
        if processes > 1:
            params["strategy"] = "ddp_fork"
        one = GaussianMixture(
            problem.case.components, covariance_type=request["covariance"],
            init_means=problem.means, convergence_tolerance=0.0, trainer_params=params,
        )  # fmt: skip
        return seconds(lambda: one.fit(problem.X), lambda: None)

    one, two = ((seconds_of(many, n) - seconds_of(few, n)) / (many - few) for n in (1, 2))
    return {"seconds": two, "single": one, "single_fits": two / one}


JOBS: dict[str, Callable[[dict[str, Any]], Numbers]] = {
    "first-fit": first_fit,
    "search": search(1),
    "search-2-jobs": search(2),
    "choice": choice,
    "given-sweep": given_sweep,
    "1-row": few_rows(1),
    "100-rows": few_rows(100),
    "1000-rows": few_rows(1_000),
    "100-rows-busy": few_rows(100, busy=True),
    "bayesian": bayesian,
    "column": column,
    "two-processes": two_processes,
}

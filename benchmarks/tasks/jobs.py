"""Jobs that people run, from few samples to a search, with scikit-learn's classes and with ours."""

import subprocess
import sys
import warnings
from contextlib import ExitStack
from itertools import count, product

import joblib
import numpy as np
from joblib.externals.loky import get_reusable_executor
from sklearn.cluster import AgglomerativeClustering
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.cases import CASES, COVARIANCES
from benchmarks.peers import OURS
from benchmarks.peers.base import NotOffered
from benchmarks.problems import assigned_start
from benchmarks.timing import once, timed

SWEEP = range(1, 11), COVARIANCES, 1
SWEEPS = {"30k-8-8": (range(2, 13), ("full",), 3)}
"""Numbers of components, covariance types and initializations, where they are not the default."""


def search(request, *, n_jobs):
    """Cross-validation over numbers of components and covariance types."""
    X = request.problem().X
    grid = {"n_components": range(1, 7), "covariance_type": COVARIANCES}
    grid = {f"gaussianmixture__{name}": values for name, values in grid.items()}
    # What other processes know from an earlier search cannot be forgotten.
    seeds = count()

    def fit():
        mixture = request.peer.module.GaussianMixture(random_state=next(seeds))
        GridSearchCV(make_pipeline(StandardScaler(), mixture), grid, n_jobs=n_jobs).fit(X)

    took = timed(fit, warm=True).median
    if n_jobs > 1:
        # Its processes would keep the pipe of this one open for minutes.
        get_reusable_executor().shutdown()
    return {"seconds": took}


def choice(request):
    """The best BIC: one search here, a loop over fits there."""
    X, mixture = request.problem().X, request.peer.module.GaussianMixture
    sizes, types, starts = SWEEPS.get(request.case, SWEEP)

    def loop():
        request.peer.forget()
        fits = (
            mixture(k, covariance_type=name, n_init=starts, random_state=0).fit(X)
            for name, k in product(types, sizes)
        )
        return min(fit.bic(X) for fit in fits)

    by_loop = timed(loop, warm=request.library == OURS)
    if request.library != OURS:
        return {"seconds": by_loop.median, "bic": by_loop.result}
    from sklearn_torch_gmm import GaussianMixtureIC

    options = {"covariance_type": list(types), "n_init": starts, "random_state": 0}
    chooser = GaussianMixtureIC(sizes[0], sizes[-1], **options)

    def choose():
        request.peer.forget()
        chooser.fit(X)

    took = timed(choose, warm=True).median
    best, fits = float(np.nanmin(chooser.results_["bic"])), len(sizes) * len(types)
    return {"seconds": took, "single_fits": fits * took / by_loop.median, "bic": best}


def given_sweep(request):
    """Fits from the parameters of agglomerative clusters, as graspologic's AutoGMMCluster does."""
    X, peer, estimators = request.problem().X, request.peer, []
    for k in range(1, 11):
        labels = AgglomerativeClustering(k).fit_predict(X) if k > 1 else np.zeros(len(X), int)
        start = assigned_start(X, labels, request.covariance)
        estimators.append(peer.unfitted(start, **peer.options(start)))
    took = timed(lambda: [estimator.fit(X) for estimator in estimators], warm=True)
    return {"seconds": took.median}


def few_rows(request, *, size, busy=False):
    """Predictions and scores of a few samples: the median, or when busy the slowest of 100."""
    problem = request.problem()
    mixture = request.peer.unfitted(problem.start).fit(problem.X)
    rows = np.resize(problem.X, (size, problem.X.shape[1]))

    def call():
        for name in ("predict", "predict_proba", "score_samples", "score"):
            getattr(mixture, name)(rows)

    if not busy:
        return {"seconds": timed(call, warm=True).median}
    with ExitStack() as neighbours:
        # Processes that keep every core busy.
        for _ in range(joblib.cpu_count()):
            command = [sys.executable, "-c", "while True: pass"]
            process = neighbours.enter_context(subprocess.Popen(command))
            neighbours.callback(process.kill)
        timing = timed(call, warm=True, budget=5.0, most=2_000)
    return {"seconds": float(np.quantile(timing.times, 0.99)), "median": timing.median}


def bayesian(request):
    """An iteration of variational Bayes."""
    problem, kind = request.problem(), request.peer.module.BayesianGaussianMixture
    options = {"covariance_type": request.covariance, "init_params": "random_from_data"}
    options |= {"n_components": problem.case.components, "tol": 0.0, "random_state": 0}
    few, many = 2, 12
    short, long = (
        timed(kind(**options, max_iter=number).fit, problem.X, warm=True).median
        for number in (few, many)
    )
    return {"seconds": (long - short) / (many - few)}


def column(request):
    """A Bayesian mixture of one column of a table, as generators of synthetic tables fit it."""
    rng = np.random.default_rng(0)
    rows = CASES[request.case].rows
    noise = rng.normal(size=(rows, 1))
    values = np.where(rng.random((rows, 1)) < 0.3, 0.5 * noise + 5, noise)
    options = {"weight_concentration_prior": 0.001, "random_state": 0}
    one = request.peer.module.BayesianGaussianMixture(n_components=10, **options)
    return {"seconds": once(one.fit, values)}


def two_processes(request):
    """An iteration by two processes of one thread each, and by one."""
    if request.library != OURS:
        raise NotOffered("one process")
    import torch

    from sklearn_torch_gmm import GaussianMixture

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    problem = request.problem()
    few, many = problem.case.iterations

    def seconds_of(iterations, processes):
        params = {"accelerator": "cpu", "devices": processes, "max_epochs": iterations}
        params |= {"strategy": "ddp_fork"} if processes > 1 else {}
        options = {"covariance_type": request.covariance, "init_means": problem.start.means}
        options |= {"convergence_tolerance": 0.0, "trainer_params": params}
        return once(GaussianMixture(problem.case.components, **options).fit, problem.X)

    one, two = ((seconds_of(many, n) - seconds_of(few, n)) / (many - few) for n in (1, 2))
    return {"seconds": two, "single": one, "single_fits": two / one}

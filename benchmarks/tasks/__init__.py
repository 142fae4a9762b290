"""What is measured: the title of each task, its libraries, and the function that takes it.

A function is given a request and returns numbers, by one of which the libraries are compared.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.forms import ALL, BOTH
from benchmarks.peers import BASELINE
from benchmarks.request import Numbers, Request
from benchmarks.tasks import jobs, libraries, processes


@dataclass(frozen=True)
class Task:
    title: str
    measure: Callable[[Request], Numbers]
    compared: str = "seconds"
    libraries: tuple[str, ...] = ALL


OF_LIBRARIES = {
    "fit": Task("An EM iteration", libraries.fit, "per_iteration"),
    "fit-default": Task("A whole fit with the default initialization", libraries.fit_default),
    "predict": Task("predict", libraries.inference),
    "predict_proba": Task("predict_proba", libraries.inference),
    "score_samples": Task("score_samples", libraries.inference),
    "sample": Task("sample, as many samples as the case has", libraries.inference),
    "restarts": Task(
        "Ten initializations, a fixed number of iterations each",
        partial(libraries.restarts, default=False),
    ),
    "restarts-default": Task(
        "Ten default initializations, each until it converges",
        partial(libraries.restarts, default=True),
    ),
    "memory-fit": Task("Extra memory of a fit", partial(libraries.memory_of_fit, times=1), "bytes"),
    "memory-fit-4n": Task(
        "Extra memory of a fit to four times as many samples",
        partial(libraries.memory_of_fit, times=4),
        "bytes",
    ),
    "memory-predict_proba": Task(
        "Extra memory of predict_proba, beyond its result",
        libraries.memory_of_predict_proba,
        "bytes",
    ),
    "import": Task(
        "Import",
        processes.import_library,
        libraries=(BASELINE, *(name for name in ALL if name != "scikit-learn, torch")),
    ),
    "first-prediction": Task(
        "First prediction of a pickled pipeline, in a fresh process", processes.first_prediction
    ),
    "product": Task(
        "A large matrix product", libraries.product, "flops_per_second", ("numpy", "torch")
    ),
}

_JOBS = {
    "first-fit": ("First fit of a process, imports included", processes.first_fit),
    "search": (
        "GridSearchCV over a pipeline: K = 1..6, four covariance types, five folds",
        partial(jobs.search, n_jobs=1),
    ),
    "search-2-jobs": ("The same with n_jobs=2", partial(jobs.search, n_jobs=2)),
    "choice": ("Best BIC: GaussianMixtureIC, and a loop over fits", jobs.choice),
    "given-sweep": ("Ten fits, K = 1..10, from given parameters", jobs.given_sweep),
    "1-row": ("Predictions and scores of one sample", partial(jobs.few_rows, size=1)),
    "100-rows": ("Predictions and scores of 100 samples", partial(jobs.few_rows, size=100)),
    "1000-rows": ("Predictions and scores of 1,000 samples", partial(jobs.few_rows, size=1_000)),
    "100-rows-busy": (
        "The same of 100 samples on a busy machine: the slowest call in a hundred",
        partial(jobs.few_rows, size=100, busy=True),
    ),
    "bayesian": ("An iteration of variational Bayes", jobs.bayesian),
    "column": ("A Bayesian mixture of one column", jobs.column),
    "two-processes": ("An iteration in two processes of one thread each", jobs.two_processes),
}

TASKS = OF_LIBRARIES | {
    name: Task(title, measure, libraries=BOTH) for name, (title, measure) in _JOBS.items()
}

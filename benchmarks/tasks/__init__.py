"""What is measured: a function is given a request and returns numbers by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.forms import ALL, BOTH
from benchmarks.peers import BASELINE
from benchmarks.tasks import jobs, libraries, processes


@dataclass(frozen=True)
class Task:
    """A title, the function, the number by which libraries are compared, and these libraries."""

    title: str
    measure: Callable
    compared: str = "seconds"
    libraries: tuple[str, ...] = ALL


def _job(title, measure, **options):
    return Task(title, partial(measure, **options), libraries=BOTH)


_FIXED = "Ten initializations, a fixed number of iterations each"
_CONVERGED = "Ten default initializations, each until it converges"
_SEARCH = "GridSearchCV over a pipeline: K = 1..6, four covariance types, five folds"
_BUSY = "Predictions and scores of 100 samples, busy machine: slowest call in 100"
_LARGER = "Extra memory of a fit to four times as many samples"
_BEYOND = "Extra memory of predict_proba, beyond its result"
_PRODUCT = "A large matrix product"
_UNPICKLED = "First prediction of a pickled pipeline, in a fresh process"
_IMPORTED = (BASELINE, *(name for name in ALL if name != "scikit-learn, torch"))

TASKS = {
    "fit": Task("An EM iteration", libraries.fit, "per_iteration"),
    "fit-default": Task("A whole fit with the default initialization", libraries.fit_default),
    "predict": Task("predict", libraries.inference),
    "predict_proba": Task("predict_proba", libraries.inference),
    "score_samples": Task("score_samples", libraries.inference),
    "sample": Task("sample, as many samples as the case has", libraries.inference),
    "restarts": Task(_FIXED, partial(libraries.restarts, default=False)),
    "restarts-default": Task(_CONVERGED, partial(libraries.restarts, default=True)),
    "memory-fit": Task("Extra memory of a fit", libraries.memory_of_fit, "bytes"),
    "memory-fit-4n": Task(_LARGER, partial(libraries.memory_of_fit, times=4), "bytes"),
    "memory-predict_proba": Task(_BEYOND, libraries.memory_of_predict_proba, "bytes"),
    "import": Task("Import", processes.import_library, libraries=_IMPORTED),
    "first-prediction": Task(_UNPICKLED, processes.first_prediction),
    "product": Task(_PRODUCT, libraries.product, "flops_per_second", ("numpy", "torch")),
    "first-fit": _job("First fit of a process, imports included", processes.first_fit),
    "search": _job(_SEARCH, jobs.search, n_jobs=1),
    "search-2-jobs": _job(f"{_SEARCH}; n_jobs=2", jobs.search, n_jobs=2),
    "choice": _job("Best BIC: GaussianMixtureIC, and a loop over fits", jobs.choice),
    "given-sweep": _job("Ten fits, K = 1..10, from given parameters", jobs.given_sweep),
    "1-row": _job("Predictions and scores of one sample", jobs.few_rows, size=1),
    "100-rows": _job("Predictions and scores of 100 samples", jobs.few_rows, size=100),
    "1000-rows": _job("Predictions and scores of 1,000 samples", jobs.few_rows, size=1_000),
    "100-rows-busy": _job(_BUSY, jobs.few_rows, size=100, busy=True),
    "bayesian": _job("An iteration of variational Bayes", jobs.bayesian),
    "column": _job("A Bayesian mixture of one column", jobs.column),
    "two-processes": _job("An iteration in two processes of one thread each", jobs.two_processes),
}

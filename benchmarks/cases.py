"""What is measured on what: sizes, tasks, and the two forms of a run.

Nothing but the standard library is imported here: the worker that times an import reads this too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

COVARIANCES = ("full", "tied", "diag", "spherical")
DTYPES = ("float64", "float32")
JOBS = {
    "first-fit": "First fit of a process, imports included",
    "search": "GridSearchCV over a pipeline: K = 1..6, four covariance types, five folds",
    "search-2-jobs": "The same with n_jobs=2",
    "choice": "Best BIC: GaussianMixtureIC, and a loop over fits",
    "given-sweep": "Ten fits, K = 1..10, from given parameters",
    "1-row": "Predictions and scores of one sample",
    "100-rows": "Predictions and scores of 100 samples",
    "1000-rows": "Predictions and scores of 1,000 samples",
    "100-rows-busy": "The same of 100 samples on a busy machine: the slowest call in a hundred",
    "bayesian": "An iteration of variational Bayes",
    "column": "A Bayesian mixture of one column",
    "two-processes": "An iteration in two processes of one thread each",
}
"""Tasks that scikit-learn's classes can do as well, and their titles."""

TASKS = (
    "fit",
    "fit-default",
    "predict",
    "predict_proba",
    "score_samples",
    "sample",
    "restarts",
    "restarts-default",
    "memory-fit",
    "memory-fit-4n",
    "memory-predict_proba",
    "import",
    "first-prediction",
    "product",
    *JOBS,
)


@dataclass(frozen=True)
class Case:
    """N samples of D features, K components, and the kind of data.

    Attributes
    ----------
    iterations : (int, int)
        The time of an iteration is the difference between fits of so many, divided by their number:
        what a fit costs once, whatever the number of iterations, is left out of it and told apart.
    condition : float
        Ratio of the largest to the smallest eigenvalue of a component's covariance.
    """

    name: str
    rows: int
    features: int
    components: int
    iterations: tuple[int, int]
    condition: float = 10.0
    is_real: bool = False

    @property
    def title(self) -> str:
        if self.is_real:
            return self.name.replace("-", " ")
        size = f"[{_short(self.rows)}, {self.features}] → {self.components}"
        return size if self.condition <= 10 else f"{size}, condition {self.condition:.0e}"

    def flops(self, covariance: str) -> float:
        """Arithmetic of the two matrix products that an EM iteration consists of."""
        features = self.features
        second = {
            "full": features * (features + 1) // 2,
            "tied": 0,
            "diag": features,
            "spherical": 1,
        }[covariance]
        return 4.0 * self.rows * self.components * (1 + features + second)


CASES = {
    case.name: case
    for case in (
        Case("tiny", 300, 2, 2, (1, 3)),
        Case("iris", 150, 4, 3, (1, 11), is_real=True),
        Case("wine", 178, 13, 3, (1, 11), is_real=True),
        Case("breast-cancer", 569, 30, 2, (1, 11), is_real=True),
        Case("digits-20", 1_797, 20, 10, (1, 11), is_real=True),
        Case("100-2-4", 100, 2, 4, (1, 11)),
        Case("500-10-4", 500, 10, 4, (1, 11)),
        Case("30k-8-8", 30_000, 8, 8, (1, 11)),
        Case("100k-8-4", 100_000, 8, 4, (1, 11)),
        Case("20k-10-30", 20_000, 10, 30, (1, 11)),
        Case("10k-8-4", 10_000, 8, 4, (5, 55)),
        Case("100k-32-16", 100_000, 32, 16, (1, 6)),
        Case("100k-32-16-ill", 100_000, 32, 16, (1, 6), condition=1e5),
        Case("1m-64-64", 1_000_000, 64, 64, (1, 7)),
        Case("2k-256-8", 2_000, 256, 8, (1, 11)),
        Case("1m-2-10", 1_000_000, 2, 10, (1, 6)),
        Case("100k-16-200", 100_000, 16, 200, (1, 4)),
        Case("60k-32-16", 60_000, 32, 16, (1, 11)),
    )
}


@dataclass(frozen=True)
class Measurement:
    """One row of a table: the libraries take turns at it."""

    task: str
    case: str
    covariance: str
    dtype: str = "float64"


def whole_form() -> Iterator[tuple[Measurement, tuple[str, ...] | None]]:
    """Every measurement, with the libraries that take part in it (None: all)."""
    both = ("sklearn_torch_gmm", "scikit-learn")
    yield Measurement("product", "tiny", "full"), None
    yield Measurement("product", "tiny", "full", "float32"), None
    for dtype in DTYPES:
        for name in ("10k-8-4", "100k-32-16", "100k-32-16-ill", "2k-256-8", "1m-2-10"):
            for covariance in COVARIANCES:
                yield Measurement("fit", name, covariance, dtype), None
        for covariance in ("full", "diag"):
            yield Measurement("fit", "100k-16-200", covariance, dtype), None
        yield Measurement("fit", "1m-64-64", "diag", dtype), None
    for covariance in ("tied", "spherical"):
        yield Measurement("fit", "100k-16-200", covariance), both
    for covariance in ("full", "tied", "spherical"):
        yield Measurement("fit", "1m-64-64", covariance), both
    for name in ("iris", "10k-8-4", "100k-32-16", "2k-256-8", "1m-2-10"):
        for covariance in COVARIANCES:
            yield Measurement("fit-default", name, covariance), both
    for covariance in ("full", "diag"):
        yield Measurement("fit-default", "100k-16-200", covariance), both
    yield Measurement("fit-default", "1m-64-64", "diag"), both
    for task in ("predict", "predict_proba", "score_samples"):
        for name in ("100k-32-16", "1m-2-10", "1m-64-64"):
            for covariance in COVARIANCES:
                yield Measurement(task, name, covariance), None if name == "100k-32-16" else both
    for task in ("predict", "sample"):
        for name in ("iris", "100k-32-16") if task == "predict" else ("100k-32-16", "1m-2-10"):
            if (task, name) != ("predict", "100k-32-16"):
                for covariance in COVARIANCES:
                    yield Measurement(task, name, covariance), both
    for task in ("restarts", "restarts-default"):
        for covariance in ("full", "diag"):
            yield Measurement(task, "60k-32-16", covariance), both
    for task in ("memory-fit", "memory-fit-4n", "memory-predict_proba"):
        for covariance in COVARIANCES:
            yield Measurement(task, "100k-32-16", covariance), both
    for measurement in jobs():
        yield measurement, both
    yield Measurement("import", "tiny", "full"), None
    yield Measurement("first-prediction", "iris", "full"), both


def jobs() -> Iterator[Measurement]:
    """Measurements of the jobs; "all" where one goes through the covariance types."""
    real = ("iris", "wine", "breast-cancer", "digits-20")
    yield Measurement("first-fit", "iris", "full")
    for task in ("search", "search-2-jobs"):
        for name in (*real, "10k-8-4", "100k-8-4"):
            yield Measurement(task, name, "all")
    for name in ("iris", "wine", "30k-8-8"):
        yield Measurement("choice", name, "all")
    for covariance in COVARIANCES:
        for name in ("wine", "100k-8-4"):
            yield Measurement("fit-default", name, covariance)
        for name in ("100-2-4", "500-10-4"):
            yield Measurement("given-sweep", name, covariance)
        for task in ("1-row", "100-rows", "1000-rows", "100-rows-busy"):
            yield Measurement(task, "iris", covariance)
        for name in ("100k-32-16", "20k-10-30"):
            yield Measurement("bayesian", name, covariance)
    for name in ("500-10-4", "100k-8-4"):
        yield Measurement("column", name, "full")
    for name in ("100k-32-16", "1m-2-10"):
        yield Measurement("two-processes", name, "full")


def short_form() -> Iterator[tuple[Measurement, tuple[str, ...] | None]]:
    """A first impression in about three minutes."""
    both = ("sklearn_torch_gmm", "scikit-learn")
    yield Measurement("product", "tiny", "full"), None
    for covariance in ("full", "diag"):
        yield Measurement("fit", "100k-32-16", covariance), both
        yield Measurement("fit-default", "iris", covariance), both
        yield Measurement("given-sweep", "500-10-4", covariance), both
    for name in ("first-fit", "1-row", "100-rows-busy"):
        yield Measurement(name, "iris", "full"), both
    for name in ("search", "search-2-jobs", "choice"):
        yield Measurement(name, "iris", "all"), both


def _short(number: int) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if number >= size and number % size == 0:
            return f"{number // size}{letter}"
    return str(number)

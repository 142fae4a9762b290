"""What is measured on what: sizes, tasks, and the two forms of a run.

Nothing but the standard library is imported here: the worker that times an import reads this too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

COVARIANCES = ("full", "tied", "diag", "spherical")
DTYPES = ("float64", "float32")
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
)


@dataclass(frozen=True)
class Case:
    """N rows of D features, K components; what the rows look like.

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

    @property
    def title(self) -> str:
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
        Case("iris", 150, 4, 3, (1, 11)),
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
    yield Measurement("import", "tiny", "full"), None
    yield Measurement("first-prediction", "iris", "full"), both


def short_form() -> Iterator[tuple[Measurement, tuple[str, ...] | None]]:
    """A first impression in less than three minutes."""
    both = ("sklearn_torch_gmm", "scikit-learn")
    yield Measurement("product", "tiny", "full"), None
    for covariance in ("full", "diag"):
        yield Measurement("fit", "100k-32-16", covariance), (*both, "daal4py")
    for covariance in ("tied", "spherical"):
        yield Measurement("fit", "100k-32-16", covariance), both


def _short(number: int) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if number >= size and number % size == 0:
            return f"{number // size}{letter}"
    return str(number)

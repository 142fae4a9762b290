"""The two forms of a run, as lists of measurements."""

from dataclasses import dataclass
from itertools import product

from benchmarks.cases import COVARIANCES, DTYPES
from benchmarks.peers import OURS, PEERS

ALL = tuple(PEERS)
BOTH = (OURS, "scikit-learn")
REAL = ("iris", "wine", "breast-cancer", "digits-20")
SYNTHETIC = ("10k-8-4", "100k-32-16", "100k-32-16-ill", "2k-256-8", "1m-2-10")
FULL, TIED, DIAG, SPHERICAL = ((covariance,) for covariance in COVARIANCES)
EACH = ("all",)
"""For tasks that go through the covariance types."""


@dataclass(frozen=True)
class Measurement:
    """One row of a table: the libraries take turns at it."""

    task: str
    case: str
    covariance: str
    dtype: str = "float64"


@dataclass(frozen=True)
class Block:
    """Every combination of tasks, cases and covariance types, for some of the libraries."""

    tasks: tuple[str, ...]
    cases: tuple[str, ...]
    covariances: tuple[str, ...] = COVARIANCES
    dtypes: tuple[str, ...] = ("float64",)
    libraries: tuple[str, ...] = BOTH

    def __iter__(self):
        for dtype, *names in product(self.dtypes, self.tasks, self.cases, self.covariances):
            yield Measurement(*names, dtype)


INFERENCE = ("predict", "predict_proba", "score_samples")

WHOLE = (
    Block(("product",), ("tiny",), FULL, DTYPES, ALL),
    Block(("fit",), SYNTHETIC, COVARIANCES, DTYPES, ALL),
    Block(("fit",), ("100k-16-200",), FULL + DIAG, DTYPES, ALL),
    Block(("fit",), ("1m-64-64",), DIAG, DTYPES, ALL),
    Block(("fit",), ("100k-16-200",), TIED + SPHERICAL),
    Block(("fit",), ("1m-64-64",), FULL + TIED + SPHERICAL),
    Block(("fit-default",), ("iris", "10k-8-4", "100k-32-16", "2k-256-8", "1m-2-10")),
    Block(("fit-default",), ("wine", "100k-8-4")),
    Block(("fit-default",), ("100k-16-200",), FULL + DIAG),
    Block(("fit-default",), ("1m-64-64",), DIAG),
    Block(INFERENCE, ("100k-32-16",), libraries=ALL),
    Block(INFERENCE, ("1m-2-10", "1m-64-64")),
    Block(("predict",), ("iris",)),
    Block(("sample",), ("100k-32-16", "1m-2-10")),
    Block(("restarts", "restarts-default"), ("60k-32-16",), FULL + DIAG),
    Block(("memory-fit", "memory-fit-4n", "memory-predict_proba"), ("100k-32-16",)),
    Block(("first-fit",), ("iris",), FULL),
    Block(("search", "search-2-jobs"), (*REAL, "10k-8-4", "100k-8-4"), EACH),
    Block(("choice",), ("iris", "wine", "30k-8-8"), EACH),
    Block(("given-sweep",), ("100-2-4", "500-10-4")),
    Block(("1-row", "100-rows", "1000-rows", "100-rows-busy"), ("iris",)),
    Block(("bayesian",), ("100k-32-16", "20k-10-30")),
    Block(("column",), ("500-10-4", "100k-8-4"), FULL),
    Block(("two-processes",), ("100k-32-16", "1m-2-10"), FULL),
    Block(("import",), ("tiny",), FULL, libraries=ALL),
    Block(("first-prediction",), ("iris",), FULL),
)

SHORT = (
    Block(("product",), ("tiny",), FULL, libraries=ALL),
    Block(("fit",), ("100k-32-16",), FULL + DIAG),
    Block(("fit-default",), ("iris",), FULL + DIAG),
    Block(("given-sweep",), ("500-10-4",), FULL + DIAG),
    Block(("first-fit", "1-row", "100-rows-busy"), ("iris",), FULL),
    Block(("search", "search-2-jobs", "choice"), ("iris",), EACH),
)
"""A first impression in about three minutes."""

"""The inputs by name: how each is made, what is asked of it, and what a good answer is.

Groups of samples are so far apart that no sample belongs to two of them: the mixture that EM has to
find is the moments of each group, which need no library. Where samples form no groups, `is_grouped`
is false, and what any M-step leaves is checked: the mean and the variance of the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

ALL = ("full", "tied", "diag", "spherical")
TWO = ("full", "diag")


@dataclass(frozen=True)
class Data:
    """The samples as they are passed, and the group of each, if there are groups.

    `means` initialize the libraries that take them as means; the others initialize by themselves.
    """

    X: Any
    groups: np.ndarray | None = None
    means: np.ndarray | None = None


@dataclass(frozen=True)
class DifficultInput:
    title: str
    make: Callable[[np.random.Generator], Data]
    components: int = 2
    covariances: tuple[str, ...] = TWO
    dtype: str = "float64"
    regularization: float | None = None
    batch_size: int | None = None
    needs_means: bool = False
    is_raw: bool = False
    """Whether it is handed over as it is, not as the array that the library asks for."""
    place: str = "data"
    """What a clear error points at: a component or a row of the data, or the argument."""

    def data(self) -> Data:
        with np.errstate(over="ignore"):
            return self.make(np.random.default_rng(0))


def _grouped(X: np.ndarray, groups: np.ndarray, dtype: str = "float64") -> Data:
    """Samples with initial means a tenth of a standard deviation away from those of the groups."""
    X = X.astype(dtype)
    wide = X.astype(np.longdouble)
    members = [wide[groups == group] for group in range(groups.max() + 1)]
    means = np.stack([rows.mean(0) + 0.1 * rows.std(0) for rows in members])
    return Data(X, groups, means.astype(dtype))


def _two(
    rng: np.random.Generator, rows: int = 300, features: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Samples of two groups of unit variance, twelve standard deviations apart in each feature."""
    groups = (np.arange(rows) >= rows // 3).astype(int)
    return rng.normal(size=(rows, features)) + 12.0 * groups[:, np.newaxis], groups


def ordinary(rng: np.random.Generator) -> Data:
    return _grouped(*_two(rng))


def shifted(offset: float, dtype: str) -> Callable[[np.random.Generator], Data]:
    def make(rng: np.random.Generator) -> Data:
        X, groups = _two(rng)
        return _grouped(X + offset, groups, dtype)

    return make


def scaled(scale: float) -> Callable[[np.random.Generator], Data]:
    def make(rng: np.random.Generator) -> Data:
        X, groups = _two(rng)
        return _grouped(scale * X, groups)

    return make


def spreads(rng: np.random.Generator) -> Data:
    X, groups = _two(rng)
    return _grouped(np.where(groups[:, np.newaxis] == 0, X, 1e6 * X), groups)


def ill_conditioned(rng: np.random.Generator) -> Data:
    """Variances from 1 to 1e-10 along axes that are not those of the features."""
    groups = (np.arange(300) >= 100).astype(int)
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    X = rng.normal(size=(300, 3)) * np.sqrt([1.0, 1e-5, 1e-10]) @ axes
    return _grouped(X + 12.0 * groups[:, np.newaxis], groups)


def few_distinct(rng: np.random.Generator) -> Data:
    return Data(np.repeat([[0.0, 1.0], [3.0, 5.0]], 10, axis=0))


def all_equal(rng: np.random.Generator) -> Data:
    return Data(np.full((30, 2), 3.7))


def duplicated(rng: np.random.Generator) -> Data:
    X, groups = _two(rng)
    return _grouped(np.repeat(X, 5, axis=0), np.repeat(groups, 5))


def constant_column(rng: np.random.Generator) -> Data:
    X, groups = _two(rng)
    return _grouped(np.column_stack([X, np.full(len(X), 7.0)]), groups)


def collinear(rng: np.random.Generator) -> Data:
    X, groups = _two(rng)
    return _grouped(np.column_stack([X, X @ [1.0, 2.0, 3.0]]), groups)


def as_many_components(rng: np.random.Generator) -> Data:
    return Data(rng.normal(size=(20, 2)))


def one_feature(rng: np.random.Generator) -> Data:
    return _grouped(*_two(rng, features=1))


def thousands(*, rectified: bool) -> Callable[[np.random.Generator], Data]:
    def make(rng: np.random.Generator) -> Data:
        groups = (np.arange(5_000) >= 2_500).astype(int)
        X = rng.normal(size=(5_000, 2_000))
        X[:, :50] += 12.0 * groups[:, np.newaxis]
        if rectified:
            # Units that never fire.
            X[:, 100:200] -= 12.0
            X = np.maximum(X, 0.0)
        return _grouped(X, groups, "float32")

    return make


def crowd(rng: np.random.Generator) -> Data:
    X = rng.normal(size=(600, 3)).astype(np.float32)
    return Data(X, means=X[:200].copy())


def far_start(rng: np.random.Generator) -> Data:
    X = rng.normal(size=(300, 3))
    return Data(X, means=np.array([[0.0] * 3, [1e8] * 3]))


def with_value(value: float) -> Callable[[np.random.Generator], Data]:
    def make(rng: np.random.Generator) -> Data:
        X, groups = _two(rng)
        data = _grouped(X, groups)
        data.X[17, 1] = value
        return Data(data.X, means=data.means)

    return make


def as_list(rng: np.random.Generator) -> Data:
    X, groups = _two(rng)
    return Data(X.tolist(), groups)


def as_it_is(rng: np.random.Generator) -> Data:
    return Data(*_two(rng))


_ARGUMENT = {"is_raw": True, "covariances": ("full",), "place": "argument"}

INPUTS = {
    "ordinary": DifficultInput("for comparison: ordinary data", ordinary, covariances=ALL),
    "offset-1e4": DifficultInput(
        "unit variance at offset 1e4, float32",
        shifted(1e4, "float32"),
        dtype="float32",
        covariances=ALL,
    ),
    "offset-1e8": DifficultInput(
        "unit variance at offset 1e8", shifted(1e8, "float64"), covariances=ALL
    ),
    "scale-1e-12": DifficultInput(
        "scale 1e-12, regularization 1e-30", scaled(1e-12), regularization=1e-30
    ),
    "scale-1e12": DifficultInput("scale 1e12", scaled(1e12)),
    "spreads-1e6": DifficultInput("standard deviations that differ by 1e6", spreads),
    "spreads-means": DifficultInput(
        "standard deviations that differ by 1e6, given means", spreads, needs_means=True
    ),
    "condition-1e10": DifficultInput(
        "condition number 1e10, no regularization",
        ill_conditioned,
        covariances=("full", "tied"),
        regularization=0.0,
    ),
    "few-distinct": DifficultInput(
        "five components, two distinct samples", few_distinct, components=5
    ),
    "all-equal": DifficultInput("three components, all samples equal", all_equal, components=3),
    "duplicated": DifficultInput("each sample five times", duplicated),
    "constant": DifficultInput("a constant column", constant_column),
    "constant-0": DifficultInput(
        "a constant column, no regularization", constant_column, regularization=0.0
    ),
    "collinear": DifficultInput("collinear columns", collinear, covariances=("full", "tied")),
    "k-n": DifficultInput("as many components as samples", as_many_components, components=20),
    "one-feature": DifficultInput("one feature", one_feature, covariances=ALL),
    "2000-features": DifficultInput(
        "2,000 features, 5,000 samples, float32", thousands(rectified=False), dtype="float32"
    ),
    "2000-relu": DifficultInput(
        "the same after ReLU, 100 features always zero", thousands(rectified=True), dtype="float32"
    ),
    "crowd": DifficultInput(
        "200 components, batches of 16 samples, float32",
        crowd,
        components=200,
        dtype="float32",
        batch_size=16,
    ),
    "absent": DifficultInput(
        "a component absent from the first batch, float32",
        shifted(0.0, "float32"),
        covariances=ALL,
        dtype="float32",
        batch_size=20,
    ),
    "far-start": DifficultInput("an initial mean at 1e8, data at 0", far_start, needs_means=True),
    "1e300": DifficultInput("values of 1e300", scaled(1e300)),
    "nan": DifficultInput("a NaN", with_value(np.nan), covariances=("full",)),
    "infinity": DifficultInput("an infinity", with_value(np.inf), covariances=("full",)),
    "numpy": DifficultInput("a float64 NumPy array as it is", as_it_is, **_ARGUMENT),
    "list": DifficultInput("a list of lists", as_list, **_ARGUMENT),
    "empty": DifficultInput(
        "an empty array",
        lambda rng: Data(np.empty((0, 3))),
        covariances=("full",),
        place="argument",
    ),
    "few-rows": DifficultInput(
        "three samples, five components",
        lambda rng: Data(rng.normal(size=(3, 2))),
        components=5,
        covariances=("full",),
        place="argument",
    ),
    "wrong-type": DifficultInput(
        'covariance type "diagonal"',
        ordinary,
        covariances=("diagonal",),
        place="argument",
    ),
}

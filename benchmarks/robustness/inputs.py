"""The inputs by name: how each is made, what is asked of it, and what a good answer is.

Groups of samples are so far apart that no sample belongs to two of them: the mixture that EM has to
find is the moments of each group, which need no library. Where samples form no groups, what any
M-step leaves is checked: the mean and the variance of the whole.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.cases import COVARIANCES as ALL


@dataclass(frozen=True)
class Data:
    """The samples as they are passed, and the group of each, if there are groups.

    `means` initialize the libraries that take them as means; the others initialize by themselves.
    """

    X: Any
    groups: np.ndarray | None = None
    means: np.ndarray | None = None


@dataclass(frozen=True)
class Input:
    title: str
    make: Callable[[np.random.Generator], Data]
    components: int = 2
    covariances: tuple[str, ...] = ("full", "diag")
    dtype: str = "float64"
    regularization: float | None = None
    batch_size: int | None = None
    needs_means: bool = False
    is_raw: bool = False
    """Whether it is handed over as it is, not as the array that the library asks for."""
    place: str = "data"
    """What a clear error points at: a component or a row of the data, or the argument."""

    def data(self):
        with np.errstate(over="ignore"):
            data = self.make(np.random.default_rng(0))
        if self.is_raw:
            return data
        X = data.X.astype(self.dtype)
        means = data.means if data.groups is None else _means_near(X, data.groups)
        return replace(data, X=X, means=None if means is None else means.astype(self.dtype))


def _means_near(X, groups):
    """Initial means, a tenth of a standard deviation away from the means of the groups."""
    X = X.astype(np.longdouble)
    members = [X[groups == group] for group in range(groups.max() + 1)]
    return np.stack([rows.mean(0) + 0.1 * rows.std(0) for rows in members])


def two_groups(rng, features=3):
    """Samples of unit variance, twelve standard deviations apart in each feature."""
    groups = (np.arange(300) >= 100).astype(int)
    return Data(rng.normal(size=(300, features)) + 12.0 * groups[:, np.newaxis], groups)


def changed(change):
    """Two groups, after a change of their features."""

    def make(rng):
        data = two_groups(rng)
        return replace(data, X=change(data.X))

    return make


spreads = changed(lambda X: np.vstack([X[:100], 1e6 * X[100:]]))
constant_column = changed(lambda X: np.column_stack([X, np.full(len(X), 7.0)]))
collinear = changed(lambda X: np.column_stack([X, X @ [1.0, 2.0, 3.0]]))


def ill_conditioned(rng):
    """Variances from 1 to 1e-10 along axes that are not the features."""
    groups = (np.arange(300) >= 100).astype(int)
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    X = rng.normal(size=(300, 3)) * np.sqrt([1.0, 1e-5, 1e-10]) @ axes
    return Data(X + 12.0 * groups[:, np.newaxis], groups)


def duplicated(rng):
    data = two_groups(rng)
    return Data(np.repeat(data.X, 5, axis=0), np.repeat(data.groups, 5))


def thousands(rng):
    groups = (np.arange(5_000) >= 2_500).astype(int)
    X = rng.normal(size=(5_000, 2_000))
    X[:, :50] += 12.0 * groups[:, np.newaxis]
    return Data(X, groups)


def rectified(rng):
    data = thousands(rng)
    # Units that never fire.
    data.X[:, 100:200] -= 12.0
    return replace(data, X=np.maximum(data.X, 0.0))


def normal(*shape):
    return lambda rng: Data(rng.normal(size=shape))


def crowd(rng):
    X = rng.normal(size=(600, 3))
    return Data(X, means=X[:200])


def far_start(rng):
    return Data(rng.normal(size=(300, 3)), means=np.array([[0.0] * 3, [1e8] * 3]))


def with_value(value):
    """Samples of which one has this value, and means from before it had."""

    def make(rng):
        X, groups, _ = vars(two_groups(rng)).values()
        means = _means_near(X, groups)
        X[17, 1] = value
        return Data(X, means=means)

    return make


_SINGLE = {"dtype": "float32", "covariances": ALL}
_ARGUMENT = {"covariances": ("full",), "place": "argument"}

INPUTS = {
    "ordinary": Input("for comparison: ordinary data", two_groups, covariances=ALL),
    "offset-1e4": Input(
        "unit variance at offset 1e4, float32", changed(lambda X: X + 1e4), **_SINGLE
    ),
    "offset-1e8": Input("unit variance at offset 1e8", changed(lambda X: X + 1e8), covariances=ALL),
    "scale-1e-12": Input(
        "scale 1e-12, regularization 1e-30", changed(lambda X: 1e-12 * X), regularization=1e-30
    ),
    "scale-1e12": Input("scale 1e12", changed(lambda X: 1e12 * X)),
    "spreads-1e6": Input("standard deviations that differ by 1e6", spreads),
    "spreads-means": Input(
        "standard deviations that differ by 1e6, given means", spreads, needs_means=True
    ),
    "condition-1e10": Input(
        "condition number 1e10, no regularization",
        ill_conditioned,
        covariances=("full", "tied"),
        regularization=0.0,
    ),
    "few-distinct": Input(
        "five components, two distinct samples",
        lambda rng: Data(np.repeat([[0.0, 1.0], [3.0, 5.0]], 10, axis=0)),
        5,
    ),
    "all-equal": Input(
        "three components, all samples equal", lambda rng: Data(np.full((30, 2), 3.7)), 3
    ),
    "duplicated": Input("each sample five times", duplicated),
    "constant": Input("a constant column", constant_column),
    "constant-0": Input(
        "a constant column, no regularization", constant_column, regularization=0.0
    ),
    "collinear": Input("collinear columns", collinear, covariances=("full", "tied")),
    "k-n": Input("as many components as samples", normal(20, 2), 20),
    "one-feature": Input("one feature", lambda rng: two_groups(rng, features=1), covariances=ALL),
    "2000-features": Input("2,000 features, 5,000 samples, float32", thousands, dtype="float32"),
    "2000-relu": Input("the same after ReLU, 100 features always zero", rectified, dtype="float32"),
    "crowd": Input(
        "200 components, batches of 16 samples, float32", crowd, 200, dtype="float32", batch_size=16
    ),
    "absent": Input(
        "a component absent from the first batch, float32", two_groups, batch_size=20, **_SINGLE
    ),
    "far-start": Input("an initial mean at 1e8, data at 0", far_start, needs_means=True),
    "1e300": Input("values of 1e300", changed(lambda X: 1e300 * X)),
    "nan": Input("a NaN", with_value(np.nan), covariances=("full",)),
    "infinity": Input("an infinity", with_value(np.inf), covariances=("full",)),
    "numpy": Input("a float64 NumPy array as it is", two_groups, is_raw=True, **_ARGUMENT),
    "list": Input("a list of lists", changed(np.ndarray.tolist), is_raw=True, **_ARGUMENT),
    "empty": Input("an empty array", normal(0, 3), **_ARGUMENT),
    "few-rows": Input("three samples, five components", normal(3, 2), 5, **_ARGUMENT),
    "wrong-type": Input(
        'covariance type "diagonal"', two_groups, covariances=("diagonal",), place="argument"
    ),
}

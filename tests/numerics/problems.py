"""Random problems for a mixture: sizes, types, batches, weights, offsets and scales."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.estimators import MIXTURE_CLASSES, TYPES, make

STARTS = ["kmeans", "random", "labels"]


@dataclass(frozen=True)
class Problem:
    """Rows and how to fit them; what is not told here is drawn from the seed."""

    cls: type
    covariance_type: str
    components: int
    features: int
    num_rows: int
    dtype: str
    layout: str
    log_scale: int
    """The scale is a power of two, and so exact."""
    log_offset: int | None
    """The offset in units of the scale, a power of two too; None: no offset."""
    log_regularization: int
    """Of the regularization in units of the scale squared."""
    start: str
    batch_size: int | None
    is_weighted: bool
    seed: int

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    @property
    def scale(self) -> float:
        return 2.0**self.log_scale

    @property
    def offset(self) -> float:
        return 0.0 if self.log_offset is None else self.scale * 2.0**self.log_offset

    @property
    def regularization(self) -> float:
        return self.scale**2 * 2.0**self.log_regularization

    @property
    def standard_rows(self) -> np.ndarray:
        """Without scale and offset, of about unit width, on a grid of 2^-12."""
        rng = self.rng
        shape = (self.num_rows, self.features)
        rows = rng.normal(size=shape)
        if self.layout == "clusters":
            rows += 4.0 * rng.integers(0, 3, size=(self.num_rows, 1))
        elif self.layout == "grid":
            rows = rng.integers(-2, 3, size=shape).astype(float)
        elif self.layout == "repeated":
            rows = rows[rng.integers(0, max(2, self.num_rows // 3), size=self.num_rows)]
        elif self.layout == "constant column":
            rows[:, 0] = 1.0
        elif self.layout == "outlier":
            rows[0] += 2.0**12
        return np.round(rows * 2.0**12) / 2.0**12

    @property
    def rows(self) -> np.ndarray:
        return self.moved(self.standard_rows).astype(self.dtype)

    def moved(self, rows: np.ndarray) -> np.ndarray:
        return self.scale * rows + self.offset

    @property
    def sample_weight(self) -> np.ndarray | None:
        if not self.is_weighted:
            return None
        weights = self.rng.integers(0, 4, size=self.num_rows)
        # As many rows as components keep a weight, and two at the least.
        weights[: max(2, self.components)] = 1
        return weights

    def mixture(self, **changes: Any) -> Any:
        params = {
            "covariance_type": self.covariance_type,
            "regularization": self.regularization,
            "batch_size": self.batch_size,
            "start": self.rng.integers(0, self.components, size=self.num_rows)
            if self.start == "labels"
            else self.start,
            "iterations": 5,
            "random_state": self.seed,
        }
        return make(self.cls, self.components, **{**params, **changes})


@st.composite
def problems(draw: st.DrawFn, layouts: tuple[str, ...] = (), **fixed: Any) -> Problem:
    """Problems; ``fixed`` strategies stand in for those of single fields."""
    components = draw(st.integers(1, 5))
    num_rows = draw(st.integers(max(2, components), 40))
    layouts = layouts or ("normal", "clusters", "grid", "repeated", "constant column", "outlier")
    fields = {
        "cls": st.sampled_from(MIXTURE_CLASSES),
        "covariance_type": st.sampled_from(TYPES),
        "features": st.integers(1, 4),
        "dtype": st.sampled_from(["float64", "float32"]),
        "layout": st.sampled_from(layouts),
        "log_scale": st.integers(-20, 20),
        "log_offset": st.none() | st.integers(0, 20),
        "log_regularization": st.integers(-30, 0),
        "start": st.sampled_from(STARTS),
        "batch_size": st.none() | st.integers(1, num_rows),
        "is_weighted": st.booleans(),
        "seed": st.integers(0, 2**16),
        **fixed,
    }
    values = {name: draw(strategy) for name, strategy in fields.items()}
    return Problem(components=components, num_rows=num_rows, **values)

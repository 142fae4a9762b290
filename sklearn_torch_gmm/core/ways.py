"""The choice of a way to compute each component of an E-step, from bounds on rounding errors.

A way computes the log-densities of some components, and the moments that their M-step needs:

- by *products* with T(x − c), which :mod:`~sklearn_torch_gmm.core.products` shares between them;
- *sifted*: the products identify the rows that matter, whose residuals are computed, in
  :mod:`~sklearn_torch_gmm.core.sifted`;
- *whitened*, as ‖Uᵀ(x − c) − Uᵀ(μ − c)‖², in :mod:`~sklearn_torch_gmm.core.whitened`, or, if U is
  shared, in :mod:`~sklearn_torch_gmm.core.shared_whitening`;
- from the *residuals* x − μ of all rows, in :mod:`~sklearn_torch_gmm.core.residuals`.

The products cost least, but lose precision if μ is many standard deviations from the centre c.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FEW_MATRICES = 4
"""Number of components with matrices from which on T(x) is written for them.

For fewer, their own whitened sums take less time. With twice the value, four to seven components
would take up to a third more time than with T(x).
"""

MANY_MATRICES = 8
"""Number of components with matrices of few features whose products are worth T(x).

Otherwise, they are whitened if others have to be. Of 16 components of 10 features, an iteration
with 6, 8 and 12 by products takes 1.1, 0.9 and 0.8 times as long as with all whitened. Of more than
16 features, it takes half as many components as features.
"""

SMALL_SHARE = 1e-3
"""Weight of a component with a matrix up to which its rows are sifted.

With more, most chunks contain some of its rows, and gathering them takes as long as whitening all.
"""


@dataclass(frozen=True)
class Ways:
    """The positions of the components, among the R K of all mixtures, by way.

    The moments of ``products`` are taken about the centre, those of all others about a point for
    each component.
    """

    products: Sequence[int]
    sifted: Sequence[int]
    whitened: Sequence[int]
    residuals: Sequence[int]

    @property
    def need_products(self) -> bool:
        """Whether T(x − c) is written."""
        return bool(self.products or self.sifted)

    @classmethod
    def all_whitened(cls, number: int) -> Ways:
        """Return the choice for components that share a covariance matrix."""
        return cls((), (), range(number), ())

    @classmethod
    def all_residuals(cls, number: int) -> Ways:
        """Return the choice that is exact for all data."""
        return cls((), (), (), range(number))


@dataclass(frozen=True)
class Allowed:
    """Whether the precision of each way is sufficient, by component."""

    products: Sequence[bool]
    sifting: Sequence[bool]
    whitening: Sequence[bool]

    def choose(self, weights: Sequence[float], num_features: int, *, has_matrices: bool) -> Ways:
        """Return the way of least cost for each component, given its weight.

        Only components that ``has_matrices`` are whitened: for others, products cost less, and
        residuals no more.
        """
        places = range(len(weights))
        products = {i for i in places if self.products[i]}
        linear = {i for i in places if has_matrices and self.whitening[i]}
        sifted = {i for i in places if self.sifting[i]} - products
        sifted = {i for i in sifted if i not in linear or weights[i] <= SMALL_SHARE}
        if has_matrices and len(products | sifted) < FEW_MATRICES:
            products = products - linear
            # Nor is T(x) written to sift them, unless it is for nothing else but residuals.
            sifted = sifted - linear if products or not linear else set()
        whitened = linear - products - sifted
        if whitened and not sifted and len(products) < max(MANY_MATRICES, num_features // 2):
            # Whitening the others, too, takes no more time than writing T(x).
            whitened, products = linear, products - linear
        residuals = set(places) - products - sifted - whitened
        return Ways(*map(sorted, (products, sifted, whitened, residuals)))


class Selection:
    """Some components, by their positions among all."""

    def __init__(self, places: Sequence[int], total: int, device: torch.device) -> None:
        self.places = places
        self.size = len(places)
        self.total = total
        self.is_all = self.size == total
        self.index = torch.tensor(list(places), dtype=torch.long, device=device)

    def of(self, values: Tensor, dim: int = 0) -> Tensor:
        """Return the values of the selected components, or ``values`` itself if all are."""
        return values if self.is_all else values.index_select(dim, self.index)

    def put(self, own: Tensor, values: Tensor, dim: int = 0) -> None:
        """Copy the selected components' ``own`` into their places among ``values``."""
        if own.data_ptr() != values.data_ptr():
            values.index_copy_(dim, self.index, own)

    def add(self, own: Tensor, values: Tensor) -> None:
        """Add the selected components' ``own [k, ...]`` to ``values [R K, ...]``."""
        if self.is_all:
            values.add_(own)
        else:
            values.index_add_(0, self.index, own)


@dataclass(frozen=True)
class Chunk:
    """Some rows, in T lanes."""

    rows: Tensor
    """The rows as they were read: ``[T, n, D]``."""
    features: Tensor
    """(1, x − c) ``[T, 1 + D, n]``, or (1, T(x − c)) ``[T, H, n]`` with H ≥ 1 + P."""


class Way(ABC):
    """Log-densities and moments of some components."""

    @property
    def scratch_per_row(self) -> int:
        """S, the number of values for each row that are kept until its moments are added."""
        return 0

    @abstractmethod
    def write_log_densities(self, chunk: Chunk, logits: Tensor, scratch: Tensor) -> None:
        """Write log π_k + log N(x | μ_k, Σ_k) to the components' places in ``[T, R K, n]``.

        The ``scratch [T, S, n]`` is this way's own until the moments are added.
        """

    @abstractmethod
    def add_moments(self, chunk: Chunk, responsibilities: Tensor) -> None:
        """Sum up the moments of the chunk, given the responsibilities ``[T, R K, n]``."""

    @abstractmethod
    def finish(self, sums: Tensor) -> None:
        """Add what was summed up since the last call to ``sums [R K, 1 + P]``."""

"""What a face asks of a fit, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sklearn_torch_gmm.core.covariance import CovarianceStructure, CovarianceType, get_structure
from sklearn_torch_gmm.core.fixed import PARTS, Part
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.rows.checks import FloatArray

StartFunction = Callable[[npt.NDArray[Any], int, np.random.RandomState], npt.ArrayLike]
"""``f(X, num_components, random_state)`` returns means ``[K, D]`` or labels ``[N]``."""


class Progress(Protocol):
    """Is told how a fit goes."""

    def start(self, index: int) -> None:
        """Start number ``index`` begins."""

    def iteration(self, number: int, change: float) -> None:
        """An iteration is done; ``change`` is that of the mean log-likelihood, in nats."""

    def end(self, lower_bound: float, converged: bool) -> None:
        """The start is done."""


def _make_ints(settings: object, *names: str) -> None:
    # NumPy's integers overflow, a uint8 beyond 255; Python's don't.
    for name in names:
        value = getattr(settings, name)
        if value is not None:
            object.__setattr__(settings, name, int(value))


@dataclass(frozen=True)
class StartSettings:
    """Where EM starts.

    Attributes
    ----------
    strategy : str, callable or array
        A name in :data:`~sklearn_torch_gmm.em.strategies.STRATEGIES`; a function
        ``f(X, num_components, random_state)`` that returns means ``[K, D]`` or labels ``[N]``;
        labels ``[N]``, or responsibilities ``[N, K]``.
    nearest_means : array [K, D] or None
        Taken as K-means centroids in place of a strategy.
    weights, means, precisions : array or None
        Replace what the strategy finds: ``[K]``, ``[K, D]`` and the shape of the covariances.
    previous : MixtureParameters or None
        Goes on from these instead of starting anew.
    previous_lower_bound : float
        Mean log-likelihood that the first iteration is compared with.
    """

    strategy: str | StartFunction | npt.NDArray[Any] = "kmeans"
    nearest_means: FloatArray | None = None
    weights: FloatArray | None = None
    means: FloatArray | None = None
    precisions: FloatArray | None = None
    previous: MixtureParameters | None = None
    previous_lower_bound: float = -np.inf

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to find in the data."""
        given = (self.weights, self.means, self.precisions)
        return self.previous is not None or all(value is not None for value in given)

    @property
    def given_parts(self) -> frozenset[Part]:
        """Parts that are not found in the data, where nothing goes on from an earlier fit."""
        means = self.means if self.nearest_means is None else self.nearest_means
        given = zip(PARTS, (self.weights, means, self.precisions), strict=True)
        return frozenset(part for part, value in given if value is not None)


@dataclass(frozen=True)
class Regularization:
    """What is added to covariances, and what becomes of components that have hardly any rows.

    Attributes
    ----------
    amount : float
        Added once to each variance.
    name : str
        What the class calls it, for messages.
    keep_empty : bool
        Whether a component without rows keeps its mean even where no regularization would give it
        a covariance.
    keep_rounding : bool
        Whether a component of a few equal rows has the variance that rounding gives it in
        scikit-learn, where features are independent.
    """

    amount: float = 1e-6
    name: str = "covariance_regularization"
    keep_empty: bool = True
    keep_rounding: bool = False


@dataclass(frozen=True)
class LoopSettings:
    """How long to iterate, and how the rows reach the loop.

    Attributes
    ----------
    max_iter : int or None
        Largest number of iterations; -1: no limit, None: the trainer's own.
    tolerance : float
        EM stops when the mean log-likelihood changes by less than this, in nats.
    batch_size : int or None
        Rows a batch; None: all rows are one batch.
    num_workers : int
        Workers of the loader for a ``Dataset``.
    trainer_params : mapping
        Keyword arguments of ``pytorch_lightning.Trainer``.
    """

    max_iter: int | None = 100
    tolerance: float = 1e-3
    batch_size: int | None = None
    num_workers: int = 0
    trainer_params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _make_ints(self, "max_iter", "batch_size", "num_workers")

    @property
    def min_iter(self) -> int:
        """Smallest number of iterations, by the trainer's epochs and steps."""
        return max(self.trainer_params.get(name) or 0 for name in ("min_epochs", "min_steps"))


@dataclass(frozen=True)
class FitSettings:
    """How to fit.

    Attributes
    ----------
    num_components : int
        K.
    covariance_type : str
    start : StartSettings
    random_state : RandomState
    num_init : int
        R, the number of starts; the best result is kept.
    regularization : Regularization
    loop : LoopSettings
    fixed : frozenset of str
        Parts that stay as they start.
    components_name : str
        What the class calls the number of components, for messages.
    progress : Progress or None
        Is told how the fit goes; the starts then run one after another.
    goes_on_without : bool
        Whether a start that fails is recorded, and the others go on.
    """

    num_components: int
    covariance_type: CovarianceType
    start: StartSettings
    random_state: np.random.RandomState
    num_init: int = 1
    regularization: Regularization = Regularization()
    loop: LoopSettings = LoopSettings()
    fixed: frozenset[Part] = frozenset()
    components_name: str = "n_components"
    progress: Progress | None = None
    goes_on_without: bool = False

    def __post_init__(self) -> None:
        _make_ints(self, "num_components", "num_init")

    @property
    def structure(self) -> CovarianceStructure:
        """The covariance structure."""
        return get_structure(self.covariance_type)

    @property
    def is_all_fixed(self) -> bool:
        """Whether an iteration can change nothing."""
        return len(self.fixed) == len(PARTS)

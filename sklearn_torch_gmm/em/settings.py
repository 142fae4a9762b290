"""The settings of a fit, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure, CovarianceType, get_structure
from sklearn_torch_gmm.core.fixed import PARTS, FixedParts, Part, is_all_fixed
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.em.estimation import Estimation, MaximumLikelihood, Regularization
from sklearn_torch_gmm.rows.checks import FloatArray
from sklearn_torch_gmm.rows.random_numbers import RandomNumbers

StartFunction = Callable[[npt.NDArray[Any], int, np.random.RandomState], npt.ArrayLike]
"""``f(X, num_components, random_state)`` returns means ``[K, D]`` or labels ``[N]``, −1 for unknown
ones."""

Acceleration = Literal["squarem"]
"""A scheme that extrapolates the steps of EM: see :mod:`~sklearn_torch_gmm.em.acceleration`."""


class Progress(Protocol):
    """Receives the progress of a fit."""

    def start(self, index: int) -> None:
        """Report that restart number ``index`` begins."""

    def iteration(self, number: int, change: float) -> None:
        """Report an iteration that changed the mean log-likelihood by ``change`` nats."""

    def end(self, lower_bound: float, converged: bool) -> None:
        """Report the end of the restart."""


def _make_ints(settings: object, *names: str) -> None:
    # NumPy's integers overflow, a uint8 beyond 255; Python's don't.
    for name in names:
        value = getattr(settings, name)
        if value is not None:
            object.__setattr__(settings, name, int(value))


@dataclass(frozen=True)
class StartSettings:
    """The initial parameters of EM."""

    strategy: str | StartFunction | npt.NDArray[Any] = "kmeans"
    """A name in :data:`~sklearn_torch_gmm.em.strategies.STRATEGIES`, a function, labels ``[N]``,
    −1 for unknown ones, or responsibilities ``[N, K]``."""
    nearest_means: FloatArray | None = None
    """K-means centroids ``[K, D]``, used in place of a strategy."""
    weights: FloatArray | None = None
    """Weights ``[K]`` that replace the result of the strategy, like the means and precisions."""
    means: FloatArray | None = None
    """``[K, D]``"""
    precisions: FloatArray | None = None
    """In the shape of the covariances."""
    always_samples: bool = False
    """Whether to initialize from a sample of many rows even if all are in host memory."""
    previous: MixtureParameters | None = None
    """Parameters to continue from, instead of an initialization."""
    previous_lower_bound: float = -np.inf
    """Mean log-likelihood with which the first iteration is compared."""

    @property
    def is_complete(self) -> bool:
        """Whether all initial parameters are given."""
        given = (self.weights, self.means, self.precisions)
        return self.previous is not None or all(value is not None for value in given)

    @property
    def given_parts(self) -> frozenset[Part]:
        """Parts given by the user, unless the fit continues an earlier one."""
        means = self.means if self.nearest_means is None else self.nearest_means
        given = zip(PARTS, (self.weights, means, self.precisions), strict=True)
        return frozenset(part for part, value in given if value is not None)


@dataclass(frozen=True)
class LoopSettings:
    """The number of iterations, and the way in which the data are read."""

    max_iter: int | None = 100
    """Maximum number of iterations; -1: no limit, None: the trainer's own limit."""
    tolerance: float = 1e-3
    """EM stops when the mean log-likelihood changes by less than this, in nats."""
    batch_size: int | None = None
    """Rows per batch; None: all rows are one batch."""
    num_workers: int = 0
    """Workers of the loader for a ``Dataset``."""
    trainer_params: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of ``pytorch_lightning.Trainer``."""
    acceleration: Acceleration | None = None
    """None: each pass starts from the parameters that the last one found."""
    missing: bool = False
    """Whether NaN marks a value that was not observed; otherwise all values are finite."""

    def __post_init__(self) -> None:
        _make_ints(self, "max_iter", "batch_size", "num_workers")

    @property
    def smallest_change(self) -> float:
        """The convergence threshold for a step, in nats.

        With extrapolation it is a tenth of the tolerance, since extrapolation removes most of the
        slow directions: a step is then small although the limit is not yet near.
        """
        return self.tolerance if self.acceleration is None else 0.1 * self.tolerance

    @property
    def min_iter(self) -> int:
        """Minimum number of iterations, from the trainer's minimum epochs and steps."""
        return max(self.trainer_params.get(name) or 0 for name in ("min_epochs", "min_steps"))


@dataclass(frozen=True)
class FitSettings:
    """The settings of one fit: K components of one covariance type."""

    num_components: int
    covariance_type: CovarianceType
    start: StartSettings
    random: RandomNumbers
    num_init: int = 1
    """Number R of restarts; the best result is kept."""
    regularization: Regularization = field(default_factory=Regularization)
    estimation: Estimation = field(default_factory=MaximumLikelihood)
    loop: LoopSettings = LoopSettings()
    classes: Tensor | None = None
    """Class ``[K]`` of each component, from 0 on, if rows have labels, which initialize it."""
    components_name: str = "n_components"
    """The name of the number of components in the estimator's class, for messages."""
    progress: Progress | None = None
    """Receives the progress of the fit; the restarts then run one after another."""
    records_failures: bool = False
    """Whether the failure of a restart is recorded while the others continue."""

    def __post_init__(self) -> None:
        _make_ints(self, "num_components", "num_init")

    @property
    def random_state(self) -> np.random.RandomState:
        """The random state that the initialization draws from."""
        return self.random.state

    @property
    def structure(self) -> CovarianceStructure:
        """The covariance structure."""
        return get_structure(self.covariance_type)

    @property
    def fixed(self) -> FixedParts:
        """Components whose parameters of a part keep their initial values."""
        return self.estimation.fixed_parts()

    @property
    def is_all_fixed(self) -> bool:
        """Whether no iteration can change a parameter."""
        return is_all_fixed(self.fixed)

    def tolerated_error(self, dtype: torch.dtype) -> float:
        """Return the rounding error of log-densities, in nats, up to which the E-step is fast."""
        return self.estimation.tolerated_error(dtype, self.loop.smallest_change)

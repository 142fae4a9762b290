"""Estimation of parameters from the moments of a pass, in which EM and variational Bayes differ.

Data, initialization, passes, accuracy and convergence are common to both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.e_step import EStep
from sklearn_torch_gmm.core.fixed import FixedParts, keep_parts, on_device, parts_to_plain
from sklearn_torch_gmm.core.m_step import MStepResult, m_step
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.rounding import TOLERATED_BESIDE_CHANGES, TOLERATED_ERROR
from sklearn_torch_gmm.rows.source import RowSource


@dataclass(frozen=True)
class Regularization:
    """The regularization of covariances, and the treatment of components with hardly any rows."""

    amount: float = 1e-6
    """Added once to each variance."""
    name: str = "covariance_regularization"
    """The name of this parameter in the estimator's class, for messages."""
    keep_empty: bool = True
    """Whether a component without rows keeps its mean even without regularization, which would
    give it a covariance."""
    keep_rounding: bool = False
    """Whether a component of a few equal rows has the variance that rounding gives it in
    scikit-learn."""


class Estimation(ABC):
    """The estimation of parameters from moments, and the bound on the likelihood it raises."""

    parameters_type: ClassVar[type[MixtureParameters]]
    """The class of the parameters that the M-step returns."""

    bound_name: ClassVar[str]
    """The name of the bound that is compared between iterations, for messages."""

    always_rises: ClassVar[bool]
    """Whether a fall of the bound, beyond rounding and regularization, is an error."""

    bound_follows_step: ClassVar[bool]
    """Whether the bound is computed from the new parameters, which must then be usable."""

    needs_entropy: ClassVar[bool]
    """Whether the bound needs the entropy of the responsibilities."""

    has_rare_cases: ClassVar[bool]
    """Whether an M-step takes longer if it may meet components of hardly any rows."""

    def fixed_parts(self) -> FixedParts:
        """Components whose parameters of a part keep their initial values."""
        return {}

    @property
    def ignores_small_weights(self) -> bool:
        """Whether components of negligible weight may be added, and change no other component."""
        return False

    def of_start(self) -> Estimation:
        """Return the estimation for initialization, which finds the values of fixed parts."""
        return self

    def on_device(self, device: torch.device) -> Estimation:
        """Return the estimation for parameters on a device."""
        return self

    def knowing(self, rows: RowSource, structure: CovarianceStructure, loop: Any) -> Estimation:
        """Return the estimation with the values that it takes from the data beforehand."""
        return self

    def continuing(self, previous: Any, structure: CovarianceStructure) -> MixtureParameters:
        """Return the parameters of an earlier fit as initial parameters of this one."""
        parameters: MixtureParameters = previous
        return parameters

    @abstractmethod
    def tolerated_error(self, dtype: torch.dtype, change: float) -> float:
        """Return the rounding error of log-densities, in nats, up to which the E-step is fast.

        A smaller ``change`` of the bound between two steps counts as none.
        """

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return plain values on which a fit and its checkpoint must agree, by the user's names."""

    @abstractmethod
    def before_data(self, means: Tensor, structure: CovarianceStructure) -> MixtureParameters:
        """Return parameters before the first row, with these ``means [R, K, D]``."""

    @abstractmethod
    def m_step(
        self,
        moments: Moments,
        centre: Tensor,
        before: Any,
        structure: CovarianceStructure,
        regularization: Regularization,
        *,
        rare_cases: bool = True,
        total_weight: float | None = None,
    ) -> MStepResult:
        """Return parameters from moments about the ``centre [D]`` or ``[R, K, D]``.

        ``before`` are the parameters of the E-step. If the moments are sums over some of the rows,
        ``total_weight`` is the weight of all rows.
        """

    @abstractmethod
    def bounds(
        self, e_step: EStep, moments: Moments, found: Any, structure: CovarianceStructure
    ) -> Tensor:
        """Return the bounds ``[R]``, in nats, from the moments of a pass and the new parameters."""


@dataclass(frozen=True)
class MaximumLikelihood(Estimation):
    """Expectation–maximization; its bound is the mean log-likelihood before the M-step."""

    fixed: FixedParts = field(default_factory=dict)
    """Components whose parameters of a part keep their initial values."""

    parameters_type = MixtureParameters
    bound_name = "mean log-likelihood"
    always_rises = True
    bound_follows_step = False
    needs_entropy = False
    has_rare_cases = True

    def tolerated_error(self, dtype: torch.dtype, change: float) -> float:
        return max(TOLERATED_ERROR[dtype], min(change, TOLERATED_BESIDE_CHANGES[dtype]))

    def fixed_parts(self) -> FixedParts:
        return self.fixed

    @property
    def ignores_small_weights(self) -> bool:
        return not self.fixed

    def of_start(self) -> MaximumLikelihood:
        return MaximumLikelihood()

    def on_device(self, device: torch.device) -> MaximumLikelihood:
        return replace(self, fixed=on_device(self.fixed, device)) if self.fixed else self

    def facts(self) -> dict[str, Any]:
        return {
            "an estimation by": "maximum likelihood",
            "fixed parts": parts_to_plain(self.fixed),
        }

    def before_data(self, means: Tensor, structure: CovarianceStructure) -> MixtureParameters:
        return replace(MixtureParameters.none(), means=means)

    def m_step(
        self,
        moments: Moments,
        centre: Tensor,
        before: MixtureParameters,
        structure: CovarianceStructure,
        regularization: Regularization,
        *,
        rare_cases: bool = True,
        total_weight: float | None = None,
    ) -> MStepResult:
        result = m_step(
            moments,
            centre,
            before.means,
            structure,
            regularization.amount,
            keep_rounding=regularization.keep_rounding,
            kept_means=self.fixed.get("means"),
            rare_cases=rare_cases,
        )
        if total_weight is not None:
            weights = moments.counts / total_weight
            result = replace(result, parameters=replace(result.parameters, weights=weights))
        return keep_parts(result, before, self.fixed, structure) if self.fixed else result

    def bounds(
        self,
        e_step: EStep,
        moments: Moments,
        found: MixtureParameters,
        structure: CovarianceStructure,
    ) -> Tensor:
        return e_step.log_likelihood(moments) / moments.total

"""The two priors of the weights of a Bayesian mixture, and their posteriors.

The parameters of a posterior over K weights are ``concentrations [..., 1, K]`` for the Dirichlet
distribution, and ``[..., 2, K]`` for the Dirichlet process: the two parameters of the beta
distribution of each stick. Their shape thus identifies the prior.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad


class WeightPrior(ABC):
    """A conjugate prior of the weights π."""

    name: ClassVar[str]

    @abstractmethod
    def posterior(self, counts: Tensor, strength: float) -> Tensor:
        """Return concentrations from ``counts [..., K]`` and the prior's ``strength``."""

    @abstractmethod
    def expected_weights(self, concentrations: Tensor) -> Tensor:
        """Return weights ``[..., K]`` that sum to one."""

    @abstractmethod
    def expected_log_weights(self, concentrations: Tensor) -> Tensor:
        """Return E log π ``[..., K]``, in nats."""

    @abstractmethod
    def bound_terms(self, concentrations: Tensor) -> Tensor:
        """Return terms ``[..., K]`` of the bound on the log-evidence, in nats.

        Together with :meth:`bound_constant`, they add up to minus the logarithm of the
        normalization constant of the posterior's density.
        """

    @abstractmethod
    def bound_constant(self, strength: float, num_components: int, num_rows: float) -> float:
        """Return the term that does not depend on how the rows are shared out, in nats."""


class DirichletDistribution(WeightPrior):
    """A finite mixture, with the same concentration for each component.

    Source: Bishop, Pattern Recognition and Machine Learning (2006), section 10.2.1.
    """

    name = "dirichlet_distribution"

    def posterior(self, counts: Tensor, strength: float) -> Tensor:
        return (counts + strength).unsqueeze(-2)

    def expected_weights(self, concentrations: Tensor) -> Tensor:
        alpha = concentrations[..., 0, :]
        return alpha / alpha.sum(-1, keepdim=True)

    def expected_log_weights(self, concentrations: Tensor) -> Tensor:
        alpha = concentrations[..., 0, :]
        return alpha.digamma() - alpha.sum(-1, keepdim=True).digamma()

    def bound_terms(self, concentrations: Tensor) -> Tensor:
        return concentrations[..., 0, :].lgamma()

    def bound_constant(self, strength: float, num_components: int, num_rows: float) -> float:
        return -_log_gamma(num_components * strength + num_rows)


class DirichletProcess(WeightPrior):
    """An infinite mixture, truncated to K components: each breaks a part off the remaining stick.

    Source: Blei and Jordan, Variational inference for Dirichlet process mixtures (2006).
    """

    name = "dirichlet_process"

    def posterior(self, counts: Tensor, strength: float) -> Tensor:
        # The strength and the counts of all later components, summed from the last one.
        later = pad(counts.flip(-1), (1, -1), value=strength).cumsum(-1)
        return torch.stack([counts + 1.0, later.flip(-1)], dim=-2)

    def expected_weights(self, concentrations: Tensor) -> Tensor:
        shares = concentrations / concentrations.sum(-2, keepdim=True)
        weights, left = shares.unbind(-2)
        # Times the product of the shares that all components before have left.
        weights[..., 1:].mul_(left.cumprod(-1)[..., :-1])
        # The truncation leaves out the rest of the stick.
        return weights / weights.sum(-1, keepdim=True)

    def expected_log_weights(self, concentrations: Tensor) -> Tensor:
        total = concentrations.sum(-2, keepdim=True).digamma()
        logs, left = concentrations.digamma().sub_(total).unbind(-2)
        logs[..., 1:].add_(left.cumsum(-1)[..., :-1])
        return logs

    def bound_terms(self, concentrations: Tensor) -> Tensor:
        # The sum of both parameters of a stick is the second one of the stick before, plus one. So
        # in the product of beta functions, all but two of their gamma functions cancel.
        taken, left = concentrations.unbind(-2)
        return taken.lgamma().sub_(left.log())

    def bound_constant(self, strength: float, num_components: int, num_rows: float) -> float:
        return -log_rising(1.0 + strength, num_rows)


def log_rising(x: float, n: float) -> float:
    """Return log Γ(x + n) − log Γ(x), even where both would cancel.

    It uses Stirling's series. Source: DiDonato and Morris, Algorithm 708, ACM TOMS 18 (1992),
    section 4.
    """
    if x < 10.0:
        return _log_gamma(x + n) - _log_gamma(x)
    change = (x - 0.5) * math.log1p(n / x) + n * (math.log(x + n) - 1.0)
    return change + _beyond_stirling(x + n) - _beyond_stirling(x)


def _log_gamma(x: float) -> float:
    # Unlike the function in `math`, it returns infinity where the result overflows.
    return torch.tensor(x, dtype=torch.float64).lgamma().item()


def _beyond_stirling(x: float) -> float:
    """Log Γ(x) − ((x − ½) log x − x + ½ log 2π) to eps, for x from 10 on."""
    # B₂ⱼ / (2 j (2 j − 1)) for j from 1 to 6; the terms form a series in 1 / x.
    coefficients = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
    return math.fsum(c * x ** (1 - 2 * j) for j, c in enumerate(coefficients, start=1))


_BY_ROWS: tuple[WeightPrior, ...] = (DirichletDistribution(), DirichletProcess())
"""The priors whose concentrations have one row and two rows."""

WEIGHT_PRIORS = {prior.name: prior for prior in _BY_ROWS}


def prior_of(concentrations: Tensor) -> WeightPrior:
    """Return the prior to which ``concentrations [..., 1 or 2, K]`` belong to."""
    return _BY_ROWS[concentrations.shape[-2] - 1]

"""The two priors of the weights of a Bayesian mixture, and their posteriors.

The parameters of a posterior over K weights are ``concentrations [..., 1, K]`` for the Dirichlet
distribution, and ``[..., 2, K]`` for the Dirichlet process: the two parameters of the beta
distribution of each stick. Their shape thus identifies the prior.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad


class WeightPrior(ABC):
    """A conjugate prior of the weights π."""

    name: ClassVar[str]

    @abstractmethod
    def posterior(self, counts: Tensor, strength: Tensor) -> Tensor:
        """Return concentrations from ``counts [..., K]`` and the prior's ``strength [..., 1]``."""

    @abstractmethod
    def expected_weights(self, concentrations: Tensor) -> Tensor:
        """Return weights ``[..., K]`` that sum to one."""

    @abstractmethod
    def expected_log_weights(self, concentrations: Tensor) -> Tensor:
        """Return E log π ``[..., K]``, in nats."""

    @abstractmethod
    def log_norm(self, concentrations: Tensor) -> Tensor:
        """Return the log of the normalization constant of the posterior's density, ``[...]``."""


class DirichletDistribution(WeightPrior):
    """A finite mixture, with the same concentration for each component.

    Source: Bishop, Pattern Recognition and Machine Learning (2006), section 10.2.1.
    """

    name = "dirichlet_distribution"

    def posterior(self, counts: Tensor, strength: Tensor) -> Tensor:
        return (strength + counts).unsqueeze(-2)

    def expected_weights(self, concentrations: Tensor) -> Tensor:
        alpha = concentrations[..., 0, :]
        return alpha / alpha.sum(-1, keepdim=True)

    def expected_log_weights(self, concentrations: Tensor) -> Tensor:
        alpha = concentrations[..., 0, :]
        return alpha.digamma() - alpha.sum(-1, keepdim=True).digamma()

    def log_norm(self, concentrations: Tensor) -> Tensor:
        alpha = concentrations[..., 0, :]
        return alpha.sum(-1).lgamma() - alpha.lgamma().sum(-1)


class DirichletProcess(WeightPrior):
    """An infinite mixture, truncated to K components: each breaks a part off the remaining stick.

    Source: Blei and Jordan, Variational inference for Dirichlet process mixtures (2006).
    """

    name = "dirichlet_process"

    def posterior(self, counts: Tensor, strength: Tensor) -> Tensor:
        # The counts of all later components, summed from the last one.
        later = pad(counts.flip(-1).cumsum(-1).flip(-1)[..., 1:], (0, 1))
        return torch.stack([1.0 + counts, strength + later], dim=-2)

    def expected_weights(self, concentrations: Tensor) -> Tensor:
        shares = concentrations / concentrations.sum(-2, keepdim=True)
        taken, left = shares.unbind(-2)
        # Times the product of the shares that all components before have left.
        weights = taken * pad(left.cumprod(-1)[..., :-1], (1, 0), value=1.0)
        # The truncation leaves out the rest of the stick.
        return weights / weights.sum(-1, keepdim=True)

    def expected_log_weights(self, concentrations: Tensor) -> Tensor:
        total = concentrations.sum(-2, keepdim=True).digamma()
        taken, left = concentrations.digamma().sub_(total).unbind(-2)
        return taken.add_(pad(left.cumsum(-1)[..., :-1], (1, 0)))

    def log_norm(self, concentrations: Tensor) -> Tensor:
        # One over the product of the beta functions of the sticks.
        return -log_beta(*concentrations.unbind(-2)).sum(-1)


def log_beta(a: Tensor, b: Tensor) -> Tensor:
    """Return the logarithm of the beta function, even where its gamma functions would cancel.

    It uses Stirling's series for the larger argument. Source: DiDonato and Morris, Algorithm 708,
    ACM TOMS 18 (1992), section 4.
    """
    small, large = torch.minimum(a, b), torch.maximum(a, b)
    total = small + large
    numbers = torch.stack([small, large, total])
    of_small, of_large, of_total = numbers.lgamma().unbind()
    # The terms of Stirling's series after x log x − x form a series in 1 / x.
    beyond_large, beyond_total = _stirling_remainder(numbers[1:]).unbind()
    # Ordered so that no two terms are far larger than their sum.
    change = torch.addcmul(small, small, total.log(), value=-1.0)
    change.addcmul_(large - 0.5, torch.log1p(-small / total)).add_(beyond_large - beyond_total)
    return of_small + torch.where(large < 10.0, of_large - of_total, change)


def _stirling_remainder(x: Tensor) -> Tensor:
    """Log Γ(x) − ((x − ½) log x − x + ½ log 2π) to eps, for x from 10 on."""
    exponents, coefficients = _stirling_series(x.dtype, x.device)
    return x.unsqueeze(-1).pow(exponents) @ coefficients


@lru_cache(maxsize=64)
def _stirling_series(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Exponents and coefficients of the terms: B₂ⱼ / (2 j (2 j − 1)) x^(1 − 2 j), j from 1 to 6."""
    coefficients = [1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360]
    with torch.inference_mode(mode=False):
        exponents = torch.arange(-1, -2 * len(coefficients), -2, dtype=dtype, device=device)
        return exponents, torch.tensor(coefficients, dtype=dtype, device=device)


_BY_ROWS: tuple[WeightPrior, ...] = (DirichletDistribution(), DirichletProcess())
"""The priors whose concentrations have one row and two rows."""

WEIGHT_PRIORS = {prior.name: prior for prior in _BY_ROWS}


def prior_of(concentrations: Tensor) -> WeightPrior:
    """Return the prior to which ``concentrations [..., 1 or 2, K]`` belong to."""
    return _BY_ROWS[concentrations.shape[-2] - 1]

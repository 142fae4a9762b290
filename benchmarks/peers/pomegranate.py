from __future__ import annotations

import math
from typing import Any

import torch
from pomegranate.distributions import Normal
from pomegranate.gmm import GeneralMixtureModel

from benchmarks.peers.base import NotOffered, TensorPeer
from benchmarks.problems import Problem


class Pomegranate(TensorPeer):
    """pomegranate; it has no tied covariances, and 'sphere' is not a variance that can be given."""

    distribution = "pomegranate"
    covariances = ("full", "diag")

    def fit(self, X: Any, problem: Problem, iterations: int) -> Any:
        components = [
            Normal(torch.from_numpy(mean), torch.from_numpy(covariance), problem.covariance)
            for mean, covariance in zip(problem.means, problem.covariances, strict=True)
        ]
        priors = torch.from_numpy(problem.weights)
        model = GeneralMixtureModel(components, priors, max_iter=iterations, tol=-math.inf)
        model.iterations_asked_for = iterations
        return model.to(self.device).fit(X)

    def iterations(self, model: Any) -> int:
        return model.iterations_asked_for

    def log_likelihood(self, model: Any) -> float | None:
        return None

    def score_samples(self, model: Any, X: Any) -> Any:
        return model.log_probability(X)

    def sample(self, model: Any, rows: int) -> Any:
        if self.device != "cpu":
            raise NotOffered("samples on the CPU")
        return model.sample(rows)

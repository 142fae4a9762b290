from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from pomegranate.distributions import Normal
from pomegranate.gmm import GeneralMixtureModel

from benchmarks.peers.base import Fitted, NotOffered, Question, TensorPeer
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

    def answer(self, X: Any, question: Question) -> Any:
        if question.covariance in ("tied", "spherical"):
            raise NotOffered(f"no {question.covariance} covariances")
        if question.needs_means:
            raise NotOffered("means alone cannot be given")
        components = [
            Normal(covariance_type=question.covariance) for _ in range(question.components)
        ]
        model = GeneralMixtureModel(components, random_state=0)
        if question.batch_size is None:
            return model.fit(X)
        for _ in range(10):
            for batch in X.split(question.batch_size):
                model.summarize(batch)
            model.from_summaries()
        return model

    def fitted(self, model: Any) -> Fitted:
        parts = model.distributions
        means, covariances = (
            np.stack([values.detach().numpy() for values in column])
            for column in ([p.means for p in parts], [p.covs for p in parts])
        )
        return Fitted(model.priors.detach().numpy(), means, covariances, None)

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

from __future__ import annotations

from typing import Any

import torch
from tgmm import GaussianMixture

from benchmarks.peers.base import Question, TensorPeer
from benchmarks.problems import Problem


class TGMM(TensorPeer):
    """tgmm."""

    distribution = "tgmm"

    def fit(self, X: Any, problem: Problem, iterations: int) -> Any:
        weights, means, covariances = (
            torch.from_numpy(array).to(self.device)
            for array in (problem.weights, problem.means, problem.covariances)
        )
        return GaussianMixture(
            problem.case.components,
            problem.case.features,
            covariance_type="tied_full" if problem.covariance == "tied" else problem.covariance,
            init_weights=weights,
            init_means=means,
            init_covariances=covariances,
            max_iter=iterations,
            tol=1e-300,
        ).fit(X)

    def answer(self, X: Any, question: Question) -> Any:
        options: dict[str, Any] = {"batch_size": question.batch_size, "random_state": 0}
        if question.means is not None:
            options["init_means"] = torch.from_numpy(question.means)
        if question.regularization is not None:
            options["reg_covar"] = question.regularization
        is_tied = question.covariance == "tied"
        return GaussianMixture(
            question.components,
            len(X[0]) if len(X) else 2,
            covariance_type="tied_full" if is_tied else question.covariance,
            **options,
        ).fit(X)

    def iterations(self, model: Any) -> int:
        # It tells the index of the last one.
        return int(model.n_iter_) + 1

from __future__ import annotations

from typing import Any

import torch
from tgmm import GaussianMixture

from benchmarks.peers.base import TensorPeer
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

    def iterations(self, model: Any) -> int:
        # It tells the index of the last one.
        return int(model.n_iter_) + 1

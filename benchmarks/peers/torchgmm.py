from __future__ import annotations

from typing import Any

import torch
from torchgmm.bayes import GaussianMixture

from benchmarks.peers.base import TensorPeer
from benchmarks.problems import Problem


class TorchGMM(TensorPeer):
    """torchgmm, the fork of PyCave.

    Its start can be given by means alone: rows go to the nearest of them. `max_epochs` is the
    number of EM iterations, each of which it does in two passes when the data are one batch.
    """

    distribution = "torchgmm"

    def fit(self, X: Any, problem: Problem, iterations: int) -> Any:
        return self._estimator(
            X,
            problem,
            init_means=torch.from_numpy(problem.means).to(self.device),
            convergence_tolerance=0,
            max_epochs=iterations,
        ).fit(X)

    def _estimator(self, X: Any, problem: Problem, max_epochs: int, **params: Any) -> Any:
        trainer_params = {
            "accelerator": "cpu" if self.device == "cpu" else "gpu",
            "devices": 1,
            "precision": 64 if X.dtype == torch.float64 else 32,
            "max_epochs": max_epochs,
            "logger": False,
            "enable_progress_bar": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
        }
        return GaussianMixture(
            problem.case.components,
            covariance_type=problem.covariance,
            trainer_params=trainer_params,
            **params,
        )

    def iterations(self, model: Any) -> int:
        return int(model.num_iter_)

    def log_likelihood(self, model: Any) -> float | None:
        return -float(model.nll_)

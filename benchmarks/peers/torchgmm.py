from __future__ import annotations

from typing import Any

import torch
from torchgmm.bayes import GaussianMixture

from benchmarks.peers.base import Fitted, Question, TensorPeer
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
            problem.case.components,
            problem.covariance,
            init_means=torch.from_numpy(problem.means).to(self.device),
            convergence_tolerance=0,
            max_epochs=iterations,
        ).fit(X)

    def answer(self, X: Any, question: Question) -> Any:
        options: dict[str, Any] = {"batch_size": question.batch_size}
        if question.means is not None:
            options["init_means"] = torch.from_numpy(question.means)
        if question.regularization is not None:
            options["covariance_regularization"] = question.regularization
        torch.manual_seed(0)
        return self._estimator(X, question.components, question.covariance, 100, **options).fit(X)

    def fitted(self, model: Any) -> Fitted:
        module = model.model_
        parameters = (module.component_probs, module.means, module.covariances)
        return Fitted(*(values.detach().numpy() for values in parameters), bool(model.converged_))

    def _estimator(
        self, X: Any, components: int, covariance: str, max_epochs: int, **params: Any
    ) -> Any:
        trainer_params = {
            "accelerator": "cpu" if self.device == "cpu" else "gpu",
            "devices": 1,
            "precision": 64 if getattr(X, "dtype", None) == torch.float64 else 32,
            "max_epochs": max_epochs,
            "logger": False,
            "enable_progress_bar": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
        }
        return GaussianMixture(
            components,
            covariance_type=covariance,
            trainer_params=trainer_params,
            **params,
        )

    def iterations(self, model: Any) -> int:
        return int(model.num_iter_)

    def log_likelihood(self, model: Any) -> float | None:
        return -float(model.nll_)

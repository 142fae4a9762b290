from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.peers.base import Question
from benchmarks.peers.scikit_learn import ScikitLearn
from benchmarks.problems import Problem
from sklearn_torch_gmm.mixture import GaussianMixture


class Ours(ScikitLearn):
    """This package, by the class with scikit-learn's parameters; on a GPU, with tensors."""

    distribution = "sklearn-torch-gmm"
    estimator = GaussianMixture
    runs_on_gpu = True

    def prepare(self, X: Any) -> Any:
        if self.device == "cpu":
            return X
        import torch

        return torch.from_numpy(X).to(self.device)

    def parameters(self, problem: Problem) -> dict[str, Any]:
        params = {"accelerator": "cpu" if self.device == "cpu" else "cuda"}
        return {**super().parameters(problem), "trainer_params": params}

    def options(self, question: Question) -> dict[str, Any]:
        options = super().options(replace(question, batch_size=None))
        return {**options, "batch_size": question.batch_size}

from __future__ import annotations

from typing import Any

import sklearn
import torch

from benchmarks.peers.base import NotOffered, Question, TensorPeer
from benchmarks.peers.scikit_learn import ScikitLearn
from benchmarks.problems import Problem


class ScikitLearnTorch(TensorPeer, ScikitLearn):
    """scikit-learn on tensors, by array API dispatch; it needs SCIPY_ARRAY_API=1 when it starts."""

    distribution = "scikit-learn"

    def __init__(self, device: str = "cpu") -> None:
        super().__init__(device)
        sklearn.set_config(array_api_dispatch=True)

    def start(self, problem: Problem) -> dict[str, Any]:
        start = super().start(problem)
        return {
            name: value if isinstance(value, str) else torch.from_numpy(value).to(self.device)
            for name, value in start.items()
        }

    def answer(self, X: Any, question: Question) -> Any:
        raise NotOffered("not compared")

    def fit_default(self, X: Any, problem: Problem) -> Any:
        raise NotOffered("k-means takes no tensors")

    def pipeline_step(self, components: int) -> Any:
        raise NotOffered("k-means takes no tensors")

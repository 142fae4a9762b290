"""What the worker asks of a library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from benchmarks.problems import Problem


@dataclass(frozen=True)
class Question:
    """A fit that leaves at the library's default what it doesn't name."""

    components: int
    covariance: str
    means: np.ndarray | None = None
    needs_means: bool = False
    """Whether the means are what the question is about, not help."""

    regularization: float | None = None
    batch_size: int | None = None


class Fitted(NamedTuple):
    """What a library says that it has found: weights [K], means [K, D], covariances."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    converged: bool | None


class NotOffered(Exception):
    """The library has nothing of the kind."""


class Peer:
    """A library, asked through its public interface.

    Data are prepared before the clock starts; results stay in the library's own kind of array.
    """

    distribution: ClassVar[str]
    """What it is called on PyPI."""

    covariances: ClassVar[tuple[str, ...]] = ("full", "tied", "diag", "spherical")

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        if device != "cpu" and not self.runs_on_gpu:
            raise NotOffered(f"does not run on {device}")

    runs_on_gpu: ClassVar[bool] = False

    def synchronize(self) -> None:
        """Wait until the device has done what it was told."""
        if self.device != "cpu":
            import torch

            torch.cuda.synchronize()

    def prepare(self, X: np.ndarray) -> Any:
        return X

    def fit(self, X: Any, problem: Problem, iterations: int) -> Any:
        """Exactly this many iterations from the initial parameters of the problem."""
        raise NotOffered("no start can be given")

    def fit_default(self, X: Any, problem: Problem) -> Any:
        raise NotOffered("not compared")

    def fit_restarts(self, X: Any, problem: Problem, starts: int, seed: Any, default: bool) -> Any:
        raise NotOffered("not compared")

    def answer(self, X: Any, question: Question) -> Any:
        """Fit as a user would who has this data and these wishes."""
        raise NotOffered("not compared")

    def fitted(self, model: Any) -> Fitted:
        converged = bool(model.converged_)
        parameters = (model.weights_, model.means_, model.covariances_)
        return Fitted(*(np.asarray(values) for values in parameters), converged)

    def pipeline_step(self, components: int) -> Any:
        """An unfitted estimator with the default initialization, for a pipeline."""
        raise NotOffered("no estimator for a pipeline")

    def iterations(self, model: Any) -> int:
        return int(model.n_iter_)

    def log_likelihood(self, model: Any) -> float | None:
        """Mean log-likelihood in nats per row before the last M-step, None if it isn't told."""
        return float(model.lower_bound_)

    def predict(self, model: Any, X: Any) -> Any:
        return model.predict(X)

    def predict_proba(self, model: Any, X: Any) -> Any:
        return model.predict_proba(X)

    def score_samples(self, model: Any, X: Any) -> Any:
        return model.score_samples(X)

    def sample(self, model: Any, rows: int) -> Any:
        return model.sample(rows)


class TensorPeer(Peer):
    """A library that works on tensors."""

    runs_on_gpu = True

    def prepare(self, X: np.ndarray) -> Any:
        import torch

        return torch.from_numpy(X).to(self.device)

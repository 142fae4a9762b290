from __future__ import annotations

from typing import Any

import daal4py
import numpy as np

from benchmarks.peers.base import NotOffered, Peer
from benchmarks.problems import Problem


class Daal4py(Peer):
    """oneDAL's EM, which scikit-learn-intelex installs; it fits and doesn't predict."""

    distribution = "scikit-learn-intelex"
    covariances = ("full", "diag")

    def fit(self, X: Any, problem: Problem, iterations: int) -> Any:
        algorithm = daal4py.em_gmm(
            nComponents=problem.case.components,
            fptype="float" if X.dtype == np.float32 else "double",
            maxIterations=iterations,
            accuracyThreshold=0.0,
            regularizationFactor=1e-6,
            covarianceStorage="full" if problem.covariance == "full" else "diagonal",
        )
        covariances = [np.atleast_2d(matrix) for matrix in problem.covariances]
        result = algorithm.compute(X, problem.weights[np.newaxis], problem.means, covariances)
        return result, len(X)

    def iterations(self, model: Any) -> int:
        result, _ = model
        return int(result.nIterations.item())

    def log_likelihood(self, model: Any) -> float | None:
        result, rows = model
        return float(result.goalFunction.item()) / rows

    def _cannot_predict(self, *_: Any) -> Any:
        raise NotOffered("fits only")

    predict = predict_proba = score_samples = sample = _cannot_predict

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.mixture import GaussianMixture

from benchmarks.peers.base import Peer
from benchmarks.problems import Problem


class ScikitLearn(Peer):
    """scikit-learn on NumPy arrays."""

    distribution = "scikit-learn"
    estimator: Any = GaussianMixture

    def parameters(self, problem: Problem) -> dict[str, Any]:
        return {"n_components": problem.case.components, "covariance_type": problem.covariance}

    def start(self, problem: Problem) -> dict[str, Any]:
        return {
            "weights_init": problem.weights,
            "means_init": problem.means,
            "precisions_init": problem.precisions,
            # With all of them given no start is sought; scikit-learn still checks the name.
            "init_params": "random_from_data",
        }

    def fit(self, X: Any, problem: Problem, iterations: int) -> Any:
        parameters = {**self.parameters(problem), **self.start(problem)}
        return self.estimator(**parameters, tol=0.0, max_iter=iterations).fit(X)

    def fit_default(self, X: Any, problem: Problem) -> Any:
        return self.estimator(**self.parameters(problem), random_state=0).fit(X)

    def fit_restarts(self, X: Any, problem: Problem, starts: int, seed: Any, default: bool) -> Any:
        parameters = {**self.parameters(problem), "random_state": seed, "n_init": starts}
        if not default:
            parameters |= {
                "init_params": "random_from_data",
                "tol": 0.0,
                "max_iter": problem.case.iterations[1],
            }
        return self.estimator(**parameters).fit(X)

    def restarts_seed(self) -> np.random.RandomState:
        return np.random.RandomState(0)

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.mixture import GaussianMixture

from benchmarks.peers.base import NotOffered, Peer, Question
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
            # All are given, so there is no initialization, but scikit-learn still checks the name.
            "init_params": "random_from_data",
        }

    def fit(self, X: Any, problem: Problem, iterations: int) -> Any:
        parameters = {**self.parameters(problem), **self.start(problem)}
        return self.estimator(**parameters, tol=0.0, max_iter=iterations).fit(X)

    def fit_default(self, X: Any, problem: Problem) -> Any:
        return self.estimator(**self.parameters(problem), random_state=0).fit(X)

    def pipeline_step(self, components: int) -> Any:
        return self.estimator(components, random_state=0)

    def answer(self, X: Any, question: Question) -> Any:
        return self.estimator(**self.options(question)).fit(X)

    def options(self, question: Question) -> dict[str, Any]:
        if question.batch_size is not None:
            raise NotOffered("no batches")
        options = {
            "n_components": question.components,
            "covariance_type": question.covariance,
            # Otherwise k-means: given means keep the widths of its clusters, in another order.
            "means_init": question.means if question.needs_means else None,
            "random_state": 0,
        }
        if question.regularization is not None:
            options["reg_covar"] = question.regularization
        return options

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

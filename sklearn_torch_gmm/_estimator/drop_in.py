"""What the drop-ins for scikit-learn's two mixtures have in common."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any, Literal

from sklearn.base import BaseEstimator
from sklearn.utils import Tags

from sklearn_torch_gmm._estimator import inference
from sklearn_torch_gmm._estimator.base import BaseMixture
from sklearn_torch_gmm._estimator.vocabulary import Vocabulary
from sklearn_torch_gmm._private_parts import parameter_names

InitParams = Literal["kmeans", "k-means++", "random", "random_from_data"]
"""Names of initializations, which the classes describe."""


class DropIn(BaseMixture):
    """What makes a mixture a drop-in for scikit-learn's class of the same name."""

    _vocabulary = Vocabulary(
        components="n_components",
        start="init_params",
        convergence_advice=(
            "Best performing initialization did not converge. "
            "Try different init parameters, or increase max_iter, "
            "tol, or check for degenerate data."
        ),
        answers_as_scikit_learn=True,
    )

    sample = inference.sample

    def __sklearn_tags__(self) -> Tags:
        # scikit-learn's class looks for init_params among names, and here it may be an array.
        tags: Tags = super(self._counterpart, self).__sklearn_tags__()
        tags.estimator_type = "clusterer"
        return tags

    @classmethod
    def _own_parameters(cls, params: Mapping[str, Any]) -> dict[str, Any]:
        return dict(params)

    def _scikit_learn_parameters(self) -> dict[str, Any]:
        # A subclass may have parameters of its own.
        params = {name: getattr(self, name) for name in parameter_names(self._counterpart)}
        if not isinstance(params["init_params"], str):
            # scikit-learn has neither functions nor arrays, which a fitted mixture does not need.
            del params["init_params"]
        return params


def trainer_params_of(mixture: BaseEstimator) -> dict[str, Any]:
    """Return the parameters of the trainer; ValueError if they limit the iterations."""
    trainer_params = dict(mixture.trainer_params or {})
    if "max_epochs" in trainer_params:
        msg = (
            f"trainer_params holds max_epochs={trainer_params['max_epochs']!r} in addition to "
            f"max_iter={mixture.max_iter!r}, which has the same meaning: use only max_iter."
        )
        raise ValueError(msg)
    return trainer_params


class Printer:
    """Prints the same lines as scikit-learn."""

    def __init__(self, verbose: int, interval: int) -> None:
        self._prints_times = verbose >= 2
        self._interval = interval
        self._start_time = 0.0
        self._last_time = 0.0

    def start(self, index: int) -> None:
        print(f"Initialization {index}")
        self._start_time = self._last_time = perf_counter()

    def iteration(self, number: int, change: float) -> None:
        if number % self._interval != 0:
            return
        line = f"  Iteration {number}"
        if self._prints_times:
            now = perf_counter()
            line += f"\t time lapse {now - self._last_time:.5f}s\t ll change {change:.5f}"
            self._last_time = now
        print(line)

    def end(self, lower_bound: float, converged: bool) -> None:
        line = f"Initialization {'converged' if converged else 'did not converge'}."
        if self._prints_times:
            elapsed = perf_counter() - self._start_time
            line += f" time lapse {elapsed:.5f}s\t lower bound {lower_bound:.5f}."
        print(line)

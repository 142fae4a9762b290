"""The shared code of the drop-in classes for scikit-learn's two mixtures."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from time import perf_counter
from typing import Any, ClassVar, Literal, get_args

from sklearn.base import BaseEstimator
from sklearn.utils import Tags

from sklearn_torch_gmm._estimator import sampling
from sklearn_torch_gmm._estimator.base import BaseMixture
from sklearn_torch_gmm._estimator.binding import computed
from sklearn_torch_gmm._estimator.constraints import Numbers
from sklearn_torch_gmm._estimator.fitted_state import check_can_continue, torch_model
from sklearn_torch_gmm._estimator.hooks import open_to_hooks
from sklearn_torch_gmm._estimator.missing import takes_gaps
from sklearn_torch_gmm._estimator.vocabulary import Vocabulary
from sklearn_torch_gmm._private_parts import StrOptions, parameter_names
from sklearn_torch_gmm.core.model import GaussianMixtureModel
from sklearn_torch_gmm.em.settings import LoopSettings

InitParams = Literal["kmeans", "k-means++", "random", "random_from_data"]
"""Names of initializations, which the classes describe."""


class DropIn(BaseMixture):
    """Base of a mixture that is a drop-in for scikit-learn's class of the same name."""

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

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMixture._parameter_constraints,
        "n_components": [Numbers(Integral, 1)],
        "init_params": [StrOptions(set(get_args(InitParams))), callable, "array-like"],
    }

    # A subclass may override the methods that scikit-learn's methods of these names call.
    fit = open_to_hooks(BaseMixture.fit)
    fit_predict = open_to_hooks(BaseMixture.fit_predict)
    predict = open_to_hooks(BaseMixture.predict)
    predict_proba = open_to_hooks(BaseMixture.predict_proba)
    score_samples = open_to_hooks(BaseMixture.score_samples)
    score = open_to_hooks(BaseMixture.score)
    sample = sampling.sample

    @computed
    def model_(self) -> GaussianMixtureModel:
        """The fitted mixture as a torch module, on the CPU; a new one each time."""
        return torch_model(self)

    def __sklearn_tags__(self) -> Tags:
        # scikit-learn's class compares init_params with strings, but here it may be an array.
        tags: Tags = super(self._counterpart, self).__sklearn_tags__()
        tags.estimator_type = "clusterer"
        tags.input_tags.allow_nan = takes_gaps(self)
        return tags

    @classmethod
    def _own_parameters(cls, params: Mapping[str, Any]) -> dict[str, Any]:
        return dict(params)

    def _scikit_learn_parameters(self) -> dict[str, Any]:
        # A subclass may have additional parameters.
        params = {name: getattr(self, name) for name in parameter_names(self._counterpart)}
        if not isinstance(params["init_params"], str):
            # scikit-learn takes neither functions nor arrays; a fitted mixture does not need them.
            del params["init_params"]
        return params


def loop_settings_of(mixture: BaseEstimator) -> LoopSettings:
    """Return the settings of the loop; ValueError if `trainer_params` limit the iterations."""
    trainer_params = dict(mixture.trainer_params or {})
    if "max_epochs" in trainer_params:
        msg = (
            f"trainer_params holds max_epochs={trainer_params['max_epochs']!r} in addition to "
            f"max_iter={mixture.max_iter!r}, which has the same meaning: use only max_iter."
        )
        raise ValueError(msg)
    return LoopSettings(
        max_iter=mixture.max_iter,
        tolerance=float(mixture.tol),
        batch_size=mixture.batch_size,
        num_workers=mixture.num_workers,
        trainer_params=trainer_params,
    )


def continues(mixture: BaseEstimator, num_components: int, num_features: int) -> bool:
    """Whether a fit continues from the fitted attributes; ValueError if their sizes differ."""
    if not (mixture.warm_start and hasattr(mixture, "converged_")):
        return False
    check_can_continue(
        mixture,
        (num_components, num_features),
        "With warm_start=True, fit",
        f"the data have {num_features} features, n_components={mixture.n_components}",
        "Set warm_start=False to start again.",
    )
    return True


def printer_of(mixture: BaseEstimator) -> Printer | None:
    """Return the printer of the progress of a fit, if `verbose` requests one."""
    return Printer(mixture.verbose, mixture.verbose_interval) if mixture.verbose else None


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

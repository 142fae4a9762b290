"""Delegation of inference to the mixture that a search has chosen."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from sklearn_torch_gmm._estimator import inference, sampling
from sklearn_torch_gmm._estimator.base import BaseGaussianMixture
from sklearn_torch_gmm._estimator.vocabulary import answering_with_tensors
from sklearn_torch_gmm.core.covariance import CovarianceType

Method = TypeVar("Method", bound=Callable[..., Any])


def _delegated(method: Method) -> Method:
    """Return a method that calls the same method of the chosen mixture, with its signature.

    For tensors, a search returns tensors, unlike scikit-learn's mixture.
    """

    @wraps(method)
    def delegate(self: ChosenMixture, *args: Any, **kwargs: Any) -> Any:
        return method(answering_with_tensors(self._best), *args, **kwargs)

    return cast(Method, delegate)


class ChosenMixture:
    """Delegates inference to `best_estimator_`."""

    best_estimator_: BaseGaussianMixture
    n_components_: int
    covariance_type_: CovarianceType
    n_features_in_: int
    feature_names_in_: npt.NDArray[np.object_]

    @property
    def labels_(self) -> npt.NDArray[np.int64]:
        """Most probable component of each sample in the fit, for an array or a tensor."""
        labels: npt.NDArray[np.int64] = self._best.labels_
        return labels

    @property
    def n_iter_(self) -> int:
        """Number of iterations of the chosen mixture."""
        return int(self._best.n_iter_)

    @property
    def converged_(self) -> bool:
        """Whether the chosen mixture converged."""
        return bool(self._best.converged_)

    @property
    def _best(self) -> BaseGaussianMixture:
        check_is_fitted(self)
        return self.best_estimator_

    predict = _delegated(inference.predict)
    predict_proba = _delegated(inference.predict_proba)
    score_samples = _delegated(inference.score_samples)
    component_log_densities = _delegated(inference.component_log_densities)
    score = _delegated(inference.score)
    bic = _delegated(inference.bic)
    aic = _delegated(inference.aic)
    sample = _delegated(sampling.sample)

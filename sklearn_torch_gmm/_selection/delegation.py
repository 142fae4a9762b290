"""What an estimator that has chosen a mixture can be asked: the mixture answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from sklearn_torch_gmm._estimator import answers
from sklearn_torch_gmm._estimator.base import BaseGaussianMixture
from sklearn_torch_gmm.core.covariance import CovarianceType

Question = TypeVar("Question", bound=Callable[..., Any])


def _asked_of_best(question: Question) -> Question:
    """Return a method that asks the chosen mixture; it has the signature of the question."""

    @wraps(question)
    def ask(self: ChosenMixture, *args: Any, **kwargs: Any) -> Any:
        return question(self._best, *args, **kwargs)

    return cast(Question, ask)


class ChosenMixture:
    """Hands questions on to `best_estimator_`."""

    best_estimator_: BaseGaussianMixture
    n_components_: int
    covariance_type_: CovarianceType
    n_features_in_: int
    feature_names_in_: npt.NDArray[np.object_]

    @property
    def labels_(self) -> npt.NDArray[np.int64]:
        """Most probable component of each row in the fit, for an array or a tensor."""
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

    predict = _asked_of_best(answers.predict)
    predict_proba = _asked_of_best(answers.predict_proba)
    score_samples = _asked_of_best(answers.score_samples)
    score = _asked_of_best(answers.score)
    bic = _asked_of_best(answers.bic)
    aic = _asked_of_best(answers.aic)

    def sample(self, n_samples: int = 1) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Draw rows from the chosen mixture.

        Parameters
        ----------
        n_samples : int, default=1
            N, the number of rows.

        Returns
        -------
        X : ndarray of shape (N, D)
            Component by component.
        y : ndarray of shape (N,)
            The component of each row.

        Raises
        ------
        ValueError
            If `n_samples` is less than 1.
        """
        return self._best.sample(n_samples)

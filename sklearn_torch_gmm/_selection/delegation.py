"""What an estimator that has chosen a mixture can be asked: the mixture answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from sklearn_torch_gmm._estimator.base import BaseGaussianMixture
from sklearn_torch_gmm.core.covariance import CovarianceType


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

    def predict(self, X: Any) -> Any:
        """Return the most probable component of each row.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
            Rows, of any kind that :meth:`fit` takes.

        Returns
        -------
        labels : ndarray or Tensor of shape (N,), int64
        """
        return self._best.predict(X)

    def predict_proba(self, X: Any) -> Any:
        """Return p(component | x) of each row.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
            Rows, of any kind that :meth:`fit` takes.

        Returns
        -------
        responsibilities : ndarray or Tensor of shape (N, K)
        """
        return self._best.predict_proba(X)

    def score_samples(self, X: Any) -> Any:
        """Return the log-density of each row.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
            Rows, of any kind that :meth:`fit` takes.

        Returns
        -------
        log_densities : ndarray or Tensor of shape (N,)
            In nats.
        """
        return self._best.score_samples(X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the mean log-density of the rows; larger is better.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
            Rows, of any kind that :meth:`fit` takes.
        y : Ignored
            Not used, present for API consistency by convention.
        sample_weight : array-like of shape (N,) or True, default=None
            Weights of the rows in the mean, as in :meth:`fit`.

        Returns
        -------
        score : float
            In nats per row.
        """
        return self._best.score(X, y, sample_weight)

    def bic(self, X: Any, sample_weight: Any = None) -> float:
        """Return the Bayesian information criterion; smaller is better.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
            Rows, of any kind that :meth:`fit` takes.
        sample_weight : array-like of shape (N,) or True, default=None
            Weights of the rows, as in :meth:`fit`.

        Returns
        -------
        bic : float
        """
        return self._best.bic(X, sample_weight)

    def aic(self, X: Any, sample_weight: Any = None) -> float:
        """Return the Akaike information criterion; smaller is better.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
            Rows, of any kind that :meth:`fit` takes.
        sample_weight : array-like of shape (N,) or True, default=None
            Weights of the rows, as in :meth:`fit`.

        Returns
        -------
        aic : float
        """
        return self._best.aic(X, sample_weight)

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

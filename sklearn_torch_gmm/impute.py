"""Imputation of missing values by a Gaussian mixture of the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.impute import MissingIndicator
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_torch_gmm._estimator.inference import evaluate, inference_of, threads_for
from sklearn_torch_gmm._estimator.missing import Missing
from sklearn_torch_gmm._estimator.mixin import PackageEstimatorMixin
from sklearn_torch_gmm._estimator.outcome import as_before_on_failure
from sklearn_torch_gmm._estimator.validation import check_in_memory, rows_of, validate_rows
from sklearn_torch_gmm._private_parts import validate_parameters
from sklearn_torch_gmm.core.covariance import CovarianceType
from sklearn_torch_gmm.core.gap_inference import GapInference
from sklearn_torch_gmm.em.settings import StartFunction
from sklearn_torch_gmm.mixture import GaussianMixture, InitParams
from sklearn_torch_gmm.rows.sample_weight import validate_weights
from sklearn_torch_gmm.rows.tensors import device_of

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["GaussianMixtureImputer"]

_MIXTURE_PARAMETERS = (
    "n_components", "covariance_type", "tol", "reg_covar", "max_iter", "n_init", "init_params",
    "random_state", "batch_size", "trainer_params",
)  # fmt: skip
"""Parameters of the mixture."""


class GaussianMixtureImputer(
    PackageEstimatorMixin, OneToOneFeatureMixin, TransformerMixin, BaseEstimator
):
    """Impute missing values from a Gaussian mixture, given the observed values of each sample.

    EM estimates the mixture from the observed values, without imputing any. Values are
    assumed to be missing at random: whether they are missing may depend on the observed values of a
    sample, but not on the missing ones.

    Parameters
    ----------
    n_components : int, default=1
        K, the number of Gaussian components; 1 amounts to linear regression on the observed values.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
        The structure of the covariances. With 'diag' and 'spherical', the observed values of a
        sample determine the imputed ones only by its responsibilities.
    sample_posterior : bool, default=False
        Whether imputed values are drawn from their conditional distribution, for multiple
        imputation, instead of being its mean.
    add_indicator : bool, default=False
        Whether to append columns that mark missing values, those of
        :class:`sklearn.impute.MissingIndicator`.
    keep_empty_features : bool, default=False
        Whether to keep features without any value in :meth:`fit`, whose missing values become
        zero, or to remove them.
    random_state : int, RandomState instance or None, default=None
        Determines the random numbers of the initialization, and those of :meth:`transform` with
        `sample_posterior`; an int gives the same draws in each call.
    tol : float, default=1e-3
        Convergence threshold: EM stops when the mean log-likelihood, in nats per sample, changes by
        less than this.
    reg_covar : float, default=1e-6
        Regularization that is added once to each variance, in squared units of the data.
    max_iter : int, default=100
        Maximum number of iterations.
    n_init : int, default=1
        Number of initializations; the best result is kept.
    init_params : {'kmeans', 'k-means++', 'random', 'random_from_data'}, callable or array-like, \
default='kmeans'
        The initialization of EM, as in :class:`sklearn_torch_gmm.mixture.GaussianMixture`.
    batch_size : int, default=None
        Number of samples per batch; with None, all samples are one batch. The result does not
        depend on it.
    trainer_params : dict, default=None
        Keyword arguments of :class:`pytorch_lightning.Trainer`, except `max_epochs`.

    Attributes
    ----------
    mixture_ : GaussianMixture
        The fitted mixture of the features that are not empty, a
        :class:`sklearn_torch_gmm.mixture.GaussianMixture`.
    indicator_ : MissingIndicator or None
        The transformer that makes the columns of `add_indicator`.
    is_empty_ : ndarray of shape (D,)
        Bool mask of the features without any value in :meth:`fit`.
    n_iter_ : int
        Number of EM iterations of the best initialization.
    n_features_in_ : int
        Number of features seen in :meth:`fit`.
    feature_names_in_ : ndarray of shape (D,)
        Names of the features, if `X` has any.

    See Also
    --------
    sklearn.impute.IterativeImputer : Regression of each feature on the others, in turn.
    sklearn.impute.KNNImputer : Means of the nearest samples.

    References
    ----------
    R. J. A. Little and D. B. Rubin, Statistical Analysis with Missing Data (2019), section 11.2.
    Z. Ghahramani and M. I. Jordan, Supervised learning from incomplete data via an EM approach
    (1994).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_torch_gmm.impute import GaussianMixtureImputer
    >>> X = np.array([[1, 2], [2, 4.1], [3, 5.9], [4, np.nan], [np.nan, 2]])
    >>> imputer = GaussianMixtureImputer(tol=1e-6).fit(X)
    >>> imputer.transform(X).round(1)
    array([[1. , 2. ],
           [2. , 4.1],
           [3. , 5.9],
           [4. , 7.9],
           [1. , 2. ]])
    >>> imputer.mixture_.converged_, imputer.n_iter_ > 2
    (True, True)
    """

    missing: ClassVar[Missing] = "em"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{name: GaussianMixture._parameter_constraints[name] for name in _MIXTURE_PARAMETERS},
        "sample_posterior": ["boolean"],
        "add_indicator": ["boolean"],
        "keep_empty_features": ["boolean"],
    }

    mixture_: GaussianMixture
    indicator_: MissingIndicator | None
    is_empty_: npt.NDArray[np.bool_]

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: CovarianceType = "full",
        sample_posterior: bool = False,
        add_indicator: bool = False,
        keep_empty_features: bool = False,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: InitParams | StartFunction | npt.ArrayLike = "kmeans",
        batch_size: int | None = None,
        trainer_params: Mapping[str, Any] | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.sample_posterior = sample_posterior
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features
        self.random_state = random_state
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.batch_size = batch_size
        self.trainer_params = trainer_params

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "mixture_")

    @property
    def n_iter_(self) -> int:
        """Number of EM iterations of the best initialization."""
        check_is_fitted(self)
        return self.mixture_.n_iter_

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Estimate the mixture from the observed values.

        Parameters
        ----------
        X : array-like, DataFrame or Tensor of shape (N, D)
            The data; NaN marks a missing value.
        y : Ignored
            Not used, present for API consistency by convention.
        sample_weight : array-like of shape (N,), default=None
            Weights of the samples.

        Returns
        -------
        self : object
            The fitted imputer.

        Raises
        ------
        ValueError
            If a parameter or the data are not usable, or no feature has a value.
        TypeError
            If the data are sparse, or read in batches, as a `Dataset` is.
        """
        validate_parameters(self)
        advice = "fit sklearn_torch_gmm.mixture.GaussianMixture with missing='em' to it"
        check_in_memory(self, X, advice)
        with as_before_on_failure(self):
            X = validate_rows(self, X, reset=True, ensure_min_samples=2)
            weighted = rows_of(X)
            if sample_weight is not None:
                has_weight = validate_weights(sample_weight, len(weighted)) > 0
                weighted = weighted[torch.from_numpy(has_weight).to(weighted.device)]
            kept = ~weighted.isnan().all(0)
            if not kept.any():
                msg = "No feature of X has an observed value: a mixture needs at least one."
                raise ValueError(msg)
            mixture = GaussianMixture(
                **{name: getattr(self, name) for name in _MIXTURE_PARAMETERS}, missing="em"
            )
            rows = X if kept.all() else rows_of(X)[:, kept]
            mixture.fit(rows, sample_weight=sample_weight)
            if hasattr(self, "feature_names_in_"):
                mixture.feature_names_in_ = self.feature_names_in_[kept.cpu().numpy()]
            self.indicator_ = None
            if self.add_indicator:
                indicator = MissingIndicator(features="missing-only", error_on_new=False)
                # An array, whatever the global setting for transformers is.
                indicator.set_output(transform="default")
                self.indicator_ = indicator.fit(weighted.cpu().numpy())
            self.mixture_, self.is_empty_ = mixture, ~kept.cpu().numpy()
        return self

    def transform(self, X: Any) -> Any:
        """Impute the missing values of samples, and return observed values exactly as they are.

        Parameters
        ----------
        X : array-like, DataFrame or Tensor of shape (N, D)
            Samples; NaN marks a missing value.

        Returns
        -------
        X : ndarray or Tensor of shape (N, D)
            Without the features that are removed, and with the columns of the indicator.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_torch_gmm.impute import GaussianMixtureImputer
        >>> X = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.1]])
        >>> GaussianMixtureImputer().fit(X).transform([[np.nan, 2.5]]).round(1)
        array([[2.4, 2.5]])
        """
        check_is_fitted(self)
        check_in_memory(self, X)
        X = validate_rows(self, X, reset=False)
        rows = rows_of(X)
        kept = torch.from_numpy(~self.is_empty_).to(rows.device)
        inference = inference_of(self.mixture_, device_of(X))
        assert isinstance(inference, GapInference)
        filled = self._filled(inference, rows[:, kept])
        if self.keep_empty_features and self.is_empty_.any():
            # Missing values of features without any value in `fit` become zero.
            values, filled = filled, torch.where(rows.isnan(), 0.0, rows)
            filled[:, kept] = values
        if self.indicator_ is not None:
            marks = torch.from_numpy(self.indicator_.transform(_as_array(X)))
            filled = torch.cat([filled, marks.to(filled)], dim=1)
        return filled if isinstance(X, Tensor) else filled.cpu().numpy()

    def _filled(self, inference: GapInference, rows: Tensor) -> Tensor:
        if not self.sample_posterior:
            return evaluate(inference, "completed", rows)
        random_state = check_random_state(self.random_state)

        def noise(num_rows: int, num_features: int) -> tuple[Tensor, Tensor]:
            uniform = random_state.random_sample(num_rows)
            normal = random_state.standard_normal(size=(num_rows, num_features))
            return torch.from_numpy(uniform), torch.from_numpy(normal)

        with threads_for(inference, rows):
            return inference.drawn(rows, noise)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return the names of the columns that :meth:`transform` returns.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the features; None takes the names seen in :meth:`fit`, or x0, x1 and so on.

        Returns
        -------
        names : ndarray of str

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_torch_gmm.impute import GaussianMixtureImputer
        >>> X = np.array([[0.0, 1.0], [1.0, np.nan], [2.0, 4.0]])
        >>> imputer = GaussianMixtureImputer(add_indicator=True).fit(X)
        >>> imputer.get_feature_names_out().tolist()
        ['x0', 'x1', 'missingindicator_x1']
        """
        check_is_fitted(self)
        given = super().get_feature_names_out(input_features)
        names: npt.NDArray[np.object_] = given
        if not self.keep_empty_features:
            names = given[~self.is_empty_]
        if self.indicator_ is None:
            return names
        marks = self.indicator_.get_feature_names_out(given)
        return np.concatenate([names, marks])


def _as_array(X: Any) -> npt.NDArray[np.floating[Any]]:
    return X.cpu().numpy() if isinstance(X, Tensor) else X

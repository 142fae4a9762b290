"""The drop-in class for :mod:`sklearn.mixture`: only the name of the package changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.mixture import GaussianMixture as ScikitLearnMixture

from sklearn_torch_gmm._estimator.base import BaseGaussianMixture
from sklearn_torch_gmm._estimator.drop_in import (
    DropIn,
    InitParams,
    continues,
    loop_settings_of,
    printer_of,
)
from sklearn_torch_gmm._estimator.fitted_state import fitted_parameters
from sklearn_torch_gmm._estimator.fixed_parts import Fixed, fixed_parts_of
from sklearn_torch_gmm._estimator.hooks import open_to_hooks
from sklearn_torch_gmm._estimator.missing import Missing
from sklearn_torch_gmm._estimator.starting_values import (
    check_means,
    check_positive_definite,
    check_strategy,
    check_weights,
)
from sklearn_torch_gmm._estimator.vocabulary import starts_from_array
from sklearn_torch_gmm.bayesian_mixture import BayesianGaussianMixture
from sklearn_torch_gmm.core.covariance import CovarianceType, get_structure
from sklearn_torch_gmm.em.estimation import MaximumLikelihood, Regularization
from sklearn_torch_gmm.em.settings import Acceleration, FitSettings, StartFunction, StartSettings
from sklearn_torch_gmm.rows.random_numbers import RandomNumbers

__all__ = ["BayesianGaussianMixture", "GaussianMixture"]


class GaussianMixture(DropIn, BaseGaussianMixture, ScikitLearnMixture):
    """Gaussian mixture with scikit-learn's parameters, random numbers and results.

    A drop-in for :class:`sklearn.mixture.GaussianMixture`: with the same `random_state` it starts
    from the same parameters, stops after the same number of iterations, and returns the same result
    up to rounding.

    Parameters
    ----------
    n_components : int, default=1
        K, the number of Gaussian components.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
        The structure of the covariances: a matrix for each component ('full'), one matrix for all
        components ('tied'), a variance for each feature ('diag') or one variance ('spherical').
    tol : float, default=1e-3
        Convergence threshold: EM stops when the mean log-likelihood, in nats per sample, changes by
        less than this.
    reg_covar : float, default=1e-6
        Regularization that is added once to each variance, in squared units of the data.
    max_iter : int, default=100
        Maximum number of iterations.
    n_init : int, default=1
        Number of initializations; the best result is kept. They share the passes over the data.
    init_params : {'kmeans', 'k-means++', 'random', 'random_from_data'}, callable or array-like, \
default='kmeans'
        The initialization of EM: the clusters of K-means, the samples that K-means++ selects,
        random responsibilities, or random samples. A function ``f(X, n_components, random_state)``
        returns means (K, D), to which the nearest samples are assigned, or labels (N,). An array
        holds labels (N,) or responsibilities (N, K). A sample labelled -1, for unknown, is assigned
        to the nearest mean of the others.
    weights_init : array-like of shape (n_components,), default=None
        Initial weights, instead of the weights found by `init_params`.
    means_init : array-like of shape (n_components, n_features), default=None
        Initial means, instead of the means found by `init_params`.
    precisions_init : array-like, default=None
        Initial precisions in the shape of `precisions_`, instead of those found by `init_params`.
    random_state : int, RandomState instance or None, default=None
        Determines the random numbers of the initialization and of :meth:`sample`.
    warm_start : bool, default=False
        Whether a further call of :meth:`fit` continues from the result of the last one; `n_init` is
        then ignored.
    verbose : int, default=0
        1 prints each initialization and some iterations, 2 also prints times and changes. The
        initializations then run one after another.
    verbose_interval : int, default=10
        Number of iterations between two prints.
    batch_size : int, default=None
        Number of samples per batch. With None, an array in memory is one batch, and other data are
        read in batches of about 32 MiB. The result does not depend on it. A ``DataLoader`` keeps
        its own batches.
    num_workers : int, default=0
        Number of processes that read ahead in a :class:`torch.utils.data.Dataset`.
    trainer_params : dict, default=None
        Keyword arguments of :class:`pytorch_lightning.Trainer`, except `max_epochs`, which is
        `max_iter`.
    fixed : tuple of {'weights', 'means', 'covariances'}, or dict, default=()
        Parts of the mixture that EM keeps at their initial values, whether given or found by the
        initialization. A dict such as ``{"means": [0, 2]}`` fixes the parts of single components:
        component numbers, a bool mask (K,), or True for all. The other parameters are the
        maximum-likelihood estimates given these; the other weights share the remaining probability.
    acceleration : {'squarem'} or None, default=None
        Whether EM extrapolates its steps, for fits that converge slowly. EM then stops when a step
        changes the likelihood by less than a tenth of `tol`. At a tolerance of 1e-6 it takes at
        most half of the iterations; at the default of 1e-3 it takes no fewer. An iteration is one
        pass over the data, even if its extrapolation is rejected.
    missing : {'error', 'em'}, default='error'
        'error' rejects NaN in the data. 'em' takes NaN as a value that was not observed: EM
        maximizes the likelihood of the observed values, which is valid if values are missing at
        random. Predictions and scores use the marginal density of the observed values of a sample.

    Attributes
    ----------
    model_ : GaussianMixtureModel
        The fitted mixture as a torch module.
    weights_ : ndarray of shape (K,)
        Component probabilities.
    means_ : ndarray of shape (K, D)
        Mean of each component.
    covariances_ : ndarray
        Covariances, of shape (K, D, D) for 'full', (D, D) for 'tied', (K, D) for 'diag' and (K,)
        for 'spherical'.
    precisions_ : ndarray
        Inverse covariances, in the shape of `covariances_`.
    precisions_cholesky_ : ndarray
        Upper-triangular factors U of the precisions U Uᵀ, in the shape of `covariances_`.
    converged_ : bool
        Whether the best initialization converged.
    n_iter_ : int
        Number of iterations of the best initialization.
    lower_bound_ : float
        Mean log-likelihood at the last iteration of the best initialization, in nats per sample.
    lower_bounds_ : list of float
        The same at each of its iterations.
    labels_ : ndarray of shape (N,)
        Most probable component of each sample, for an array or a tensor.
    known_parts_ : list of str, or dict of str to list of int
        Fixed parts that were given rather than estimated, or their components if not all are;
        :meth:`bic` and :meth:`aic` do not count their parameters.
    regularization_ : ndarray of shape (K,)
        Regularization that the variances of each component include, in squared units of the data:
        zero if its covariance was given.
    n_samples_seen_ : float
        Number of samples seen in :meth:`fit` and :meth:`partial_fit`, or the sum of their weights.
    n_features_in_ : int
        Number of features seen in :meth:`fit`.
    feature_names_in_ : ndarray of shape (D,)
        Names of the features, if `X` has any.

    See Also
    --------
    sklearn_torch_gmm.GaussianMixture : The same mixture with names familiar to torch users.

    References
    ----------
    C. M. Bishop, Pattern Recognition and Machine Learning (2006), section 9.2.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_torch_gmm.mixture import GaussianMixture
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> mixture = GaussianMixture(n_components=2, random_state=0).fit(X)
    >>> mixture.means_.round(3)
    array([[10.,  2.],
           [ 1.,  2.]])
    >>> mixture.predict([[0, 0], [12, 3]])
    array([1, 0])
    >>> mixture.n_clusters, mixture.precisions_.shape, mixture.model_.means.dtype
    (2, (2, 2, 2), torch.float64)
    >>> mixture.clone().set_params(n_components=1).fit_predict(X)
    array([0, 0, 0, 0, 0, 0])
    >>> mixture.partial_fit(X + 0.1).n_samples_seen_
    12.0
    """

    partial_fit = open_to_hooks(BaseGaussianMixture.partial_fit)
    bic = open_to_hooks(BaseGaussianMixture.bic)
    aic = open_to_hooks(BaseGaussianMixture.aic)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ScikitLearnMixture._parameter_constraints,
        **BaseGaussianMixture._parameter_constraints,
        **DropIn._parameter_constraints,
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: CovarianceType = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: InitParams | StartFunction | npt.ArrayLike = "kmeans",
        weights_init: npt.ArrayLike | None = None,
        means_init: npt.ArrayLike | None = None,
        precisions_init: npt.ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        batch_size: int | None = None,
        num_workers: int = 0,
        trainer_params: Mapping[str, Any] | None = None,
        fixed: Fixed = (),
        acceleration: Acceleration | None = None,
        missing: Missing = "error",
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.trainer_params = trainer_params
        self.fixed = fixed
        self.acceleration = acceleration
        self.missing = missing

    def _fit_settings(self, num_features: int, random: RandomNumbers) -> FitSettings:
        structure = get_structure(self.covariance_type)
        weights, means, precisions = self.weights_init, self.means_init, self.precisions_init
        if weights is not None:
            weights = check_weights(weights, self.n_components)
        if means is not None:
            means = check_means(means, (self.n_components, num_features))
        if precisions is not None:
            precisions = check_positive_definite(
                precisions,
                self.n_components,
                num_features,
                structure,
                f"{structure.name} precision",
            )
        start = StartSettings(
            strategy=check_strategy(self.init_params, self.n_components, "init_params"),
            weights=weights,
            means=means,
            precisions=precisions,
        )
        # As in scikit-learn, the fitted mixture decides about the number of components.
        fitted = len(getattr(self, "means_", ()))
        is_continued = continues(self, fitted, num_features)
        if is_continued:
            start = StartSettings(previous=fitted_parameters(self))
            # partial_fit empties lower_bounds_, since the bound of a batch is not comparable.
            if getattr(self, "lower_bounds_", True) and hasattr(self, "lower_bound_"):
                start = replace(start, previous_lower_bound=self.lower_bound_)
        return FitSettings(
            num_components=self.n_components,
            covariance_type=self.covariance_type,
            start=start,
            random=random,
            # With given labels or responsibilities all restarts would be identical.
            num_init=1 if is_continued or starts_from_array(self) else self.n_init,
            regularization=Regularization(
                float(self.reg_covar),
                "reg_covar",
                # scikit-learn sets the variance of an empty component to reg_covar, or fails.
                keep_empty=self.reg_covar > 0,
                keep_rounding=True,
            ),
            loop=replace(loop_settings_of(self), acceleration=self.acceleration),
            estimation=MaximumLikelihood(fixed_parts_of(self)),
            progress=printer_of(self),
        )

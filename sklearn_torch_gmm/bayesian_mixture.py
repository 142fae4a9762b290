"""Variational Bayesian mixture with scikit-learn's interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from sklearn.mixture import BayesianGaussianMixture as ScikitLearnMixture
from torch import Tensor

from sklearn_torch_gmm._estimator import posterior
from sklearn_torch_gmm._estimator.drop_in import (
    DropIn,
    InitParams,
    continues,
    loop_settings_of,
    printer_of,
)
from sklearn_torch_gmm._estimator.starting_values import check_strategy
from sklearn_torch_gmm._estimator.vocabulary import starts_from_array
from sklearn_torch_gmm.core.covariance import CovarianceType
from sklearn_torch_gmm.em.estimation import Regularization
from sklearn_torch_gmm.em.settings import FitSettings, StartFunction, StartSettings
from sklearn_torch_gmm.em.variational import VariationalBayes
from sklearn_torch_gmm.rows.random_numbers import RandomNumbers

PriorType = Literal["dirichlet_process", "dirichlet_distribution"]
"""Names of the priors of the weights, which the class describes."""


class BayesianGaussianMixture(DropIn, ScikitLearnMixture):
    """Variational Bayesian mixture with scikit-learn's parameters, random numbers and results.

    A drop-in for :class:`sklearn.mixture.BayesianGaussianMixture`: with the same `random_state` it
    starts from the same parameters, stops after the same number of iterations, and returns the same
    result up to rounding. Components that the data do not need get a posterior weight near zero, so
    `n_components` is an upper bound on the number of components in use.

    Parameters
    ----------
    n_components : int, default=1
        K, the maximum number of Gaussian components.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
        The structure of the covariances: a matrix for each component ('full'), one matrix for all
        components ('tied'), a variance for each feature ('diag') or one variance ('spherical').
    tol : float, default=1e-3
        Convergence threshold: the fit stops when the lower bound on the log-evidence of all
        samples changes by less than this, in nats.
    reg_covar : float, default=1e-6
        Regularization that is added to each variance, in squared units of the data.
    max_iter : int, default=100
        Maximum number of iterations.
    n_init : int, default=1
        Number of initializations; the best result is kept. They share the passes over the data.
    init_params : {'kmeans', 'k-means++', 'random', 'random_from_data'}, callable or array-like, \
default='kmeans'
        The initialization: the clusters of K-means, the samples that K-means++ selects, random
        responsibilities, or random samples. A function ``f(X, n_components, random_state)`` returns
        means (K, D), to which the nearest samples are assigned, or labels (N,). An array holds
        labels (N,) or responsibilities (N, K).
    weight_concentration_prior_type : {'dirichlet_process', 'dirichlet_distribution'}, \
default='dirichlet_process'
        The prior of the weights: a Dirichlet process, truncated to K components, or a Dirichlet
        distribution.
    weight_concentration_prior : float, default=None
        Concentration of the prior of the weights: the smaller, the fewer components remain. The
        default is 1 / K.
    mean_precision_prior : float, default=None
        Precision of the prior of the means, as an equivalent number of samples. The default is 1.
    mean_prior : array-like of shape (D,), default=None
        Center of the prior of the means. The default is the mean of the samples.
    degrees_of_freedom_prior : float, default=None
        Degrees of freedom of the prior of the covariances, as an equivalent number of samples;
        greater than D − 1. The default is D.
    covariance_prior : float or array-like, default=None
        Scale of the prior of the covariances: of shape (D, D) for 'full' and 'tied', (D,) for
        'diag', a number for 'spherical'. The default is the covariance of the samples.
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

    Attributes
    ----------
    model_ : GaussianMixtureModel
        The mixture of the Gaussians with `weights_`, `means_` and `covariances_`, as a torch
        module. It is the mixture that :meth:`sample` draws from; :meth:`predict_proba` and
        :meth:`score_samples` also take the uncertainty of the posterior into account.
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
    weight_concentration_ : tuple of two ndarrays of shape (K,), or ndarray of shape (K,)
        Parameters of the posterior of the weights: of the beta distributions of the Dirichlet
        process, or of the Dirichlet distribution.
    mean_precision_ : ndarray of shape (K,)
        Precision of the posterior of each mean, as an equivalent number of samples.
    degrees_of_freedom_ : ndarray of shape (K,), or float for 'tied'
        Degrees of freedom of the posterior of each covariance.
    weight_concentration_prior_ : float
        The concentration of the prior of the weights.
    mean_precision_prior_ : float
        The precision of the prior of the means.
    mean_prior_ : ndarray of shape (D,)
        The center of the prior of the means.
    degrees_of_freedom_prior_ : float
        The degrees of freedom of the prior of the covariances.
    covariance_prior_ : float or ndarray
        The scale of the prior of the covariances.
    converged_ : bool
        Whether the best initialization converged.
    n_iter_ : int
        Number of iterations of the best initialization.
    lower_bound_ : float
        Lower bound on the log-evidence of all samples, up to a constant, at the last iteration of
        the best initialization, in nats.
    lower_bounds_ : list of float
        The same at each of its iterations.
    labels_ : ndarray of shape (N,)
        Most probable component of each sample, for an array or a tensor.
    n_samples_seen_ : float
        Number of samples seen in :meth:`fit`, or the sum of their weights.
    n_features_in_ : int
        Number of features seen in :meth:`fit`.
    feature_names_in_ : ndarray of shape (D,)
        Names of the features, if `X` has any.

    See Also
    --------
    sklearn_torch_gmm.mixture.GaussianMixture : Maximum likelihood, with a given number of
        components.

    References
    ----------
    C. M. Bishop, Pattern Recognition and Machine Learning (2006), section 10.2. D. M. Blei and
    M. I. Jordan, Variational inference for Dirichlet process mixtures (2006).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_torch_gmm.mixture import BayesianGaussianMixture
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [4, 2], [12, 4], [10, 7]])
    >>> mixture = BayesianGaussianMixture(n_components=2, random_state=42).fit(X)
    >>> mixture.means_.round(1)
    array([[2.5, 2.3],
           [8.5, 4.5]])
    >>> mixture.predict([[0, 0], [9, 3]])
    array([0, 1])
    >>> mixture.n_clusters, mixture.precisions_.shape, mixture.model_.means.dtype
    (2, (2, 2, 2), torch.float64)
    >>> mixture.clone().set_params(n_components=1).fit_predict(X)
    array([0, 0, 0, 0, 0, 0])
    """

    _counterpart = ScikitLearnMixture
    _persistent_attributes = (*DropIn._persistent_attributes, *posterior.ATTRIBUTES)
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ScikitLearnMixture._parameter_constraints,
        **DropIn._parameter_constraints,
    }

    def __init__(
        self,
        *,
        n_components: int = 1,
        covariance_type: CovarianceType = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: InitParams | StartFunction | npt.ArrayLike = "kmeans",
        weight_concentration_prior_type: PriorType = "dirichlet_process",
        weight_concentration_prior: float | None = None,
        mean_precision_prior: float | None = None,
        mean_prior: npt.ArrayLike | None = None,
        degrees_of_freedom_prior: float | None = None,
        covariance_prior: npt.ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        batch_size: int | None = None,
        num_workers: int = 0,
        trainer_params: Mapping[str, Any] | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weight_concentration_prior_type = weight_concentration_prior_type
        self.weight_concentration_prior = weight_concentration_prior
        self.mean_precision_prior = mean_precision_prior
        self.mean_prior = mean_prior
        self.degrees_of_freedom_prior = degrees_of_freedom_prior
        self.covariance_prior = covariance_prior
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.trainer_params = trainer_params

    def _fit_settings(self, num_features: int, random: RandomNumbers) -> FitSettings:
        start = StartSettings(check_strategy(self.init_params, self.n_components, "init_params"))
        prior = posterior.prior_from(self, num_features)
        is_continued = continues(self, self.n_components, num_features)
        if is_continued:
            start = StartSettings(
                previous=posterior.fitted_parameters(self), previous_lower_bound=self.lower_bound_
            )
        return FitSettings(
            num_components=self.n_components,
            covariance_type=self.covariance_type,
            start=start,
            random=random,
            # With given labels or responsibilities all restarts would be identical.
            num_init=1 if is_continued or starts_from_array(self) else self.n_init,
            regularization=Regularization(float(self.reg_covar), "reg_covar"),
            estimation=VariationalBayes(prior),
            loop=loop_settings_of(self),
            progress=printer_of(self),
        )

    def _keep_parameters(self, parameters: Any, settings: FitSettings, dtype: Any) -> None:
        posterior.set_parameters(self, parameters, dtype)

    def _added_log_weights(self) -> Tensor:
        return posterior.log_weights_of(self)

"""The class for users of torch and Lightning, with PyCave's parameters and methods."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from sklearn_torch_gmm._estimator.base import BaseGaussianMixture
from sklearn_torch_gmm._estimator.constraints import Numbers
from sklearn_torch_gmm._estimator.fixed_parts import Fixed, fixed_parts_of
from sklearn_torch_gmm._estimator.missing import Missing
from sklearn_torch_gmm._estimator.progress_bars import progress_bars
from sklearn_torch_gmm._estimator.sampling import draw
from sklearn_torch_gmm._estimator.starting_values import check_strategy
from sklearn_torch_gmm._estimator.vocabulary import Vocabulary, starts_from_array
from sklearn_torch_gmm._private_parts import StrOptions, validate_parameters
from sklearn_torch_gmm.core.counts import check_count, is_number
from sklearn_torch_gmm.core.covariance import CovarianceType
from sklearn_torch_gmm.em.estimation import MaximumLikelihood, Regularization
from sklearn_torch_gmm.em.progress import Monitor
from sklearn_torch_gmm.em.settings import (
    Acceleration,
    FitSettings,
    LoopSettings,
    StartFunction,
    StartSettings,
)
from sklearn_torch_gmm.rows.checks import check_floats
from sklearn_torch_gmm.rows.random_numbers import RandomNumbers
from sklearn_torch_gmm.training.fit import lightning_loop
from sklearn_torch_gmm.training.quiet import quiet_lightning

if TYPE_CHECKING:
    import pytorch_lightning as pl

InitStrategy = Literal["random", "kmeans", "kmeans++"]
"""Names of initializations of EM, which the class describes."""

DEFAULT_MAX_EPOCHS = 100
"""PyCave's and scikit-learn's default; twice as many double the time of an unconverged fit."""

_SCIKIT_LEARN_NAMES = {
    "num_components": "n_components",
    "covariance_type": "covariance_type",
    "convergence_tolerance": "tol",
    "covariance_regularization": "reg_covar",
    "num_init": "n_init",
    "random_state": "random_state",
}

_SCIKIT_LEARN_STARTS = {"random": "random", "kmeans": "kmeans", "kmeans++": "k-means++"}
"""scikit-learn's closest strategies; for 'kmeans++' the initial parameters differ slightly."""


class GaussianMixture(BaseGaussianMixture):
    """Gaussian mixture fitted by expectation–maximization, on PyTorch and Lightning.

    One epoch is one exact EM iteration, regardless of the number of batches and processes.

    Parameters
    ----------
    num_components : int, default=1
        K, the number of Gaussian components.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='diag'
        The structure of the covariances: a matrix for each component ('full'), one matrix for all
        components ('tied'), a variance for each feature ('diag') or one variance ('spherical').
    init_strategy : {'random', 'kmeans', 'kmeans++'}, callable or array-like, default='kmeans'
        The initialization of EM: random responsibilities, the clusters of K-means, or the samples
        that K-means++ selects, with the samples nearest to each of them. A function ``f(X,
        num_components, random_state)`` returns means (K, D), to which the nearest samples are
        assigned, or labels (N,). An array holds labels (N,) or responsibilities (N, K). A sample
        labelled -1, for unknown, is assigned to the nearest mean of the others.
    init_means : array-like of shape (num_components, num_features), default=None
        Initial means, instead of `init_strategy`. Samples are assigned to their nearest mean, and
        the initial weights and covariances are estimated from these assignments.
    convergence_tolerance : float, default=0.001
        Convergence threshold: EM stops when the mean negative log-likelihood, in nats per
        sample, changes by less than this.
    covariance_regularization : float, default=1e-06
        Regularization that is added once to each variance, in squared units of the data.
    batch_size : int, default=None
        Number of samples per batch. With None, an array in memory is one batch, and other data are
        read in batches of about 32 MiB. The result does not depend on it. A ``DataLoader`` keeps
        its own batches.
    trainer_params : dict, default=None
        Keyword arguments of :class:`pytorch_lightning.Trainer`. `max_epochs` is the maximum number
        of iterations, 100 by default, and `min_epochs` the minimum, even after convergence.
    num_workers : int, default=0
        Number of processes that read ahead in a :class:`torch.utils.data.Dataset`.
    num_init : int, default=1
        Number of initializations; the best result is kept. They share the passes over the data.
    random_state : int, RandomState instance or None, default=None
        Determines the random numbers of the initialization and of :meth:`sample`.
    fixed : tuple of {'weights', 'means', 'covariances'}, or dict, default=()
        Parts of the mixture that EM keeps at their initial values, whether given or found by the
        initialization. A dict such as ``{"means": [0, 2]}`` fixes the parts of single components:
        component numbers, a bool mask (K,), or True for all. The other parameters are the
        maximum-likelihood estimates given these; the other weights share the remaining probability.
    acceleration : {'squarem'} or None, default=None
        Whether EM extrapolates its steps, for fits that converge slowly. EM then stops when a step
        changes the likelihood by less than a tenth of `convergence_tolerance`. At a tolerance of
        1e-6 it takes at most half of the iterations; at the default of 1e-3 it takes no fewer. An
        iteration is one pass over the data, even if its extrapolation is rejected.
    missing : {'error', 'em'}, default='error'
        'error' rejects NaN in the data. 'em' takes NaN as a value that was not observed: EM
        maximizes the likelihood of the observed values, which is valid if values are missing at
        random. Predictions and scores use the marginal density of the observed values of a sample.
    verbose : int, default=0
        1 shows the progress of :meth:`fit` on stderr: the initializations, then the iterations.

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
        Whether the change fell below the tolerance before the epochs ran out.
    num_iter_ : int
        Number of EM iterations of the best initialization.
    nll_ : float
        Mean negative log-likelihood at the last training step, in nats per sample.
    n_iter_, lower_bound_, lower_bounds_
        The same under scikit-learn's names: the number of iterations, and the mean log-likelihood
        at the last training step and at each of them.
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
    sklearn_torch_gmm.mixture.GaussianMixture : The same mixture with scikit-learn's signature.

    Notes
    -----
    With more than max(100,000, 256 K) samples, the initialization uses a random sample of this
    size. For a given `random_state`, it is the same whether `X` is an array, a tensor, a file or a
    stream. Labels or responsibilities passed as `init_strategy` are used for all samples.

    :meth:`score` and :meth:`score_samples` return the log-likelihood, where larger is better, as
    scikit-learn's model selection requires; PyCave returns the negative log-likelihood.

    References
    ----------
    C. M. Bishop, Pattern Recognition and Machine Learning (2006), section 9.2.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0.0]])
    >>> mixture = GaussianMixture(num_components=2, random_state=0).fit(X)
    >>> mixture.means_.round(3)
    array([[10.,  2.],
           [ 1.,  2.]])
    >>> mixture.predict([[0, 0], [12, 3]])
    array([1, 0])

    Other names of the results, and updates of the mixture:

    >>> mixture.num_iter_, round(mixture.nll_, 3), mixture.n_clusters
    (2, -3.386, 2)
    >>> log_responsibilities, log_prob = mixture.model_(torch.tensor(X))
    >>> mixture.precisions_.shape
    (2, 2)
    >>> mixture.clone().set_params(num_components=1).fit_predict(X)
    array([0, 0, 0, 0, 0, 0])
    >>> mixture.partial_fit(X + 0.1).n_samples_seen_
    12.0
    """

    _vocabulary = Vocabulary(
        components="num_components",
        start="init_strategy",
        convergence_advice=(
            "The mixture did not converge. Increase max_epochs in trainer_params or "
            "convergence_tolerance, try another initialization, or check for degenerate data."
        ),
    )

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseGaussianMixture._parameter_constraints,
        "num_components": [Numbers(Integral, 1)],
        "init_strategy": [StrOptions(set(get_args(InitStrategy))), callable, "array-like"],
        "init_means": ["array-like", None],
        "convergence_tolerance": [Numbers(Real, 0.0)],
        "covariance_regularization": [Numbers(Real, 0.0)],
        "num_init": [Numbers(Integral, 1)],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        num_components: int = 1,
        *,
        covariance_type: CovarianceType = "diag",
        init_strategy: InitStrategy | StartFunction | npt.ArrayLike = "kmeans",
        init_means: npt.ArrayLike | None = None,
        convergence_tolerance: float = 0.001,
        covariance_regularization: float = 1e-06,
        batch_size: int | None = None,
        trainer_params: Mapping[str, Any] | None = None,
        num_workers: int = 0,
        num_init: int = 1,
        random_state: int | np.random.RandomState | None = None,
        fixed: Fixed = (),
        acceleration: Acceleration | None = None,
        missing: Missing = "error",
        verbose: int = 0,
    ) -> None:
        self.num_components = num_components
        self.covariance_type = covariance_type
        self.init_strategy = init_strategy
        self.init_means = init_means
        self.convergence_tolerance = convergence_tolerance
        self.covariance_regularization = covariance_regularization
        self.batch_size = batch_size
        self.trainer_params = trainer_params
        self.num_workers = num_workers
        self.num_init = num_init
        self.random_state = random_state
        self.fixed = fixed
        self.acceleration = acceleration
        self.missing = missing
        self.verbose = verbose

    @property
    def num_iter_(self) -> int:
        """Number of EM iterations of the best initialization."""
        check_is_fitted(self)
        return int(self.n_iter_)

    @property
    def nll_(self) -> float:
        """Mean negative log-likelihood at the last training step, in nats per sample."""
        check_is_fitted(self)
        return -float(self.lower_bound_)

    def _monitor_of_fit(self) -> AbstractContextManager[Monitor | None]:
        return progress_bars(self.verbose)

    @classmethod
    def _own_parameters(cls, params: Mapping[str, Any]) -> dict[str, Any]:
        own = {
            ours: params[theirs] for ours, theirs in _SCIKIT_LEARN_NAMES.items() if theirs in params
        }
        for ours, theirs in _SCIKIT_LEARN_STARTS.items():
            if params["init_params"] == theirs:
                own["init_strategy"] = ours
        own["trainer_params"] = {"max_epochs": params["max_iter"]}
        return own

    def _scikit_learn_parameters(self) -> dict[str, Any]:
        params = {theirs: getattr(self, ours) for ours, theirs in _SCIKIT_LEARN_NAMES.items()}
        if isinstance(self.init_strategy, str):
            # scikit-learn takes neither functions nor arrays; a fitted mixture does not need them.
            params["init_params"] = _SCIKIT_LEARN_STARTS[self.init_strategy]
        max_epochs = (self.trainer_params or {}).get("max_epochs", DEFAULT_MAX_EPOCHS)
        # scikit-learn always limits the iterations.
        if max_epochs is not None and max_epochs >= 0:
            params["max_iter"] = max_epochs
        return params

    def _fit_settings(self, num_features: int, random: RandomNumbers) -> FitSettings:
        means = self.init_means
        if means is not None:
            means = check_floats(means, "init_means", allow_nd=True)
            wanted = (self.num_components, num_features)
            if means.shape != wanted:
                msg = (
                    "init_means must have the shape (num_components, num_features) = "
                    f"{wanted}, got {means.shape}."
                )
                raise ValueError(msg)
        trainer_params = dict(self.trainer_params or {})
        max_epochs = trainer_params.pop("max_epochs", DEFAULT_MAX_EPOCHS)
        # Lightning rejects other values without a message. -1 means no limit, None its own default.
        is_limit = is_number(max_epochs, Integral) and int(max_epochs) >= -1
        if max_epochs is not None and not is_limit:
            msg = (
                "max_epochs in trainer_params must be the maximum number of iterations, or -1 for "
                f"no limit, got {max_epochs!r}."
            )
            raise ValueError(msg)
        return FitSettings(
            num_components=self.num_components,
            covariance_type=self.covariance_type,
            start=StartSettings(
                strategy=check_strategy(self.init_strategy, self.num_components, "init_strategy"),
                nearest_means=means,
                # The values of an array belong to all rows.
                always_samples=not starts_from_array(self),
            ),
            random=random,
            # With given means, labels or responsibilities every restart would be the same.
            num_init=1 if means is not None or starts_from_array(self) else self.num_init,
            regularization=Regularization(float(self.covariance_regularization)),
            loop=LoopSettings(
                max_iter=max_epochs,
                tolerance=float(self.convergence_tolerance),
                batch_size=self.batch_size,
                num_workers=self.num_workers,
                trainer_params=trainer_params,
                acceleration=self.acceleration,
            ),
            components_name=self._vocabulary.components,
            estimation=MaximumLikelihood(fixed_parts_of(self)),
        )

    def sample(self, num_datapoints: int = 1) -> npt.NDArray[np.float64]:
        """Draw samples from the fitted mixture.

        Parameters
        ----------
        num_datapoints : int, default=1
            N, the number of samples.

        Returns
        -------
        datapoints : ndarray of shape (N, D)
            Sorted by component.

        Raises
        ------
        ValueError
            If `num_datapoints` is less than 1.

        Examples
        --------
        >>> from sklearn_torch_gmm import GaussianMixture
        >>> mixture = GaussianMixture.from_parameters(
        ...     [0.5, 0.5], [[0], [4]], [[[1]], [[1]]]
        ... )
        >>> mixture.sample(3).shape
        (3, 1)
        """
        check_is_fitted(self)
        rows, _ = draw(self, check_count(num_datapoints, "num_datapoints"))
        return rows

    def trainer(self, **kwargs: Any) -> pl.Trainer:
        """Return the trainer that :meth:`fit` would use.

        Parameters
        ----------
        **kwargs : dict
            Parameters that override `trainer_params`.

        Returns
        -------
        trainer : pytorch_lightning.Trainer

        Raises
        ------
        TypeError
            If the trainer does not have a parameter, or declares it with another type.
        ValueError
            If the trainer rejects a value, or a parameter of the estimator is not usable.

        Examples
        --------
        >>> from sklearn_torch_gmm import GaussianMixture
        >>> GaussianMixture(trainer_params={"accelerator": "cpu"}).trainer().max_epochs
        100
        """
        validate_parameters(self)
        with quiet_lightning():
            return lightning_loop().make_trainer(
                {**(self.trainer_params or {}), **kwargs}, max_epochs=DEFAULT_MAX_EPOCHS
            )

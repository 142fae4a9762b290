"""scikit-learn's face: put the package's name in front of ``.mixture``, and change nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from time import perf_counter
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from sklearn_torch_gmm._estimator.answers import draw
from sklearn_torch_gmm._estimator.base import BaseGaussianMixture
from sklearn_torch_gmm._estimator.constraints import Numbers
from sklearn_torch_gmm._estimator.fitted_state import fitted_parameters
from sklearn_torch_gmm._estimator.starting_values import (
    check_fixed,
    check_means,
    check_positive_definite,
    check_strategy,
    check_weights,
)
from sklearn_torch_gmm._estimator.vocabulary import Vocabulary, starts_from_array
from sklearn_torch_gmm._private_parts import Interval, StrOptions
from sklearn_torch_gmm.core.covariance import CovarianceType, get_structure
from sklearn_torch_gmm.core.fixed import Part
from sklearn_torch_gmm.em.settings import (
    FitSettings,
    LoopSettings,
    Regularization,
    StartFunction,
    StartSettings,
)

InitParams = Literal["kmeans", "k-means++", "random", "random_from_data"]
"""Where EM starts.

- ``"kmeans"``: the clusters of K-means;
- ``"k-means++"``: the rows that K-means++ picks;
- ``"random"``: each row belongs to every component by a random share;
- ``"random_from_data"``: random rows.
"""


class GaussianMixture(BaseGaussianMixture):
    """Gaussian mixture with scikit-learn's parameters, random numbers and results.

    A drop-in for :class:`sklearn.mixture.GaussianMixture`: with the same `random_state` it starts
    from the same parameters, stops after the same number of iterations, and gives the same result
    to rounding.

    Parameters
    ----------
    n_components : int, default=1
        K, the number of Gaussian components.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
        How the covariance of a component may look: a matrix of its own ('full'), one matrix for
        all ('tied'), a variance for each feature ('diag') or one variance ('spherical').
    tol : float, default=1e-3
        Smallest change of the mean log-likelihood, in nats per row, that goes on.
    reg_covar : float, default=1e-6
        Added once to each variance, in squared units of the data.
    max_iter : int, default=100
        Largest number of iterations.
    n_init : int, default=1
        Number of starts; the best result is kept. They share the passes over the data.
    init_params : {'kmeans', 'k-means++', 'random', 'random_from_data'}, callable or array-like, \
default='kmeans'
        Where EM starts: from the clusters of K-means, from the rows that K-means++ picks, from
        random responsibilities, or from random rows. A function ``f(X, n_components,
        random_state)`` returns means (K, D), each with the rows nearest to it, or labels (N,). An
        array holds labels (N,) or responsibilities (N, K).
    weights_init : array-like of shape (n_components,), default=None
        Weights to start from in place of those found by `init_params`.
    means_init : array-like of shape (n_components, n_features), default=None
        Means to start from in place of those found by `init_params`.
    precisions_init : array-like, default=None
        Precisions to start from in place of those found by `init_params`, in the shape of
        `precisions_`.
    random_state : int, RandomState instance or None, default=None
        Determines the random numbers of the start and of :meth:`sample`.
    warm_start : bool, default=False
        Whether a further call of :meth:`fit` starts where the last one ended; `n_init` is then
        ignored.
    verbose : int, default=0
        1 prints each start and some iterations, 2 also times and changes. The starts then run one
        after another.
    verbose_interval : int, default=10
        Number of iterations between two prints.
    batch_size : int, default=None
        Rows per batch; None: an array in memory is one batch, other data come in batches of about
        32 MiB. The result is the same. A ``DataLoader`` keeps its own batches.
    num_workers : int, default=0
        Processes that read ahead where a :class:`torch.utils.data.Dataset` is passed.
    trainer_params : dict, default=None
        Keyword arguments of :class:`pytorch_lightning.Trainer`, except `max_epochs`, which is
        `max_iter`.
    fixed : tuple of {'weights', 'means', 'covariances'}, default=()
        Parts that stay as they start, as given or as the start found them. The others are the
        likeliest beside them.

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
        Whether the best start converged.
    n_iter_ : int
        Number of iterations of the best start.
    lower_bound_ : float
        Mean log-likelihood at the last iteration of the best start, in nats per row.
    lower_bounds_ : list of float
        The same at each of its iterations.
    labels_ : ndarray of shape (N,)
        Most probable component of each row, for an array or a tensor.
    known_parts_ : list of str
        The fixed parts that were given, not found in data; :meth:`bic` and :meth:`aic` don't count
        them.
    n_samples_seen_ : float
        Number of rows seen in :meth:`fit` and :meth:`partial_fit`, or the sum of their weights.
    n_features_in_ : int
        Number of features seen in :meth:`fit`.
    feature_names_in_ : ndarray of shape (D,)
        Names of the columns, where `X` has any.

    See Also
    --------
    sklearn_torch_gmm.GaussianMixture : The same with the names that torch users know.

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

    _vocabulary = Vocabulary(
        components="n_components",
        start="init_params",
        convergence_advice=(
            "Best performing initialization did not converge. "
            "Try different init parameters, or increase max_iter, "
            "tol, or check for degenerate data."
        ),
    )

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseGaussianMixture._parameter_constraints,
        "n_components": [Numbers(Integral, 1)],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "reg_covar": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init_params": [
            StrOptions(set(get_args(InitParams))),
            callable,
            "array-like",
        ],
        "weights_init": ["array-like", None],
        "means_init": ["array-like", None],
        "precisions_init": ["array-like", None],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
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
        fixed: Sequence[Part] = (),
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

    @classmethod
    def _own_parameters(cls, params: Mapping[str, Any]) -> dict[str, Any]:
        return dict(params)

    def _scikit_learn_parameters(self) -> dict[str, Any]:
        ours_alone = {"batch_size", "num_workers", "trainer_params", "fixed"}
        if not isinstance(self.init_params, str):
            # A start of one's own has no name there, and a fitted mixture no need of it.
            ours_alone.add("init_params")
        # A subclass may have parameters of its own.
        names = set(GaussianMixture().get_params()) - ours_alone
        return {name: getattr(self, name) for name in names}

    def _fit_settings(self, num_features: int, random_state: np.random.RandomState) -> FitSettings:
        trainer_params = dict(self.trainer_params or {})
        if "max_epochs" in trainer_params:
            msg = (
                f"trainer_params holds max_epochs={trainer_params['max_epochs']!r} beside "
                f"max_iter={self.max_iter!r}; they are the same thing: use max_iter alone."
            )
            raise ValueError(msg)
        structure = get_structure(self.covariance_type)
        weights, means, precisions = self.weights_init, self.means_init, self.precisions_init
        if weights is not None:
            weights = check_weights(weights, self.n_components)
        if means is not None:
            means = check_means(means, (self.n_components, num_features))
        if precisions is not None:
            precisions = check_positive_definite(
                precisions, self.n_components, num_features, structure, "precision"
            )
        start = StartSettings(
            strategy=check_strategy(self.init_params, self.n_components, "init_params"),
            weights=weights,
            means=means,
            precisions=precisions,
        )
        goes_on = self.warm_start and hasattr(self, "converged_")
        if goes_on:
            self._check_previous_fit(num_features)
            start = StartSettings(
                previous=fitted_parameters(self),
                previous_lower_bound=self._previous_lower_bound(),
            )
        return FitSettings(
            num_components=self.n_components,
            covariance_type=self.covariance_type,
            start=start,
            random_state=random_state,
            # Of given labels or responsibilities every start would be the same.
            num_init=1 if goes_on or starts_from_array(self) else self.n_init,
            regularization=Regularization(
                float(self.reg_covar),
                "reg_covar",
                # scikit-learn gives a component without rows the variance reg_covar, or fails.
                keep_empty=self.reg_covar > 0,
                keep_rounding=True,
            ),
            loop=LoopSettings(
                max_iter=self.max_iter,
                tolerance=float(self.tol),
                batch_size=self.batch_size,
                num_workers=self.num_workers,
                trainer_params=trainer_params,
            ),
            fixed=check_fixed(self.fixed),
            progress=_Printer(self.verbose, self.verbose_interval) if self.verbose else None,
        )

    def _previous_lower_bound(self) -> float:
        """What the first iteration of a warm start is compared with."""
        # An update leaves no bounds, since its own is not one of all the data.
        is_of_fit = bool(getattr(self, "lower_bounds_", True))
        return getattr(self, "lower_bound_", -np.inf) if is_of_fit else -np.inf

    def _check_previous_fit(self, num_features: int) -> None:
        components = self.means_.shape[0]
        shape = get_structure(self.covariance_type).covariance_shape(components, num_features)
        if self.covariances_.shape != shape or self.means_.shape[1] != num_features:
            msg = (
                f"With warm_start=True the fit goes on from means of shape {self.means_.shape} and "
                f"covariances of shape {self.covariances_.shape}, but the data have {num_features} "
                f"features and covariance_type={self.covariance_type!r} wants covariances of shape "
                f"{shape}. Set warm_start=False to start anew."
            )
            raise ValueError(msg)

    def sample(self, n_samples: int = 1) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Draw rows from the fitted mixture, with the random numbers that scikit-learn draws.

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

        Examples
        --------
        >>> from sklearn_torch_gmm.mixture import GaussianMixture
        >>> mixture = GaussianMixture.from_parameters([0.5, 0.5], [[0], [4]], [[[1]], [[1]]])
        >>> X, y = mixture.sample(3)
        >>> X.shape, y.shape
        ((3, 1), (3,))
        """
        check_is_fitted(self)
        # scikit-learn takes 3.0 for a number, too.
        if not isinstance(n_samples, (int, float, np.number)) or n_samples % 1 != 0:
            msg = f"Invalid value for 'n_samples': {n_samples!r} is no whole number."
            raise ValueError(msg)
        if n_samples < 1:
            msg = (
                f"Invalid value for 'n_samples': {n_samples} . The sampling requires at least one "
                "sample."
            )
            raise ValueError(msg)
        return draw(self, int(n_samples))


class _Printer:
    """Prints the lines that scikit-learn prints."""

    def __init__(self, verbose: int, interval: int) -> None:
        self._tells_times = verbose >= 2
        self._interval = interval
        self._start_time = 0.0
        self._last_time = 0.0

    def start(self, index: int) -> None:
        print(f"Initialization {index}")
        self._start_time = self._last_time = perf_counter()

    def iteration(self, number: int, change: float) -> None:
        if number % self._interval != 0:
            return
        if self._tells_times:
            now = perf_counter()
            elapsed = now - self._last_time
            print(f"  Iteration {number}\t time lapse {elapsed:.5f}s\t ll change {change:.5f}")
            self._last_time = now
        else:
            print(f"  Iteration {number}")

    def end(self, lower_bound: float, converged: bool) -> None:
        outcome = "converged" if converged else "did not converge"
        if self._tells_times:
            elapsed = perf_counter() - self._start_time
            print(
                f"Initialization {outcome}. time lapse {elapsed:.5f}s\t lower bound "
                f"{lower_bound:.5f}."
            )
        else:
            print(f"Initialization {outcome}.")

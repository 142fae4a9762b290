"""Choice of the number of components, by fitting many mixtures in the same passes over the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils import check_random_state

from sklearn_torch_gmm._estimator.constraints import Numbers, covariance_types
from sklearn_torch_gmm._estimator.fit_data import FitData, read_data
from sklearn_torch_gmm._estimator.fitted_state import keep_result
from sklearn_torch_gmm._estimator.missing import Missing
from sklearn_torch_gmm._estimator.mixin import PackageEstimatorMixin
from sklearn_torch_gmm._estimator.outcome import as_before_on_failure, warn_of_outcome
from sklearn_torch_gmm._estimator.progress_bars import ProgressBars, progress_bars
from sklearn_torch_gmm._estimator.size import check_size
from sklearn_torch_gmm._estimator.validation import given
from sklearn_torch_gmm._private_parts import StrOptions, validate_parameters
from sklearn_torch_gmm._selection import results as sweep
from sklearn_torch_gmm._selection.agreement import mean_agreement
from sklearn_torch_gmm._selection.candidates import ALL_TYPES, check_stability, covariance_types_of
from sklearn_torch_gmm._selection.criteria import CRITERIA, summary
from sklearn_torch_gmm._selection.cross_validation import cross_validate
from sklearn_torch_gmm._selection.delegation import ChosenMixture
from sklearn_torch_gmm.core.covariance import CovarianceType
from sklearn_torch_gmm.criterion_display import CriterionDisplay
from sklearn_torch_gmm.em.failures import check_number_of_rows
from sklearn_torch_gmm.em.restarts import raise_if_all_failed
from sklearn_torch_gmm.em.results import FitResult
from sklearn_torch_gmm.em.settings import Acceleration, StartFunction
from sklearn_torch_gmm.mixture import GaussianMixture, InitParams
from sklearn_torch_gmm.rows.kinds import is_read_in_pieces
from sklearn_torch_gmm.training.fit import fit_sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from typing_extensions import Self

Criterion = Literal["bic", "aic", "icl", "cv", "stability"]
"""An information criterion to minimize; held-out likelihood or agreement to maximize."""

_CROSS_VALIDATION = "cv"
_STABILITY = "stability"

_SHARED_PARAMETERS = (
    "n_init", "tol", "reg_covar", "verbose", "batch_size", "num_workers", "trainer_params",
    "random_state", "acceleration", "missing",
)  # fmt: skip
"""Parameters with the same constraints as those of a single mixture."""


class GaussianMixtureIC(ChosenMixture, PackageEstimatorMixin, ClusterMixin, BaseEstimator):
    """Gaussian mixture whose number of components and covariances are chosen by a criterion.

    Fits a mixture for each number of components, covariance type and initialization, all in the
    same passes over the data, and keeps the best. Each result is the same as that of a separate
    :class:`sklearn_torch_gmm.mixture.GaussianMixture` with the same seed.

    Parameters
    ----------
    min_components : int, default=2
        The minimum number of components.
    max_components : int, default=10
        The maximum number of components.
    covariance_type : {'full', 'tied', 'diag', 'spherical', 'all'} or list, default='all'
        The covariance types to try.
    criterion : {'bic', 'aic', 'icl', 'cv', 'stability'}, default='bic'
        The criterion of the choice: the smallest Bayesian or Akaike information criterion, the
        smallest integrated completed likelihood, the largest mean log-likelihood of held-out
        samples, or the best agreement of initializations, which needs `n_init` of at least 2.
    cv : int, splitter or iterable, default=5
        With ``criterion='cv'``: the number of shuffled folds, a scikit-learn splitter, or pairs of
        indices. The samples must then be in memory.
    n_init : int, default=1
        Number of initializations for each number of components.
    init_params : {'kmeans', 'k-means++', 'random', 'random_from_data'} or callable, \
default='kmeans'
        The initialization of EM, as in :class:`sklearn_torch_gmm.mixture.GaussianMixture`. Mixtures
        that differ only in their covariance type share it.
    tol : float, default=1e-3
        Convergence threshold: EM stops when the mean log-likelihood, in nats per sample, changes by
        less than this.
    reg_covar : float, default=1e-6
        Regularization that is added once to each variance, in squared units of the data.
    max_iter : int, default=100
        Maximum number of iterations of each mixture.
    random_state : int, RandomState instance or None, default=None
        The seed, which all numbers of components share; unless it is an int, it is drawn once.
    stability : bool, default=False
        Whether to compare the labels from different initializations, which is always done for
        ``criterion='stability'``. If `n_init` is less than 2, the column is NaN.
    verbose : int, default=0
        1 shows the progress of :meth:`fit` on stderr, stage by stage, and then the choice with its
        criterion; 2 also prints a line for each number of components and covariance type.
    batch_size : int, default=None
        Number of samples per batch. With None, an array in memory is one batch, and other data are
        read in batches of about 32 MiB. The result does not depend on it.
    num_workers : int, default=0
        Number of processes that read ahead in a :class:`torch.utils.data.Dataset`.
    trainer_params : dict, default=None
        Keyword arguments of :class:`pytorch_lightning.Trainer`, except `max_epochs`.
    acceleration : {'squarem'} or None, default=None
        Whether EM extrapolates its steps, as in :class:`sklearn_torch_gmm.mixture.GaussianMixture`.
    missing : {'error', 'em'}, default='error'
        'error' rejects NaN in the data, 'em' takes it as a value that was not observed, as in
        :class:`sklearn_torch_gmm.mixture.GaussianMixture`.

    Attributes
    ----------
    best_estimator_ : GaussianMixture
        The chosen mixture, a fitted :class:`sklearn_torch_gmm.mixture.GaussianMixture`.
    n_components_ : int
        The number of components of the chosen mixture.
    covariance_type_ : str
        The covariance type of the chosen mixture.
    labels_ : ndarray of shape (N,)
        Most probable component of each sample, for an array or a tensor.
    n_iter_ : int
        Number of iterations of the chosen mixture.
    converged_ : bool
        Whether the chosen mixture converged.
    results_ : dict of ndarray
        Columns by name, with one row for each number of components, covariance type and
        initialization: ``n_components``, ``covariance_type``, ``start``, ``is_kept`` (whether this
        initialization has the maximum likelihood), ``n_parameters``, ``log_likelihood``
        (Σ log p(x), in nats), ``lower_bound`` (its mean before the last M-step), ``bic``, ``aic``,
        ``icl``, ``n_iter``, ``converged``, ``seconds`` (its share of the time), ``error`` (of a fit
        that failed, otherwise empty); with ``criterion='cv'`` also ``mean_test_score`` and
        ``std_test_score`` over the folds, and with `stability` the column ``stability``. Criteria
        and likelihoods of a fit that failed are NaN.
    n_features_in_ : int
        Number of features seen in :meth:`fit`.
    feature_names_in_ : ndarray of shape (D,)
        Names of the features, if `X` has any.

    See Also
    --------
    sklearn_torch_gmm.mixture.GaussianMixture : A single mixture.
    CriterionDisplay : The criterion against the number of components.

    Notes
    -----
    With p free parameters and N samples, or the sum of their weights,

    - BIC = −2 log p(X) + p log N (Schwarz, 1978);
    - AIC = −2 log p(X) + 2 p (Akaike, 1974);
    - ICL = BIC − 2 Σ log max_k r_k, where r_k is p(component k | x): a BIC that also favours
      well-separated components (Biernacki, Celeux and Govaert, 2000; mclust's form);
    - stability is the mean adjusted Rand index between the labels of all samples from two
      initializations of the same mixture. Of all mixtures of two or more components whose stability
      is within 0.01 of the largest, ``criterion='stability'`` chooses that with the smallest BIC.
      Samples without any value do not count.

    References
    ----------
    C. Biernacki, G. Celeux and G. Govaert, Assessing a mixture model for clustering with the
    integrated completed likelihood, IEEE Transactions on Pattern Analysis and Machine Intelligence
    22 (2000), 719–725.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_torch_gmm import GaussianMixtureIC
    >>> X = load_iris().data
    >>> search = GaussianMixtureIC(1, 6, n_init=3, random_state=0).fit(X)
    >>> search.n_components_, search.covariance_type_, search.converged_
    (2, 'full', True)
    >>> print(search.results_["bic"].argmin(), search.labels_.shape)
    3 (150,)
    >>> print(f"{search.bic(X):.1f} {search.aic(X):.1f} {search.score(X):.3f}")
    574.0 486.7 -1.429
    >>> search.predict(X[:1]), search.predict_proba(X[:1]).shape
    (array([0]), (1, 2))
    >>> search.score_samples(X).shape, search.n_iter_
    ((150,), 4)
    >>> search.sample(5)[0].shape, search.fit_predict(X).shape
    ((5, 4), (150,))
    >>> list(search.plot(criteria=["bic", "icl"]).values)
    ['BIC', 'ICL']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{name: GaussianMixture._parameter_constraints[name] for name in _SHARED_PARAMETERS},
        "min_components": [Numbers(Integral, 1)],
        "max_components": [Numbers(Integral, 1)],
        "covariance_type": [covariance_types(ALL_TYPES), list, tuple],
        "criterion": [StrOptions(set(get_args(Criterion)))],
        "cv": ["cv_object"],
        "init_params": [StrOptions(set(get_args(InitParams))), callable],
        "max_iter": [Numbers(Integral, 1)],
        "stability": ["boolean"],
    }

    best_estimator_: GaussianMixture

    def __init__(
        self,
        min_components: int = 2,
        max_components: int = 10,
        *,
        covariance_type: CovarianceType | Literal["all"] | Sequence[CovarianceType] = "all",
        criterion: Criterion = "bic",
        cv: Any = 5,
        n_init: int = 1,
        init_params: InitParams | StartFunction = "kmeans",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        random_state: int | np.random.RandomState | None = None,
        stability: bool = False,
        verbose: int = 0,
        batch_size: int | None = None,
        num_workers: int = 0,
        trainer_params: Mapping[str, Any] | None = None,
        acceleration: Acceleration | None = None,
        missing: Missing = "error",
    ) -> None:
        self.min_components = min_components
        self.max_components = max_components
        self.covariance_type = covariance_type
        self.criterion = criterion
        self.cv = cv
        self.n_init = n_init
        self.init_params = init_params
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.random_state = random_state
        self.stability = stability
        self.verbose = verbose
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.trainer_params = trainer_params
        self.acceleration = acceleration
        self.missing = missing

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "best_estimator_")

    # -- fitting ----------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit all mixtures and keep the best.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
            The data, in any form that the mixtures accept.
        y : Ignored
            Not used, present for API consistency by convention.
        sample_weight : array-like of shape (N,) or True, default=None
            Weights of the samples. A sample of weight zero is ignored, an integer weight stands for
            that many copies, also in the criteria. True: a stream or a loader has a weight with
            each sample.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are not usable, or if every fit fails, with the error of the
            first. If only some fits fail, their errors are stored in `results_`, with a warning.
        """
        validate_parameters(self)
        candidates = self._candidates()
        with as_before_on_failure(self):
            data = read_data(self, X, sample_weight)
            with data.rows, progress_bars(self.verbose) as bars:
                self._fit(candidates, data, bars)
        return self

    def _fit(
        self, candidates: list[GaussianMixture], data: FitData, bars: ProgressBars | None
    ) -> None:
        self._check_data(data)
        num_features = data.rows.num_features
        settings = sweep.settings_of_all(candidates, num_features)
        check_size(settings, data.rows.num_rows, num_features)
        held_out = None
        if self.criterion == _CROSS_VALIDATION:
            held_out = cross_validate(candidates, data, self.cv, bars)
        fits = fit_sweep(data.rows, settings, bars)
        sweep.reject_unrepresentable(candidates, fits, data.dtype)
        raise_if_all_failed(fits)
        # Of several processes, only the first receives reports, and shows the stages that follow.
        shown = bars if bars is not None and bars.has_reports else None

        results = sweep.results_table(candidates, fits, num_features, data.total_weight)
        of_candidate = np.repeat(np.arange(len(candidates)), [len(restarts) for restarts in fits])
        if held_out is not None:
            held_out.add_to(results, of_candidate)
        if self.stability or self.criterion == _STABILITY:
            agreement = mean_agreement(candidates, fits, data, shown)
            results["stability"] = np.array(agreement)[of_candidate]
        winner = CRITERIA[self.criterion].row_of_best(results)
        if shown is not None:
            shown.write(summary(results, winner, self.criterion, self.verbose))
        position = of_candidate[winner]
        best, restart = candidates[position], fits[position][results["start"][winner]]
        result = FitResult.of(restart)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                setattr(best, name, getattr(self, name))
        keep_result(best, result, settings[position], data)
        sweep.warn_of_failures(results)
        warn_of_outcome(best, result, settings[position])
        self.best_estimator_ = best
        self.n_components_ = best.n_components
        self.covariance_type_ = best.covariance_type
        self.results_ = results

    def _candidates(self) -> list[GaussianMixture]:
        """Return a mixture for each covariance type and number of components."""
        if self.min_components > self.max_components:
            msg = (
                f"min_components={self.min_components} is more than "
                f"max_components={self.max_components}."
            )
            raise ValueError(msg)
        if self.criterion == _STABILITY:
            check_stability(self.n_init, self.max_components)
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = check_random_state(seed).randint(np.iinfo(np.int32).max)
        shared = {name: getattr(self, name) for name in _SHARED_PARAMETERS}
        return [
            GaussianMixture(
                components,
                covariance_type=name,
                max_iter=self.max_iter,
                init_params=self.init_params,
                **{**shared, "verbose": 0, "random_state": int(seed)},
            )
            for name in covariance_types_of(self.covariance_type)
            for components in range(int(self.min_components), int(self.max_components) + 1)
        ]

    def _check_data(self, data: FitData) -> None:
        if data.rows.num_rows is not None:
            check_number_of_rows(data.rows.num_rows, self.max_components, "max_components")
        if self.criterion == _CROSS_VALIDATION and is_read_in_pieces(data.X):
            msg = (
                "criterion='cv' needs samples in memory, an array or a tensor, not a "
                f"{type(data.X).__name__}: choose by 'bic', 'aic' or 'icl'."
            )
            raise ValueError(msg)

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit, and return each sample's most probable component of the chosen mixture.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
            The data.
        y : Ignored
            Not used, present for API consistency by convention.
        sample_weight : array-like of shape (N,) or True, default=None
            Weights of the samples, as in :meth:`fit`.

        Returns
        -------
        labels : ndarray or Tensor of shape (N,), int64
        """
        return self.fit(X, **given(y=y, sample_weight=sample_weight)).predict(X)

    # -- plotting ---------------------------------------------------------------------------------

    def plot(
        self,
        ax: Axes | Sequence[Axes] | None = None,
        *,
        criteria: str | Sequence[str] | None = None,
    ) -> CriterionDisplay:
        """Draw the criterion against the number of components, or several side by side.

        Parameters
        ----------
        ax : matplotlib Axes or sequence of them, default=None
            Axes to draw on, one for each criterion; None creates a new figure.
        criteria : str or sequence of str, default=None
            Criteria to draw; None draws the parameter `criterion`.

        Returns
        -------
        display : CriterionDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        return CriterionDisplay.from_estimator(self, criteria=criteria, ax=ax)

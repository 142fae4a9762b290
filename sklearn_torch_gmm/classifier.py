"""Classification by a Gaussian mixture, for data of which only some samples have a label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from torch import Tensor

from sklearn_torch_gmm._estimator.classes import (
    ClassInference,
    check_enough_labelled,
    checked_labels,
    comparable,
    encode,
    is_labelled,
)
from sklearn_torch_gmm._estimator.constraints import Numbers
from sklearn_torch_gmm._estimator.fit_data import FitData
from sklearn_torch_gmm._estimator.fitted_state import keep_result
from sklearn_torch_gmm._estimator.mixin import PackageEstimatorMixin
from sklearn_torch_gmm._estimator.outcome import as_before_on_failure, warn_of_outcome
from sklearn_torch_gmm._estimator.progress_bars import progress_bars
from sklearn_torch_gmm._estimator.size import check_size
from sklearn_torch_gmm._estimator.validation import check_in_memory, numpy_dtype, validate_rows
from sklearn_torch_gmm._estimator.vocabulary import settings_of
from sklearn_torch_gmm._private_parts import validate_parameters
from sklearn_torch_gmm.core.covariance import CovarianceType
from sklearn_torch_gmm.mixture import GaussianMixture
from sklearn_torch_gmm.rows.in_memory import ArrayRows
from sklearn_torch_gmm.rows.random_numbers import RandomNumbers
from sklearn_torch_gmm.rows.sample_weight import validate_weights, weighted_rows
from sklearn_torch_gmm.training.fit import fit_mixture

if TYPE_CHECKING:
    from typing_extensions import Self

_SHARED_PARAMETERS = (
    "covariance_type", "tol", "reg_covar", "max_iter", "n_init", "random_state", "batch_size",
    "trainer_params",
)  # fmt: skip
"""Parameters of the mixture of all components."""


class GaussianMixtureClassifier(PackageEstimatorMixin, ClassifierMixin, BaseEstimator):
    """Gaussian mixture classifier for partly labelled data, with components for each class.

    EM maximizes the likelihood of all samples at once: labelled samples belong to the components of
    their class, the others to all components. A label of -1 means unlabelled.

    Parameters
    ----------
    n_components_per_class : int, default=1
        Number of Gaussian components of each class.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
        The structure of the covariances: a matrix for each component ('full'), one matrix for all
        components of all classes ('tied'), a variance for each feature ('diag') or one variance
        ('spherical').
    tol : float, default=1e-3
        Convergence threshold: EM stops when the mean log-likelihood, in nats per sample, changes by
        less than this.
    reg_covar : float, default=1e-6
        Regularization that is added once to each variance, in squared units of the data.
    max_iter : int, default=100
        Maximum number of iterations.
    n_init : int, default=1
        Number of initializations; the best result is kept. They differ only if classes have several
        components.
    random_state : int, RandomState instance or None, default=None
        Determines the random numbers of the initialization.
    batch_size : int, default=None
        Number of samples per batch; with None, all samples are one batch. The result does not
        depend on it.
    trainer_params : dict, default=None
        Keyword arguments of :class:`pytorch_lightning.Trainer`, except `max_epochs`, which is
        `max_iter`.
    verbose : int, default=0
        1 shows the progress of :meth:`fit` on stderr: the initializations, then the iterations.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        The sorted classes, without -1.
    mixture_ : GaussianMixture
        The fitted mixture of all components, a :class:`sklearn_torch_gmm.mixture.GaussianMixture`.
    component_classes_ : ndarray of shape (K,)
        The class of each component of `mixture_`.
    converged_ : bool
        Whether the best initialization converged.
    n_iter_ : int
        Number of iterations of the best initialization.
    lower_bound_ : float
        Mean at the last iteration, in nats per sample, of log p(x, y) over the labelled samples and
        of log p(x) over the others.
    n_features_in_ : int
        Number of features seen in :meth:`fit`.
    feature_names_in_ : ndarray of shape (D,)
        Names of the features, if `X` has any.

    See Also
    --------
    sklearn_torch_gmm.mixture.GaussianMixture : The same mixture without classes.
    sklearn.semi_supervised.SelfTrainingClassifier : Adapts any classifier to partly labelled
        data.

    Notes
    -----
    If all samples are labelled and classes have one component, the result is in closed form: the
    maximum-likelihood solution of quadratic discriminant analysis, or with 'tied' covariances of
    linear discriminant analysis.

    References
    ----------
    G. J. McLachlan and D. Peel, Finite Mixture Models (2000), section 2.20. K. Nigam, A. McCallum,
    S. Thrun and T. Mitchell, Text classification from labeled and unlabeled documents using EM,
    Machine Learning 39 (2000), 103–134.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_torch_gmm import GaussianMixtureClassifier
    >>> X = np.array([[0.0], [0.5], [1.0], [1.5], [7.0], [8.0], [8.5], [9.0]])
    >>> y = np.array([0, -1, -1, -1, -1, -1, -1, 1])
    >>> classifier = GaussianMixtureClassifier().fit(X, y)
    >>> classifier.predict([[2.0], [6.0]])
    array([0, 1])
    >>> classifier.mixture_.means_.round(2)
    array([[0.75],
           [8.12]])
    >>> classifier.classes_, classifier.component_classes_, classifier.converged_
    (array([0, 1]), array([0, 1]), True)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{name: GaussianMixture._parameter_constraints[name] for name in _SHARED_PARAMETERS},
        "n_components_per_class": [Numbers(Integral, 1)],
        "verbose": ["verbose"],
    }

    mixture_: GaussianMixture
    classes_: npt.NDArray[Any]

    def __init__(
        self,
        n_components_per_class: int = 1,
        *,
        covariance_type: CovarianceType = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        random_state: int | np.random.RandomState | None = None,
        batch_size: int | None = None,
        trainer_params: Mapping[str, Any] | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_components_per_class = n_components_per_class
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.random_state = random_state
        self.batch_size = batch_size
        self.trainer_params = trainer_params
        self.verbose = verbose

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "mixture_")

    # -- fitting ----------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Estimate the mixture from labelled and unlabelled samples.

        Parameters
        ----------
        X : array-like, DataFrame or Tensor of shape (N, D)
            The data.
        y : array-like of shape (N,)
            The class of each sample, or -1 if it is unlabelled. If the classes are strings, -1
            requires an array of dtype object, as in scikit-learn's `SelfTrainingClassifier`.
        sample_weight : array-like of shape (N,), default=None
            Weights of the samples. A sample of weight zero is ignored, an integer weight stands for
            that many copies; only the ratios matter.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are not usable, if a class has fewer labelled samples than
            components, or if a component's covariance is not positive definite
            (:class:`~sklearn_torch_gmm.exceptions.IllDefinedCovarianceError`).
        TypeError
            If the data are sparse, or read in batches, as a `Dataset` is.
        """
        validate_parameters(self)
        check_in_memory(self, X)
        with as_before_on_failure(self):
            data = self._read(X, y, sample_weight)
            components = len(self.classes_) * self.n_components_per_class
            mixture = GaussianMixture(
                components, **{name: getattr(self, name) for name in _SHARED_PARAMETERS}
            )
            for name in ("n_features_in_", "feature_names_in_"):
                if hasattr(self, name):
                    setattr(mixture, name, getattr(self, name))
            numbers = np.arange(len(self.classes_)).repeat(self.n_components_per_class)
            settings = replace(
                settings_of(mixture, self.n_features_in_, RandomNumbers(self.random_state)),
                classes=torch.from_numpy(numbers),
            )
            check_size([settings], data.rows.num_rows, self.n_features_in_)
            with data.rows:
                with progress_bars(self.verbose) as monitor:
                    result = fit_mixture(data.rows, settings, monitor=monitor)
                warn_of_outcome(mixture, result, settings)
                keep_result(mixture, result, settings, data)
            self.mixture_ = mixture
            self.component_classes_ = self.classes_[numbers]
            self.converged_, self.n_iter_ = mixture.converged_, mixture.n_iter_
            self.lower_bound_ = mixture.lower_bound_
        return self

    def _read(self, X: Any, y: Any, sample_weight: Any) -> FitData:
        """Check the data, and set the classes."""
        X = validate_rows(self, X, reset=True, ensure_min_samples=2)
        rows, weights = weighted_rows(X, sample_weight)
        y = checked_labels(y, X.shape[0])
        if sample_weight is not None:
            # Samples of weight zero are treated as absent.
            y = y[validate_weights(sample_weight, X.shape[0]) > 0]
        self.classes_, labels = encode(y)
        check_enough_labelled(labels, self.classes_, self.n_components_per_class)
        return FitData(X, ArrayRows(rows, weights, labels), sample_weight, numpy_dtype(X))

    # -- inference --------------------------------------------------------------------------------

    def predict(self, X: Any) -> Any:
        """Return the most probable class of each sample.

        Parameters
        ----------
        X : array-like, DataFrame or Tensor of shape (N, D)
            Samples.

        Returns
        -------
        y : ndarray or Tensor of shape (N,)

        Examples
        --------
        >>> from sklearn_torch_gmm import GaussianMixtureClassifier
        >>> X, y = [[0.0], [1.0], [2.0], [7.0], [8.0], [9.0]], [0, -1, -1, -1, -1, 1]
        >>> classifier = GaussianMixtureClassifier().fit(X, y)
        >>> classifier.predict([[3.0], [6.0]])
        array([0, 1])
        """
        return ClassInference(self, X).classes()

    def predict_proba(self, X: Any) -> Any:
        """Return p(class | x) for each sample.

        Parameters
        ----------
        X : array-like, DataFrame or Tensor of shape (N, D)
            Samples.

        Returns
        -------
        probabilities : ndarray or Tensor of shape (N, C)
            In the order of `classes_`.

        Examples
        --------
        >>> from sklearn_torch_gmm import GaussianMixtureClassifier
        >>> X, y = [[0.0], [1.0], [2.0], [7.0], [8.0], [9.0]], [0, -1, -1, -1, -1, 1]
        >>> classifier = GaussianMixtureClassifier().fit(X, y)
        >>> classifier.predict_proba([[3.0], [4.5]]).round(3)
        array([[1. , 0. ],
               [0.5, 0.5]])
        """
        inference = ClassInference(self, X)
        return inference.answer(inference.probabilities())

    def predict_log_proba(self, X: Any) -> Any:
        """Return log p(class | x) for each sample, even where the probability underflows.

        Parameters
        ----------
        X : array-like, DataFrame or Tensor of shape (N, D)
            Samples.

        Returns
        -------
        log_probabilities : ndarray or Tensor of shape (N, C)
            In nats, in the order of `classes_`.

        Examples
        --------
        >>> from sklearn_torch_gmm import GaussianMixtureClassifier
        >>> X, y = [[0.0], [1.0], [2.0], [7.0], [8.0], [9.0]], [0, -1, -1, -1, -1, 1]
        >>> classifier = GaussianMixtureClassifier().fit(X, y)
        >>> classifier.predict_log_proba([[4.5], [40.0]]).round(1)
        array([[  -0.7,   -0.7],
               [-372.7,    0. ]])
        """
        inference = ClassInference(self, X)
        return inference.answer(inference.log_probabilities())

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy: the fraction of labelled samples whose class is predicted correctly.

        Parameters
        ----------
        X : array-like, DataFrame or Tensor of shape (N, D)
            Samples.
        y : array-like of shape (N,)
            Their classes; samples with -1, for unlabelled, do not count.
        sample_weight : array-like of shape (N,), default=None
            Weights of the samples.

        Returns
        -------
        accuracy : float

        Examples
        --------
        >>> from sklearn_torch_gmm import GaussianMixtureClassifier
        >>> X, y = [[0.0], [1.0], [8.0], [9.0]], [0, 0, 1, 1]
        >>> GaussianMixtureClassifier().fit(X, y).score([[2.0], [3.0]], [0, 1])
        0.5
        """
        found = self.predict(X)
        if isinstance(found, Tensor):
            found = found.cpu().numpy()
        y = checked_labels(y, len(found))
        counts = is_labelled(y)
        if sample_weight is not None:
            sample_weight = validate_weights(sample_weight, len(found))[counts]
        return float(
            accuracy_score(comparable(y[counts]), found[counts], sample_weight=sample_weight)
        )

    def score_samples(self, X: Any) -> Any:
        """Return the log-density of each sample under the mixture of all classes.

        Parameters
        ----------
        X : array-like, DataFrame or Tensor of shape (N, D)
            Samples.

        Returns
        -------
        log_densities : ndarray or Tensor of shape (N,)
            In nats.

        Examples
        --------
        >>> from sklearn_torch_gmm import GaussianMixtureClassifier
        >>> X, y = [[0.0], [1.0], [2.0], [7.0], [8.0], [9.0]], [0, -1, -1, -1, -1, 1]
        >>> classifier = GaussianMixtureClassifier().fit(X, y)
        >>> classifier.score_samples([[1.0], [4.5]]).round(2)
        array([-1.41, -9.9 ])
        """
        return ClassInference(self, X).log_densities()

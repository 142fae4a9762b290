"""The base classes of the public mixtures.

Parameters and fitting are defined here. Inference, conversions and saving are functions in separate
modules, with public docstrings, which the class binds as methods.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClusterMixin, clone
from sklearn.mixture import GaussianMixture as ScikitLearnMixture
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_torch_gmm._estimator import conversions, fitted_state, inference
from sklearn_torch_gmm._estimator.binding import computed, constructor
from sklearn_torch_gmm._estimator.constraints import Numbers, covariance_types
from sklearn_torch_gmm._estimator.fitting import fit_to_data
from sklearn_torch_gmm._estimator.fixed_parts import Fixed
from sklearn_torch_gmm._estimator.missing import ALLOWED, Missing
from sklearn_torch_gmm._estimator.mixin import PackageEstimatorMixin
from sklearn_torch_gmm._estimator.partial_fit import update_with_batch
from sklearn_torch_gmm._estimator.validation import like_input
from sklearn_torch_gmm._estimator.vocabulary import Vocabulary, num_components_of
from sklearn_torch_gmm._private_parts import StrOptions, parameter_names
from sklearn_torch_gmm._saving import estimators as saving
from sklearn_torch_gmm.core.covariance import CovarianceType
from sklearn_torch_gmm.core.fixed import Part
from sklearn_torch_gmm.core.model import GaussianMixtureModel
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.em.progress import Monitor
from sklearn_torch_gmm.em.settings import Acceleration, FitSettings
from sklearn_torch_gmm.rows.kinds import is_read_in_pieces
from sklearn_torch_gmm.rows.random_numbers import RandomNumbers
from sklearn_torch_gmm.rows.tensors import as_tensor, device_of

if TYPE_CHECKING:
    from typing_extensions import Self


class BaseMixture(PackageEstimatorMixin, ClusterMixin, BaseEstimator):
    """The implementation behind all public mixtures, however their parameters are estimated.

    A public class adds its signature, its vocabulary and their translation into settings. Fitted
    attributes are NumPy arrays, so that a fitted estimator is small and can be loaded anywhere.
    """

    covariance_type: CovarianceType
    random_state: int | np.random.RandomState | None

    # A subclass may set only the parameters that scikit-learn's class has.
    batch_size: int | None = None
    num_workers: int = 0
    trainer_params: Mapping[str, Any] | None = None

    weights_: npt.NDArray[np.floating[Any]]
    means_: npt.NDArray[np.floating[Any]]
    covariances_: npt.NDArray[np.floating[Any]]
    precisions_cholesky_: npt.NDArray[np.floating[Any]]
    n_features_in_: int
    feature_names_in_: npt.NDArray[np.object_]

    _vocabulary: ClassVar[Vocabulary]
    _counterpart: ClassVar[type[BaseEstimator]]
    """scikit-learn's class for the same mixture."""
    _persistent_attributes: ClassVar[tuple[str, ...]] = saving.PERSISTENT_ATTRIBUTES
    """Fitted attributes that are saved."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "covariance_type": [covariance_types()],
        "batch_size": [Numbers(Integral, 1), None],
        "num_workers": [Numbers(Integral, 0)],
        "trainer_params": [dict, None],
        "random_state": ["random_state"],
    }

    # -- methods of the public classes ------------------------------------------------------------

    @abstractmethod
    def _fit_settings(self, num_features: int, random: RandomNumbers) -> FitSettings:
        """Check the user's parameters against the data, and return the settings of the fit."""

    @classmethod
    @abstractmethod
    def _own_parameters(cls, params: Mapping[str, Any]) -> dict[str, Any]:
        """Translate the parameters of scikit-learn's class into those of this class."""

    @abstractmethod
    def _scikit_learn_parameters(self) -> dict[str, Any]:
        """Translate the parameters of this class into those of scikit-learn's class."""

    def _keep_parameters(
        self, parameters: MixtureParameters, settings: FitSettings, dtype: np.dtype[Any]
    ) -> None:
        """Set the fitted attributes that hold the parameters found by a fit."""
        fitted_state.set_parameters(self, parameters, dtype)

    def _monitor_of_fit(self) -> AbstractContextManager[Monitor | None]:
        """Return a context manager that shows the progress of a fit."""
        return nullcontext()

    def _added_log_weights(self) -> Tensor:
        """Return the log-weights ``[K]`` that are added to the log-densities, in nats."""
        return as_tensor(self.weights_).double().log()

    # -- parameters -------------------------------------------------------------------------------

    @computed
    def n_clusters(self) -> int:
        """The number of components, under the name that tools for clusterers use.

        Examples
        --------
        >>> from sklearn_torch_gmm import GaussianMixture
        >>> GaussianMixture().set_params(n_clusters=3)
        GaussianMixture(num_components=3)
        """
        return num_components_of(self)

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``n_clusters`` is an alias of the number of components.

        Parameters
        ----------
        **params : dict
            Names and values of parameters.

        Returns
        -------
        self : object
        """
        # A subclass may have a parameter of this name.
        if "n_clusters" in params and "n_clusters" not in parameter_names(type(self)):
            params[self._vocabulary.components] = params.pop("n_clusters")
            self.__dict__.pop("n_clusters", None)
        super().set_params(**params)
        return self

    def clone(self) -> Self:
        """Return an unfitted estimator with the same parameters.

        Returns
        -------
        estimator : object
        """
        copy: Self = clone(self)
        return copy

    # -- fitting ----------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        ckpt_path: str | PathLike[str] | None = None,
    ) -> Self:
        """Estimate the parameters of the mixture by expectation–maximization.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
            The data. An item of a dataset is a sample of shape (D,) or a tuple that begins with
            one; an item of a ``DataLoader`` is a batch of shape (n, D) or a tuple that begins with
            one. A store returns samples for a slice, as arrays of h5py and zarr do.
        y : Ignored
            Not used, present for API consistency by convention.
        sample_weight : array-like of shape (N,) or True, default=None
            Weights of the samples. A sample of weight zero is ignored, an integer weight stands for
            that many copies; only the ratios matter. True, for an ``IterableDataset`` or a
            ``DataLoader``: each item is a pair (sample, weight), or (samples, weights) for a
            ``DataLoader``. Otherwise a second element is ignored, since it may be a label.
        ckpt_path : str or path, default=None
            A checkpoint that Lightning saved in an earlier run of this fit, or 'last'; the fit
            continues after its last iteration.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are not usable, or if a component's covariance is not
            positive definite (:class:`~sklearn_torch_gmm.exceptions.IllDefinedCovarianceError`).
        MemoryError
            If the covariances of so many features need more memory than the machine has.
        TypeError
            If the data are sparse, or if `trainer_params` contain a parameter that the trainer does
            not have or declares with another type.
        """
        fit_to_data(self, X, sample_weight, ckpt_path)
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit, and return the most probable component of each sample.

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
        fit_to_data(self, X, sample_weight)
        if is_read_in_pieces(X) or fitted_state.has_computed_labels(self):
            return self.predict(X)
        return like_input(as_tensor(self.labels_), device_of(X), self._vocabulary)

    # -- inference --------------------------------------------------------------------------------

    # Without a setter: a module that is assigned would have no effect on predictions.
    @property
    def model_(self) -> GaussianMixtureModel:
        """The fitted mixture as a torch module, on the CPU; a new one each time."""
        return fitted_state.torch_model(self)

    def __sklearn_is_fitted__(self) -> bool:
        # Other attributes, such as n_features_in_, may be set without a mixture.
        return hasattr(self, "means_")

    predict = inference.predict
    predict_proba = inference.predict_proba
    score_samples = inference.score_samples
    component_log_densities = inference.component_log_densities
    score = inference.score

    @property
    def precisions_(self) -> np.ndarray[Any, Any]:
        """Inverse covariances, in the shape of `covariances_`, computed at each access.

        They follow from `precisions_cholesky_`; storing them as well would enlarge a pickle by
        half. Setting them computes the factors only if these are not set yet, since a program that
        reorders or scales the components sets both, in any order.
        """
        return fitted_state.precisions_of(self)

    @precisions_.setter
    def precisions_(self, value: npt.ArrayLike) -> None:
        if not hasattr(self, "precisions_cholesky_"):
            self.precisions_cholesky_ = fitted_state.factors_of(self, value)

    @computed
    def cluster_centers_(self) -> npt.NDArray[np.floating[Any]]:
        """The means, under the name that tools for K-means read.

        Examples
        --------
        >>> from sklearn_torch_gmm import GaussianMixture
        >>> mixture = GaussianMixture.from_parameters(
        ...     [0.5, 0.5], [[0], [4]], [[[1]], [[1]]]
        ... )
        >>> mixture.cluster_centers_
        array([[0.],
               [4.]])
        """
        check_is_fitted(self)
        return self.means_

    # -- conversions ------------------------------------------------------------------------------

    from_sklearn = constructor(conversions.from_sklearn)
    to_sklearn = conversions.to_sklearn

    # -- saving -----------------------------------------------------------------------------------

    @computed
    def persistent_attributes(self) -> list[str]:
        """Names of the fitted attributes that are saved if the estimator has them.

        Examples
        --------
        >>> from sklearn_torch_gmm import GaussianMixture
        >>> "means_" in GaussianMixture().persistent_attributes
        True
        """
        return list(self._persistent_attributes)

    save = saving.save
    load = constructor(saving.load)
    save_parameters = saving.save_parameters
    load_parameters = constructor(saving.load_parameters)
    save_attributes = saving.save_attributes
    load_attributes = saving.load_attributes


class BaseGaussianMixture(BaseMixture):
    """Mixtures by maximum likelihood, with updates, fixed parts, acceleration and criteria."""

    fixed: Fixed = ()
    acceleration: Acceleration | None = None
    missing: Missing = "error"
    known_parts_: list[Part] | dict[Part, list[int]]
    regularization_: npt.NDArray[np.float64]

    _counterpart = ScikitLearnMixture
    _persistent_attributes = (
        *BaseMixture._persistent_attributes,
        "known_parts_",
        "regularization_",
    )
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMixture._parameter_constraints,
        "fixed": [tuple, list, dict],
        "acceleration": [StrOptions(set(get_args(Acceleration))), None],
        "missing": [ALLOWED],
    }

    def _keep_parameters(
        self, parameters: MixtureParameters, settings: FitSettings, dtype: np.dtype[Any]
    ) -> None:
        super()._keep_parameters(parameters, settings, dtype)
        continues = settings.start.previous is not None
        fitted_state.remember_estimation(self, settings, continues=continues)

    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, step_exponent: float = 0.7
    ) -> Self:
        """Update the parameters with one batch of samples: stepwise EM.

        The first call initializes the mixture from its batch, unless the estimator is fitted. Each
        further batch of n samples, after which N have been seen, moves the expected sufficient
        statistics towards its own by the step size (n / N) ** `step_exponent`. With an exponent of
        1, all samples keep the same weight. With a smaller one, the mixture forgets early batches,
        whose responsibilities came from early parameters, and follows a drifting distribution.

        Parameters
        ----------
        X : array-like, DataFrame or Tensor of shape (n, D)
            A batch of samples in random order; the components would follow sorted samples.
        y : Ignored
            Not used, present for API consistency by convention.
        sample_weight : array-like of shape (n,), default=None
            Weights of the samples. A sample of weight zero is ignored, an integer weight stands for
            that many copies.
        step_exponent : float in (0.5, 1], default=0.7
            Exponent of the step size; the algorithm converges for exponents in this range.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If a parameter or the data are not usable, or if a component's covariance is not
            positive definite (:class:`~sklearn_torch_gmm.exceptions.IllDefinedCovarianceError`).

        References
        ----------
        O. Cappé and E. Moulines, On-line expectation–maximization algorithm for latent data
        models (2009). P. Liang and D. Klein, Online EM for unsupervised models (2009).
        """
        update_with_batch(self, X, sample_weight, step_exponent)
        return self

    bic = inference.bic
    aic = inference.aic
    # scikit-learn's own tests call this name.
    _n_parameters = inference.num_estimated_parameters
    from_parameters = constructor(conversions.from_parameters)

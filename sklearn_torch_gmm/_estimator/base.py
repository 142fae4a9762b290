"""What both faces share: fit, predict, score, sample."""

from __future__ import annotations

import math
from abc import abstractmethod
from numbers import Integral, Real
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClusterMixin, clone
from sklearn.utils import check_random_state
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sklearn_torch_gmm._estimator.constraints import Numbers, covariance_types
from sklearn_torch_gmm._estimator.conversions import ConvertibleMixture
from sklearn_torch_gmm._estimator.documentation import DocumentedEstimator
from sklearn_torch_gmm._estimator.fit_data import FitData, read_data
from sklearn_torch_gmm._estimator.outcome import (
    as_before_on_failure,
    check_representable,
    warn_of_empty,
    warn_of_outcome,
)
from sklearn_torch_gmm._estimator.validation import (
    given,
    like_input,
    numpy_dtype,
    rows_of,
    validate_rows,
)
from sklearn_torch_gmm._saving.estimators import PersistentEstimator
from sklearn_torch_gmm._saving.pickling import PicklableEstimator
from sklearn_torch_gmm.core.counts import is_number
from sklearn_torch_gmm.core.fixed import PARTS
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.em.failures import check_number_of_rows
from sklearn_torch_gmm.em.partial_fit import update_mixture
from sklearn_torch_gmm.em.results import FitResult
from sklearn_torch_gmm.em.settings import FitSettings
from sklearn_torch_gmm.rows.in_memory import ArrayRows
from sklearn_torch_gmm.rows.kinds import is_read_in_pieces
from sklearn_torch_gmm.rows.sample_weight import total_weight, weighted_rows
from sklearn_torch_gmm.training.fit import fit_mixture

if TYPE_CHECKING:
    from typing_extensions import Self


class BaseGaussianMixture(
    ConvertibleMixture,
    PersistentEstimator,
    PicklableEstimator,
    DocumentedEstimator,
    ClusterMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """The body of both faces.

    A face holds its signature and says by :meth:`_fit_settings` what it means. Fitted attributes
    are NumPy arrays, so that a fitted estimator is small and can be loaded anywhere.
    """

    _components_parameter: ClassVar[str]
    """What the face calls the number of components."""

    _start_parameter: ClassVar[str]
    """What the face calls the start."""

    _convergence_advice: ClassVar[str]
    """The warning of a fit that did not converge."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "covariance_type": [covariance_types()],
        "batch_size": [Numbers(Integral, 1), None],
        "num_workers": [Numbers(Integral, 0)],
        "fixed": [tuple, list],
        "trainer_params": [dict, None],
        "random_state": ["random_state"],
    }

    # -- what a face supplies ---------------------------------------------------------------------

    @abstractmethod
    def _fit_settings(self, num_features: int, random_state: np.random.RandomState) -> FitSettings:
        """Check what the user gave against the data, and return the settings of the fit."""

    # -- the name by which tools know a clusterer's size ------------------------------------------

    @property
    def n_clusters(self) -> int:
        """The number of components, under the name that tools for clusterers use."""
        return int(getattr(self, self._components_parameter))

    @n_clusters.setter
    def n_clusters(self, value: int) -> None:
        setattr(self, self._components_parameter, value)

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``n_clusters`` stands for the number of components.

        Parameters
        ----------
        **params : dict
            Names and values.

        Returns
        -------
        self : object
        """
        if "n_clusters" in params:
            params[self._components_parameter] = params.pop("n_clusters")
        super().set_params(**params)
        return self

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
            The data. An item of a dataset is a row of shape (D,) or a tuple whose first member is
            one; an item of a ``DataLoader`` is a batch of rows of shape (n, D) or a tuple whose
            first member is one. A store gives rows for a slice, as arrays of h5py and zarr do.
        y : Ignored
            Not used, present for API consistency by convention.
        sample_weight : array-like of shape (N,) or True, default=None
            Weights of the rows. Zero is the row removed, an integer is the row repeated; only
            their ratios matter. True, for an ``IterableDataset`` or a ``DataLoader``: they are the
            second member of each item, which must be a pair (row, weight), or (rows, weights) for
            a ``DataLoader``. Otherwise a second member is ignored, since it may be a label.
        ckpt_path : str or path, default=None
            A checkpoint that Lightning saved in an earlier run of this fit, or 'last': the fit goes
            on after the last iteration in it.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are not usable, or if a component's covariance is not
            positive definite (:class:`~sklearn_torch_gmm.exceptions.IllDefinedCovarianceError`).
        TypeError
            If the data are sparse or no numbers, or `trainer_params` hold something that the
            trainer does not know or declares as another type.
        """
        self._validate_params()
        with as_before_on_failure(self):
            data = read_data(self, X, sample_weight, keep_all=self._starts_from_array)
            rows = data.rows
            if rows.num_rows is not None:
                check_number_of_rows(rows.num_rows, self.n_clusters, self._components_parameter)
            settings = self._fit_settings(rows.num_features, check_random_state(self.random_state))
            result = fit_mixture(rows, settings, ckpt_path)
            warn_of_outcome(result, settings, self._convergence_advice)
            self._keep(result, settings, data)
        return self

    def _keep(self, result: FitResult, settings: FitSettings, data: FitData) -> None:
        """Become what a fit has led to."""
        X = data.X
        self._set_fitted(result.parameters, data.dtype)
        self._remember_known_parts(settings, goes_on=settings.start.previous is not None)
        self.n_samples_seen_ = data.total_weight
        self.converged_ = result.converged
        self.lower_bounds_ = result.lower_bounds
        self.n_iter_ = len(result.lower_bounds)
        self.lower_bound_ = result.lower_bounds[-1] if result.lower_bounds else -math.inf
        if not is_read_in_pieces(X):
            self.labels_ = self._inference().labels(rows_of(X)).cpu().numpy()
        elif isinstance(X, np.ndarray):
            self.labels_ = self.predict(X)
        else:
            # Labels of a stream that were kept would be as large as what did not fit.
            self.__dict__.pop("labels_", None)

    def _set_fitted(self, parameters: MixtureParameters, dtype: Any) -> None:
        sizes = parameters.means.shape[-2:]
        check_representable(self._structure.variances(parameters.covariances[0], *sizes), dtype)

        def array(values: Tensor) -> np.ndarray[Any, Any]:
            # What an M-step returns may have the components along the last axis of memory.
            return values.numpy().astype(dtype, order="C")

        self.weights_ = array(parameters.weights[0])
        self.means_ = array(parameters.means[0])
        self.covariances_ = array(parameters.covariances[0])
        self.precisions_cholesky_ = array(parameters.precisions_cholesky[0])

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit, and return the most probable component of each row.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
            The data.
        y : Ignored
            Not used, present for API consistency by convention.
        sample_weight : array-like of shape (N,) or True, default=None
            Weights of the rows, as in :meth:`fit`.

        Returns
        -------
        labels : ndarray or Tensor of shape (N,), int64
        """
        self.fit(X, **given(y=y, sample_weight=sample_weight))
        return (
            self.predict(X)
            if is_read_in_pieces(X)
            else like_input(torch.from_numpy(self.labels_), X)
        )

    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, step_exponent: float = 0.7
    ) -> Self:
        """Move the parameters towards a batch of rows: stepwise EM.

        The first call starts from its rows, unless the estimator is fitted. A further batch of n
        rows, N with all before it, moves the expected moments of the data by the step
        (n / N) ** `step_exponent` towards those of the batch. With an exponent of 1 all rows weigh
        the same for ever; a smaller one forgets the early batches, whose responsibilities were
        those of early parameters, and follows a distribution that drifts.

        Parameters
        ----------
        X : array-like, DataFrame or Tensor of shape (n, D)
            A batch in random order: rows that come sorted pull the components after them.
        y : Ignored
            Not used, present for API consistency by convention.
        sample_weight : array-like of shape (n,), default=None
            Weights of the rows: zero is the row removed, an integer is the row repeated.
        step_exponent : float in (0.5, 1], default=0.7
            The step size converges for exponents in this range.

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
        self._validate_params()
        if not is_number(step_exponent, Real) or not 0.5 < step_exponent <= 1.0:
            msg = f"step_exponent must be in (0.5, 1], got {step_exponent!r}."
            raise ValueError(msg)
        if isinstance(X, (Dataset, DataLoader)):
            msg = (
                "partial_fit takes a batch of rows, an array or a tensor, got a "
                f"{type(X).__name__}: pass its batches one by one, or call fit."
            )
            raise TypeError(msg)
        is_first = not hasattr(self, "means_")
        with as_before_on_failure(self):
            X = validate_rows(self, X, reset=is_first)
            keep_all = is_first and self._starts_from_array
            rows = ArrayRows(*weighted_rows(X, sample_weight, keep_all=keep_all))
            if is_first:
                check_number_of_rows(rows.num_rows, self.n_clusters, self._components_parameter)
            else:
                self._check_can_go_on()
            settings = self._fit_settings(rows.num_features, check_random_state(self.random_state))
            weight = total_weight(sample_weight, X.shape[0])
            # A mixture whose parameters were given has seen nothing: it is a start.
            seen = 0.0 if is_first else getattr(self, "n_samples_seen_", 0.0)
            result = update_mixture(
                rows,
                settings,
                None if is_first else self._fitted_parameters(),
                (weight / (seen + weight)) ** step_exponent,
            )
            warn_of_empty(result.empty, settings.fixed)
            dtype = numpy_dtype(X) if is_first else self.means_.dtype
            self._set_fitted(result.parameters, dtype)
            self._remember_known_parts(settings, goes_on=not is_first)
            self.n_samples_seen_ = seen + weight
            self.n_iter_ = 1 if is_first else getattr(self, "n_iter_", 0) + 1
            self.converged_ = False
            self.lower_bound_ = result.lower_bounds[-1]
            # No iteration over all of the data: a later one has none to be compared with.
            self.lower_bounds_ = []
            # The labels of earlier rows are those of earlier parameters.
            self.__dict__.pop("labels_", None)
        return self

    def _remember_known_parts(self, settings: FitSettings, *, goes_on: bool) -> None:
        given = getattr(self, "known_parts_", ()) if goes_on else settings.start.given_parts
        self.known_parts_ = [p for p in PARTS if p in given and p in settings.fixed]

    @property
    def _starts_from_array(self) -> bool:
        """Whether the start holds something for each row of the data, with weight or without."""
        start = getattr(self, self._start_parameter)
        return not (isinstance(start, str) or callable(start))

    def _check_can_go_on(self) -> None:
        """Raise ValueError if the parameters were set to something else after the fit."""
        components = self.n_clusters
        wanted = self._structure.covariance_shape(components, self.means_.shape[1])
        if self.means_.shape[0] != components or self.covariances_.shape != wanted:
            msg = (
                f"partial_fit goes on from means of shape {self.means_.shape} and covariances of "
                f"shape {self.covariances_.shape}, but {self._components_parameter}={components} "
                f"and covariance_type={self.covariance_type!r} want covariances of shape {wanted}. "
                "Set them back, or call fit to start anew."
            )
            raise ValueError(msg)

    def clone(self) -> Self:
        """Return an unfitted estimator with the same parameters.

        Returns
        -------
        estimator : object
        """
        copy: Self = clone(self)
        return copy

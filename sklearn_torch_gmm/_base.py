"""What both faces share: fit, predict, score, sample."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClusterMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_torch_gmm._arrays import as_tensor
from sklearn_torch_gmm._persistence import PersistentEstimator
from sklearn_torch_gmm._pickling import PicklableEstimator
from sklearn_torch_gmm._validation import is_dataset, like_input, rows_of, validate_rows
from sklearn_torch_gmm.core.covariance import STRUCTURES, CovarianceStructure, get_structure
from sklearn_torch_gmm.core.device import arithmetic_dtype, device_for
from sklearn_torch_gmm.core.inference import Inference
from sklearn_torch_gmm.core.model import GaussianMixtureModel, GaussianMixtureModelConfig
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.exceptions import EmptyComponentWarning

DOCUMENTATION = "https://sklearn-torch-gmm.readthedocs.io/en/latest/api.html"


class BaseGaussianMixture(PersistentEstimator, PicklableEstimator, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """The body of both faces.

    A face holds its signature and says by :meth:`_fit_settings` what it means. Fitted attributes
    are NumPy arrays, so that a fitted estimator is small and can be loaded anywhere.
    """

    _components_parameter: ClassVar[str]
    """What the face calls the number of components."""

    _convergence_advice: ClassVar[str]
    """The warning of a fit that did not converge."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "covariance_type": [StrOptions(set(STRUCTURES))],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "num_workers": [Interval(Integral, 0, None, closed="left")],
        "trainer_params": [dict, None],
        "random_state": ["random_state"],
    }

    _doc_link_module = "sklearn_torch_gmm"
    _doc_link_template = DOCUMENTATION + "#{anchor}"

    def _doc_link_url_param_generator(self) -> dict[str, str]:
        return {"anchor": f"{type(self).__module__}.{type(self).__name__}"}

    # -- what a face supplies ---------------------------------------------------------------------

    @abstractmethod
    def _fit_settings(self, num_features: int, random_state: np.random.RandomState) -> Any:
        """Check what the user gave against the data, and return the settings of the fit."""

    # -- the name by which tools know a clusterer's size ------------------------------------------

    @property
    def n_clusters(self) -> int:
        """The number of components, under the name that tools for clusterers use."""
        return int(getattr(self, self._components_parameter))

    @n_clusters.setter
    def n_clusters(self, value: int) -> None:
        setattr(self, self._components_parameter, value)

    def set_params(self, **params: Any) -> BaseGaussianMixture:
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

    def fit(self, X: Any, y: Any = None) -> BaseGaussianMixture:
        """Estimate the parameters of the mixture by expectation–maximization.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor of shape (N, D), or Dataset of N rows
            The data. A dataset's item is a row of shape (D,) or a tuple whose first member is one.
        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are not usable, or if a component's covariance is not
            positive definite (:class:`~sklearn_torch_gmm.exceptions.IllDefinedCovarianceError`).
        """
        # Lightning takes a second to import; whoever only predicts shall not wait for it.
        from sklearn_torch_gmm.training.data import ArrayRows, DatasetRows
        from sklearn_torch_gmm.training.fit import fit_mixture

        self._validate_params()
        if is_dataset(X):
            rows: Any = DatasetRows(X)
            dtype = np.dtype(np.float64)
            self.n_features_in_ = rows.num_features
        else:
            X = validate_rows(self, X, reset=True, ensure_min_samples=2)
            rows = ArrayRows(X)
            dtype = np.dtype(str(X.dtype).removeprefix("torch."))
        components = getattr(self, self._components_parameter)
        if rows.num_rows < components:
            msg = (
                f"Expected n_samples >= n_components but got n_components = {components}, "
                f"n_samples = {rows.num_rows}"
            )
            raise ValueError(msg)
        settings = self._fit_settings(rows.num_features, check_random_state(self.random_state))
        result = fit_mixture(rows, settings)

        if result.empty:
            warnings.warn(
                f"Components {result.empty} lost all their rows; each keeps its last mean and has "
                "the variance of the data. Try fewer components or another start.",
                EmptyComponentWarning,
                stacklevel=2,
            )
        if settings.max_iter != 0 and not result.converged:
            warnings.warn(self._convergence_advice, ConvergenceWarning, stacklevel=2)
        self._set_fitted(result.parameters, dtype)
        self.converged_ = result.converged
        self.lower_bounds_ = result.lower_bounds
        self.n_iter_ = len(result.lower_bounds)
        self.lower_bound_ = result.lower_bounds[-1] if result.lower_bounds else -math.inf
        if is_dataset(X):
            # The rows are gone: labels of a dataset that were kept would be as large as its index.
            self.__dict__.pop("labels_", None)
        else:
            self.labels_ = self._inference().labels(rows_of(X)).cpu().numpy()
        return self

    def _set_fitted(self, parameters: MixtureParameters, dtype: Any) -> None:
        factors = parameters.precisions_cholesky[0]

        def array(values: Tensor) -> np.ndarray[Any, Any]:
            return values.numpy().astype(dtype)

        self.weights_ = array(parameters.weights[0])
        self.means_ = array(parameters.means[0])
        self.covariances_ = array(parameters.covariances[0])
        self.precisions_cholesky_ = array(factors)

    def fit_predict(self, X: Any, y: Any = None) -> Any:
        """Fit, and return the most probable component of each row.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor of shape (N, D), or Dataset of N rows
            The data.
        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        labels : ndarray or Tensor of shape (N,), int64
        """
        self.fit(X)
        return self.predict(X) if is_dataset(X) else like_input(torch.from_numpy(self.labels_), X)

    # -- prediction -------------------------------------------------------------------------------

    @property
    def _structure(self) -> CovarianceStructure:
        return get_structure(self.covariance_type)

    def _fitted_parameters(self) -> MixtureParameters:
        arrays = (self.weights_, self.means_, self.covariances_, self.precisions_cholesky_)
        return MixtureParameters(*(torch.tensor(a, dtype=torch.float64)[None] for a in arrays))

    @property
    def precisions_(self) -> np.ndarray[Any, Any]:
        """Inverse covariances, in the shape of `covariances_`, computed at each access.

        Setting them sets `precisions_cholesky_`, from which they come. Kept beside it, they would
        make a pickle larger by half.
        """
        check_is_fitted(self)
        factors = self.precisions_cholesky_
        precisions = self._structure.precisions(torch.tensor(factors, dtype=torch.float64))
        return precisions.numpy().astype(factors.dtype)

    @precisions_.setter
    def precisions_(self, value: npt.ArrayLike) -> None:
        precisions = np.asarray(value)
        factors = self._structure.precisions_cholesky_from_precisions(
            torch.tensor(precisions, dtype=torch.float64)
        )
        self.precisions_cholesky_ = factors.numpy().astype(precisions.dtype)

    def _inference(self, device: torch.device | None = None) -> Inference:
        params = getattr(self, "trainer_params", None) or {}
        device = device or device_for(params)
        dtype = arithmetic_dtype(device, params.get("precision"))
        return Inference(self._fitted_parameters().to(device, dtype), self._structure)

    def _ask(self, question: str, X: Any) -> Any:
        """Answer a question that :class:`Inference` knows, for rows of any kind."""
        check_is_fitted(self)
        if is_dataset(X):
            from sklearn_torch_gmm.training.data import DatasetRows

            ask = getattr(self._inference(), question)
            batches = DatasetRows(X).batches(self.batch_size, self.num_workers)
            return torch.cat([ask(rows.cpu()) for rows, *_ in batches]).numpy()
        X = validate_rows(self, X, reset=False)
        # A tensor is answered where it is, anything else where the trainer would work.
        rows = rows_of(X)
        device = rows.device if isinstance(X, Tensor) else None
        return like_input(getattr(self._inference(device), question)(rows), X)

    def predict(self, X: Any) -> Any:
        """Return the most probable component of each row.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor of shape (N, D), or Dataset of N rows

        Returns
        -------
        labels : ndarray or Tensor of shape (N,), int64
        """
        return self._ask("labels", X)

    def predict_proba(self, X: Any) -> Any:
        """Return p(component | x) of each row.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor of shape (N, D), or Dataset of N rows

        Returns
        -------
        responsibilities : ndarray or Tensor of shape (N, K)
        """
        return self._ask("responsibilities", X)

    def score_samples(self, X: Any) -> Any:
        """Return the log-density of each row; it is larger than zero where the density exceeds 1.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor of shape (N, D), or Dataset of N rows

        Returns
        -------
        log_densities : ndarray or Tensor of shape (N,)
            In nats.
        """
        return self._ask("log_densities", X)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean log-density of the rows; larger is better.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor of shape (N, D), or Dataset of N rows
        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        score : float
            In nats per row.
        """
        return float(self.score_samples(X).mean())

    def _n_parameters(self) -> int:
        """Return the number of free parameters."""
        components, features = self.means_.shape
        covariance = self._structure.num_covariance_parameters(components, features)
        return int(covariance + components * features + components - 1)

    def bic(self, X: Any) -> float:
        """Return the Bayesian information criterion; smaller is better.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor of shape (N, D), or Dataset of N rows

        Returns
        -------
        bic : float
            −2 log p(X) + log(N) · number of free parameters. Schwarz (1978).
        """
        log_densities = self.score_samples(X)
        num_rows = log_densities.shape[0]
        penalty = self._n_parameters() * math.log(num_rows)
        return float(-2.0 * log_densities.mean() * num_rows + penalty)

    def aic(self, X: Any) -> float:
        """Return the Akaike information criterion; smaller is better.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor of shape (N, D), or Dataset of N rows

        Returns
        -------
        aic : float
            −2 log p(X) + 2 · number of free parameters. Akaike (1974).
        """
        log_densities = self.score_samples(X)
        num_rows = log_densities.shape[0]
        return float(-2.0 * log_densities.mean() * num_rows + 2 * self._n_parameters())

    def _draw(self, num_rows: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Draw rows ``[N, D]`` and their components ``[N]``, with scikit-learn's random numbers."""
        random_state = check_random_state(self.random_state)
        counts = random_state.multinomial(num_rows, self.weights_.astype(np.float64))
        parts = [
            self._draw_component(random_state, component, int(count))
            for component, count in enumerate(counts)
        ]
        labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        return np.vstack(parts), labels

    def _draw_component(
        self, random_state: np.random.RandomState, component: int, num_rows: int
    ) -> np.ndarray[Any, Any]:
        components, features = self.means_.shape
        structure, mean = self._structure, self.means_[component]
        covariances = as_tensor(self.covariances_)
        if structure.has_independent_features:
            variances = structure.variances(covariances, features)[component].numpy()
            noise = random_state.standard_normal(size=(num_rows, features))
            return np.asarray(mean + noise * np.sqrt(variances))
        matrix = structure.matrices(covariances, components, features)[component].numpy()
        return random_state.multivariate_normal(mean, matrix, num_rows)

    @property
    def model_(self) -> GaussianMixtureModel:
        """The fitted mixture as a torch module, on the CPU; a new one each time."""
        check_is_fitted(self)
        components, features = self.means_.shape
        config = GaussianMixtureModelConfig(components, features, self.covariance_type)
        model = GaussianMixtureModel(config, dtype=as_tensor(self.means_[:0]).dtype)
        model.component_probs.copy_(torch.tensor(self.weights_))
        model.means.copy_(torch.tensor(self.means_))
        model.precisions_cholesky.copy_(torch.tensor(self.precisions_cholesky_))
        return model

    def clone(self) -> BaseGaussianMixture:
        """Return an unfitted estimator with the same parameters."""
        copy: BaseGaussianMixture = clone(self)
        return copy

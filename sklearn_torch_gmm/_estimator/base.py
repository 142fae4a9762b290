"""The base of the two public mixtures.

Its parameters and its fit are written here. Answers, conversions and saving are functions of their
modules, with their docstrings, and the class names them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from numbers import Integral
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClusterMixin, clone
from sklearn.utils import check_random_state

from sklearn_torch_gmm._estimator import answers, conversions, documentation, fitted_state
from sklearn_torch_gmm._estimator.binding import constructor
from sklearn_torch_gmm._estimator.constraints import Numbers, covariance_types
from sklearn_torch_gmm._estimator.fit_data import read_data
from sklearn_torch_gmm._estimator.outcome import as_before_on_failure, warn_of_outcome
from sklearn_torch_gmm._estimator.partial_fit import update_with_batch
from sklearn_torch_gmm._estimator.validation import given, like_input
from sklearn_torch_gmm._estimator.vocabulary import Vocabulary, settings_of, starts_from_array
from sklearn_torch_gmm._private_parts import validate_parameters
from sklearn_torch_gmm._saving import estimators as saving
from sklearn_torch_gmm._saving import pickling
from sklearn_torch_gmm.core.covariance import CovarianceType
from sklearn_torch_gmm.core.fixed import Part
from sklearn_torch_gmm.core.model import GaussianMixtureModel
from sklearn_torch_gmm.em.failures import check_number_of_rows
from sklearn_torch_gmm.em.settings import FitSettings
from sklearn_torch_gmm.rows.kinds import is_read_in_pieces
from sklearn_torch_gmm.rows.tensors import as_tensor
from sklearn_torch_gmm.training.fit import fit_mixture

if TYPE_CHECKING:
    from typing_extensions import Self


class BaseGaussianMixture(ClusterMixin, BaseEstimator):
    """The body of both public classes.

    A public class holds its signature, its vocabulary, and what they mean. Fitted attributes are
    NumPy arrays, so that a fitted estimator is small and can be loaded anywhere.
    """

    covariance_type: CovarianceType
    batch_size: int | None
    num_workers: int
    random_state: int | np.random.RandomState | None
    fixed: Sequence[Part]
    weights_: npt.NDArray[np.floating[Any]]
    means_: npt.NDArray[np.floating[Any]]
    covariances_: npt.NDArray[np.floating[Any]]
    known_parts_: list[Part]
    precisions_cholesky_: npt.NDArray[np.floating[Any]]
    n_features_in_: int
    feature_names_in_: npt.NDArray[np.object_]

    _vocabulary: ClassVar[Vocabulary]

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "covariance_type": [covariance_types()],
        "batch_size": [Numbers(Integral, 1), None],
        "num_workers": [Numbers(Integral, 0)],
        "fixed": [tuple, list],
        "trainer_params": [dict, None],
        "random_state": ["random_state"],
    }

    # -- what a public class supplies --------------------------------------------------------------

    @abstractmethod
    def _fit_settings(self, num_features: int, random_state: np.random.RandomState) -> FitSettings:
        """Check what the user gave against the data, and return the settings of the fit."""

    @classmethod
    @abstractmethod
    def _own_parameters(cls, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return scikit-learn's parameters under the names of this class."""

    @abstractmethod
    def _scikit_learn_parameters(self) -> dict[str, Any]:
        """Return the parameters that scikit-learn's class has, under its names."""

    # -- parameters -------------------------------------------------------------------------------

    @property
    def n_clusters(self) -> int:
        """The number of components, under the name that tools for clusterers use."""
        return int(getattr(self, self._vocabulary.components))

    @n_clusters.setter
    def n_clusters(self, value: int) -> None:
        setattr(self, self._vocabulary.components, value)

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
            params[self._vocabulary.components] = params.pop("n_clusters")
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
        validate_parameters(self)
        with as_before_on_failure(self):
            data = read_data(self, X, sample_weight, keep_all=starts_from_array(self))
            rows = data.rows
            if rows.num_rows is not None:
                check_number_of_rows(rows.num_rows, self.n_clusters, self._vocabulary.components)
            random_state = check_random_state(self.random_state)
            settings = settings_of(self, rows.num_features, random_state)
            result = fit_mixture(rows, settings, ckpt_path)
            warn_of_outcome(self, result, settings)
            fitted_state.keep_result(self, result, settings, data)
        return self

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
        return self.predict(X) if is_read_in_pieces(X) else like_input(as_tensor(self.labels_), X)

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
        update_with_batch(self, X, sample_weight, step_exponent)
        return self

    # -- what a fitted mixture is asked -----------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        # A fit that failed may have left other attributes.
        return hasattr(self, "means_")

    predict = answers.predict
    predict_proba = answers.predict_proba
    score_samples = answers.score_samples
    score = answers.score
    bic = answers.bic
    aic = answers.aic
    # scikit-learn's name, which its own tests call.
    _n_parameters = answers.num_estimated_parameters

    @property
    def precisions_(self) -> np.ndarray[Any, Any]:
        """Inverse covariances, in the shape of `covariances_`, computed at each access.

        They always are those of `precisions_cholesky_`: kept beside it, they would make a pickle
        larger by half. Setting them has an effect only where there are no factors yet. Whoever
        reorders or scales the components of a mixture sets both, in any order, and the factors
        shall change once.
        """
        return fitted_state.precisions_of(self)

    @precisions_.setter
    def precisions_(self, value: npt.ArrayLike) -> None:
        if not hasattr(self, "precisions_cholesky_"):
            self.precisions_cholesky_ = fitted_state.factors_of(self, value)

    @property
    def model_(self) -> GaussianMixtureModel:
        """The fitted mixture as a torch module, on the CPU; a new one each time."""
        return fitted_state.torch_model(self)

    # -- conversions ------------------------------------------------------------------------------

    from_parameters = constructor(conversions.from_parameters)
    from_sklearn = constructor(conversions.from_sklearn)
    to_sklearn = conversions.to_sklearn

    # -- directories, pickles, documentation ------------------------------------------------------

    @property
    def persistent_attributes(self) -> list[str]:
        """Names of the fitted attributes that are saved, where the estimator has them.

        Examples
        --------
        >>> from sklearn_torch_gmm import GaussianMixture
        >>> "means_" in GaussianMixture().persistent_attributes
        True
        """
        return list(saving.PERSISTENT_ATTRIBUTES)

    save = saving.save
    load = constructor(saving.load)
    save_parameters = saving.save_parameters
    load_parameters = constructor(saving.load_parameters)
    save_attributes = saving.save_attributes
    load_attributes = saving.load_attributes
    __getstate__ = pickling.get_state
    __setstate__ = pickling.set_state
    _doc_link_module = "sklearn_torch_gmm"
    _doc_link_template = documentation.PAGE_TEMPLATE
    _doc_link_url_param_generator = documentation.reference_page

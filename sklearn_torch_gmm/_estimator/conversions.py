"""Conversions from given parameters, and from and to scikit-learn's class."""

from __future__ import annotations

import math
import warnings
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_torch_gmm._estimator.fixed_parts import fixed_parts_of
from sklearn_torch_gmm._estimator.missing import takes_gaps
from sklearn_torch_gmm._estimator.starting_values import (
    check_means,
    check_positive_definite,
    check_weights,
)
from sklearn_torch_gmm._estimator.vocabulary import NOT_SCIKIT_LEARNS
from sklearn_torch_gmm._private_parts import parameter_names
from sklearn_torch_gmm.core.covariance import (
    SCIKIT_LEARN_TYPES,
    STRUCTURES,
    CovarianceType,
    get_structure,
)
from sklearn_torch_gmm.core.fixed import parts_to_plain
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.rounding import are_reliable
from sklearn_torch_gmm.rows.tensors import as_tensor

Self = TypeVar("Self", bound=BaseEstimator)


def from_parameters(
    cls: type[Self],
    weights: npt.ArrayLike,
    means: npt.ArrayLike,
    covariances: npt.ArrayLike,
    *,
    covariance_type: CovarianceType = "full",
    **params: Any,
) -> Self:
    """Return a fitted estimator with the given parameters.

    It can predict, score and sample. :meth:`partial_fit`, or :meth:`fit` with ``warm_start`` if the
    class has it, starts from these parameters and keeps the parts that `fixed` names.

    Parameters
    ----------
    weights : array-like of shape (K,)
        Component probabilities.
    means : array-like of shape (K, D)
        Mean of each component.
    covariances : array-like
        Covariances, of shape (K, D, D) for 'full', (D, D) for 'tied', (K, D) for 'diag' and
        (K,) for 'spherical'.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
        The structure of the covariances.
    **params : dict
        Further parameters of the estimator.

    Returns
    -------
    mixture : object

    Raises
    ------
    ValueError
        If the weights are not probabilities, a shape is wrong, or a covariance is not
        symmetric and positive definite.
    TypeError
        If `params` contain the number of components, or a name that is not a parameter.

    Examples
    --------
    >>> from sklearn_torch_gmm.mixture import GaussianMixture
    >>> mixture = GaussianMixture.from_parameters(
    ...     weights=[0.5, 0.5],
    ...     means=[[-1.0], [1.0]],
    ...     covariances=[1.0, 1.0],
    ...     covariance_type="spherical",
    ... )
    >>> mixture.predict_proba([[0.0]])
    array([[0.5, 0.5]])
    """
    structure = get_structure(covariance_type)
    checked_means = check_means(means)
    components, features = checked_means.shape
    checked_weights = check_weights(weights, components)
    _check_type(covariances, components, features, covariance_type)
    checked = check_positive_definite(
        covariances, components, features, structure, "covariances"
    ).astype(float)
    given = (checked_weights.astype(float), checked_means.astype(float), checked)
    of_weights, of_means, matrices = (as_tensor(values)[None] for values in given)
    factors, exist = structure.precisions_cholesky(matrices, components)
    parameters = MixtureParameters(of_weights, of_means, matrices, factors)
    if not (exist & are_reliable(parameters, structure)).all():
        msg = (
            f"The {structure.name} covariances are positive definite only up to rounding, and "
            "cannot be inverted: increase their variances."
        )
        raise ValueError(msg)
    mixture = cls(
        covariance_type=covariance_type, **{cls._vocabulary.components: components}, **params
    )
    mixture.weights_, mixture.means_, mixture.covariances_ = given
    mixture.precisions_cholesky_ = factors[0].numpy()
    mixture.regularization_ = np.zeros(components)
    mixture.known_parts_ = parts_to_plain(fixed_parts_of(mixture))
    mixture.n_features_in_ = features
    mixture.converged_ = False
    mixture.n_iter_ = 0
    mixture.lower_bound_ = -math.inf
    mixture.lower_bounds_ = []
    return mixture


def _check_type(
    covariances: npt.ArrayLike, components: int, features: int, covariance_type: str
) -> None:
    """Raise ValueError if covariances have the shape of a type other than the given one."""
    try:
        shape = tuple(np.shape(covariances))
    except ValueError:
        # Lists of unequal length, for which the check of the values has a better message.
        return
    fitting = [
        name
        for name, structure in STRUCTURES.items()
        if structure.covariance_shape(components, features) == shape
    ]
    if fitting and covariance_type not in fitting:
        wanted = STRUCTURES[covariance_type].covariance_shape(components, features)
        msg = (
            f"The parameter 'covariances' should have the shape of {wanted} for covariance_type="
            f"{covariance_type!r}, but got {shape}, the shape for covariance_type={fitting[0]!r}."
        )
        raise ValueError(msg)


def from_sklearn(cls: type[Self], mixture: BaseEstimator) -> Self:
    """Return a fitted estimator with the parameters of scikit-learn's class, without refitting.

    Parameters
    ----------
    mixture : sklearn.mixture.GaussianMixture or BayesianGaussianMixture
        A fitted mixture of scikit-learn's corresponding class.

    Returns
    -------
    mixture : object

    Raises
    ------
    NotFittedError
        If `mixture` is not fitted.
    TypeError
        If `mixture` is of another class.

    Examples
    --------
    >>> import sklearn.mixture
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> theirs = sklearn.mixture.GaussianMixture(2, random_state=0)
    >>> _ = theirs.fit([[0.0], [1.0], [8.0]])
    >>> ours = GaussianMixture.from_sklearn(theirs)
    >>> bool((ours.means_ == theirs.means_).all())
    True
    """
    if not isinstance(mixture, cls._counterpart):
        kind = type(mixture)
        msg = (
            f"from_sklearn takes a fitted sklearn.mixture.{cls._counterpart.__name__}, got a "
            f"{kind.__module__}.{kind.__qualname__}."
        )
        raise TypeError(msg)
    # A failed fit may have set other attributes, but not these two, which are set last.
    check_is_fitted(mixture, ["precisions_cholesky_", "covariances_"])
    # A subclass may have additional parameters.
    names = parameter_names(cls._counterpart)
    own = cls(**cls._own_parameters({name: getattr(mixture, name) for name in names}))
    _copy_attributes(mixture, own)
    # Shared covariances make scikit-learn's Bayesian bounds arrays of one number.
    if hasattr(own, "lower_bound_"):
        own.lower_bound_ = _number(own.lower_bound_)
    if hasattr(own, "lower_bounds_"):
        own.lower_bounds_ = [_number(bound) for bound in own.lower_bounds_]
    if "regularization_" in cls._persistent_attributes and not hasattr(own, "regularization_"):
        own.regularization_ = np.full(len(own.means_), float(mixture.reg_covar))
    return own


def _number(value: Any) -> float:
    return float(value.item() if hasattr(value, "item") else value)


def to_sklearn(self) -> BaseEstimator:
    """Return scikit-learn's class with the fitted parameters, without refitting.

    The result can be used where torch is not installed, and converted to ONNX. It does not accept
    NaN; if this estimator has ``missing='em'``, a warning says so.

    Returns
    -------
    mixture : sklearn.mixture.GaussianMixture or BayesianGaussianMixture

    Raises
    ------
    ValueError
        If scikit-learn does not have the covariance type.

    Examples
    --------
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> mixture = GaussianMixture.from_parameters(
    ...     [0.5, 0.5], [[0], [4]], [[[1]], [[1]]]
    ... )
    >>> mixture.to_sklearn().predict([[0.5], [3.0]])
    array([0, 1])
    """
    check_is_fitted(self)
    if self.covariance_type not in SCIKIT_LEARN_TYPES:
        msg = (
            f"scikit-learn has no covariance_type={self.covariance_type!r}: keep this class, "
            f"or refit with one of {', '.join(map(repr, SCIKIT_LEARN_TYPES))}."
        )
        raise ValueError(msg)
    # Without torch, a parameter that is a tensor could not be unpickled.
    params = {
        name: np.asarray(value.detach().cpu()) if isinstance(value, Tensor) else value
        for name, value in self._scikit_learn_parameters().items()
    }
    if takes_gaps(self):
        warnings.warn(
            f"scikit-learn's {self._counterpart.__name__} has no missing='em': the result has the "
            "same parameters, but does not accept NaN.",
            stacklevel=2,
        )
    mixture = self._counterpart(**params)
    _copy_attributes(self, mixture)
    mixture.precisions_ = self.precisions_
    return mixture


def _copy_attributes(source: Any, target: Any) -> None:
    is_ours = hasattr(target, "_persistent_attributes")
    for name in (target if is_ours else source)._persistent_attributes:
        if (is_ours or name not in NOT_SCIKIT_LEARNS) and hasattr(source, name):
            value = getattr(source, name)
            if isinstance(value, Tensor):
                # scikit-learn's attributes are tensors if it was fitted to tensors.
                value = value.detach().cpu().numpy()
            setattr(target, name, value.copy() if hasattr(value, "copy") else value)

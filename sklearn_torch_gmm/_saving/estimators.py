"""Saving of estimators to a directory, and loading them again, without pickle.

The content is checked for consistency before an estimator is built from it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_torch_gmm._private_parts import parameter_names
from sklearn_torch_gmm._saving.model_file import Part, PartName, read_model, write_model
from sklearn_torch_gmm._saving.pickling import compact_labels
from sklearn_torch_gmm._saving.values import decode, encode
from sklearn_torch_gmm.core.covariance import STRUCTURES, get_structure
from sklearn_torch_gmm.core.fixed import parts_from_plain
from sklearn_torch_gmm.core.model import (
    MODEL_FILE,
    GaussianMixtureModel,
    GaussianMixtureModelConfig,
    model_from,
)

Self = TypeVar("Self", bound=BaseEstimator)
PathLike = str | os.PathLike[str]

PERSISTENT_ATTRIBUTES = (
    "weights_",
    "means_",
    "covariances_",
    "precisions_cholesky_",
    "converged_",
    "n_iter_",
    "lower_bound_",
    "lower_bounds_",
    "labels_",
    "n_samples_seen_",
    "n_features_in_",
    "feature_names_in_",
)
"""Fitted attributes of a mixture that are saved if they exist."""

_BUFFERS = {
    "weights_": "component_probs",
    "means_": "means",
    "precisions_cholesky_": "precisions_cholesky",
}
"""Fitted attributes that are stored under the names of the module's buffers."""


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and isinstance(value, Integral) and int(value) >= 0


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "converged_": lambda value: isinstance(value, (bool, np.bool_)),
    "n_iter_": _is_count,
    "lower_bound_": _is_number,
    "lower_bounds_": lambda value: isinstance(value, list) and all(map(_is_number, value)),
    "n_samples_seen_": lambda value: _is_number(value) and 0 <= value < np.inf,
    "n_features_in_": _is_count,
}
"""Checks of the values of attributes that are not arrays."""


def save(self, path: PathLike) -> None:
    """Save the estimator, fitted or not, to a directory, without pickle.

    A model that is already in the directory is replaced atomically: after a crash, it is either the
    old one or the new one. The page "Saving and loading" of the user guide describes the format.

    Parameters
    ----------
    path : str or path-like
        The directory, which is created if it does not exist.

    Raises
    ------
    UnstorableParameterError
        If a parameter can be stored neither as JSON nor as an array. Nothing is then written.
    ValueError
        If the fitted attributes do not match the parameters.
    OSError
        If the path is a file, or the directory cannot be written.

    Examples
    --------
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> mixture = GaussianMixture.from_parameters(
    ...     [0.5, 0.5], [[0], [4]], [[[1]], [[1]]]
    ... )
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     mixture.save(folder)
    ...     again = GaussianMixture.load(folder)
    >>> again.means_
    array([[0.],
           [4.]])
    """
    parts: dict[PartName, Part] = {"parameters": _parameters_of(self)}
    if self.__sklearn_is_fitted__():
        parts["attributes"] = _attributes_of(self)
    write_model(Path(path), _name_of(type(self)), parts, keep_other=False)


def load(cls: type[Self], path: PathLike) -> Self:
    """Load an estimator that :meth:`save` has written, fitted if it was, on the CPU.

    Parameters
    ----------
    path : str or path-like
        The directory.

    Returns
    -------
    estimator : object

    Raises
    ------
    OSError
        If the directory does not contain a model.
    ValueError
        If the model has another class or a newer format, or is damaged or altered.
    """
    parts = read_model(Path(path), _name_of(cls))
    estimator = _with_parameters(cls, parts, Path(path))
    if "attributes" in parts:
        _set_attributes(estimator, parts, Path(path))
    return estimator


def save_parameters(self, path: PathLike) -> None:
    """Save only the parameters to a directory, and keep fitted attributes that are in it.

    Parameters
    ----------
    path : str or path-like
        The directory, which is created if it does not exist.

    Raises
    ------
    UnstorableParameterError
        If a parameter can be stored neither as JSON nor as an array. Nothing is then written.
    ValueError
        If the directory contains attributes of another class.
    OSError
        If the path is a file, or the directory cannot be written.
    """
    parts: dict[PartName, Part] = {"parameters": _parameters_of(self)}
    write_model(Path(path), _name_of(type(self)), parts, keep_other=True)


def load_parameters(cls: type[Self], path: PathLike) -> Self:
    """Return an unfitted estimator with the parameters in a directory.

    Parameters
    ----------
    path : str or path-like
        The directory.

    Returns
    -------
    estimator : object

    Raises
    ------
    OSError
        If the directory does not contain parameters.
    ValueError
        If they belong to another class or a newer format, or are damaged or altered.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     GaussianMixture(3).save_parameters(folder)
    ...     GaussianMixture.load_parameters(folder)
    GaussianMixture(num_components=3)
    """
    return _with_parameters(cls, read_model(Path(path), _name_of(cls)), Path(path))


def save_attributes(self, path: PathLike) -> None:
    """Save only the fitted attributes to a directory, and keep parameters that are in it.

    Parameters
    ----------
    path : str or path-like
        The directory, which is created if it does not exist.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If the attributes do not match the parameters, or the directory contains parameters
        of another class.
    OSError
        If the path is a file, or the directory cannot be written.
    """
    check_is_fitted(self)
    parts: dict[PartName, Part] = {"attributes": _attributes_of(self)}
    write_model(Path(path), _name_of(type(self)), parts, keep_other=True)


def load_attributes(self, path: PathLike) -> None:
    """Load the fitted attributes from a directory, replacing those of an earlier fit.

    Parameters
    ----------
    path : str or path-like
        The directory.

    Raises
    ------
    OSError
        If the directory does not contain attributes.
    ValueError
        If they belong to another class, covariance type or number of components, have a newer
        format, or are damaged or altered.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> mixture = GaussianMixture(2).fit([[0.0], [1.0], [8.0], [9.0]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     mixture.save_attributes(folder)
    ...     mixture.clone().load_attributes(folder)
    """
    parts = read_model(Path(path), _name_of(type(self)))
    _set_attributes(
        self, parts, Path(path), num_components=getattr(self, self._vocabulary.components)
    )


def _parameters_of(estimator: BaseEstimator) -> Part:
    tensors: dict[str, Tensor] = {}
    parameters = estimator.get_params(deep=False)
    values = {name: encode(value, name, tensors) for name, value in parameters.items()}
    return Part(values, tensors)


def _with_parameters(cls: type[Self], parts: Mapping[PartName, Part], directory: Path) -> Self:
    origin = directory / MODEL_FILE
    if "parameters" not in parts:
        msg = "The file has no parameters: load its attributes into an estimator that has"
        raise FileNotFoundError(errno.ENOENT, msg, str(origin))
    part = parts["parameters"]
    parameters = decode(part.values, part.tensors, str(origin))
    _check_names(parameters, parameter_names(cls), str(origin))
    if not isinstance(parameters.get("trainer_params"), dict | None):
        msg = f"{origin} has trainer_params that are not a dictionary: save the model again."
        raise ValueError(msg)
    return cls(**parameters)


def _attributes_of(estimator: BaseEstimator) -> Part:
    names = estimator.persistent_attributes
    attributes = {name: getattr(estimator, name) for name in names if hasattr(estimator, name)}
    if "labels_" not in vars(estimator):
        # A subclass computes them in a way of its own.
        attributes.pop("labels_", None)
    _check_fitted(attributes, estimator.covariance_type, origin="The estimator")
    if "labels_" in attributes:
        attributes["labels_"] = compact_labels(attributes["labels_"])
    tensors: dict[str, Tensor] = {}
    values = {
        name: encode(value, _BUFFERS.get(name, name), tensors) for name, value in attributes.items()
    }
    components, features = attributes["means_"].shape
    config = GaussianMixtureModelConfig(components, features, estimator.covariance_type)
    return Part(values, tensors, asdict(config))


def _set_attributes(
    estimator: BaseEstimator,
    parts: Mapping[PartName, Part],
    directory: Path,
    num_components: int | None = None,
) -> None:
    """Set the attributes of an estimator of ``num_components`` components, unless that is None."""
    origin = directory / MODEL_FILE
    if "attributes" not in parts:
        msg = (
            "The file has no fitted attributes: it was saved before the fit. Load its parameters, "
            "and fit"
        )
        raise FileNotFoundError(errno.ENOENT, msg, str(origin))
    part = parts["attributes"]
    model_from(part.tensors, {"config": part.config}, str(origin), GaussianMixtureModel)
    attributes = decode(part.values, part.tensors, str(origin))
    _check_names(attributes, estimator.persistent_attributes, str(origin))
    _check_fitted(attributes, estimator.covariance_type, str(origin))
    found = len(attributes["means_"])
    if num_components not in (None, found):
        msg = (
            f"{origin} holds {found} components, but the estimator has {num_components}: call "
            f"set_params(n_clusters={found}), or load, which reads the parameters as well."
        )
        raise ValueError(msg)
    if "labels_" in attributes:
        attributes["labels_"] = attributes["labels_"].astype(np.int64)
    for name in estimator.persistent_attributes:
        estimator.__dict__.pop(name, None)
    estimator.__dict__.update(attributes)


def _name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _check_names(found: Mapping[str, Any], known: list[str], origin: str) -> None:
    strange = [name for name in found if name not in known]
    if strange:
        msg = (
            f"{origin} names {strange}, which this version of the class does not have: update "
            "sklearn_torch_gmm, or save the model with this version."
        )
        raise ValueError(msg)


def _check_fitted(attributes: Mapping[str, Any], covariance_type: Any, origin: str) -> None:
    """Raise ValueError unless the attributes match each other and the covariance type."""
    means = attributes.get("means_")
    if not isinstance(means, np.ndarray) or means.ndim != 2:
        msg = f"{origin} has no means_ of shape (K, D): fit it."
        raise ValueError(msg)
    components, features = means.shape
    if components == 0 or features == 0:
        msg = f"{origin} has means_ of shape {means.shape}: fit it."
        raise ValueError(msg)
    if not isinstance(covariance_type, str) or covariance_type not in STRUCTURES:
        msg = f"{origin} cannot be used with covariance_type={covariance_type!r}."
        raise ValueError(msg)
    shape = get_structure(covariance_type).covariance_shape(components, features)
    wanted = {
        "weights_": (components,),
        "means_": (components, features),
        "covariances_": shape,
        "precisions_cholesky_": shape,
    }
    for name, wanted_shape in wanted.items():
        values = attributes.get(name)
        if not isinstance(values, np.ndarray) or values.shape != wanted_shape:
            msg = (
                f"{origin} has {name} of shape {getattr(values, 'shape', None)}, but "
                f"covariance_type={covariance_type!r} requires {wanted_shape}: fit it again."
            )
            raise ValueError(msg)
        if values.dtype != means.dtype or values.dtype.kind != "f":
            msg = f"{origin} has {name} of type {values.dtype}, but means_ of type {means.dtype}."
            raise ValueError(msg)
    amounts = attributes.get("regularization_", np.zeros(components))
    has_amounts = isinstance(amounts, np.ndarray) and amounts.ndim == 1
    if not has_amounts or not all(0 <= amount < np.inf for amount in amounts):
        msg = f"{origin} has regularization_ = {amounts!r:.100}: fit it again."
        raise ValueError(msg)
    for name, is_possible in _CHECKS.items():
        if name in attributes and not is_possible(attributes[name]):
            msg = f"{origin} has {name} = {attributes[name]!r:.100}: fit it again."
            raise ValueError(msg)
    labels = attributes.get("labels_", np.zeros(0, np.int64))
    if not isinstance(labels, np.ndarray) or labels.ndim != 1 or labels.dtype.kind not in "iu":
        msg = f"{origin} has labels_ that are not an array of integers: fit it again."
        raise ValueError(msg)
    try:
        parts_from_plain(attributes.get("known_parts_", []), components)
    except ValueError as error:
        msg = f"{origin} has wrong known_parts_, {error}: fit it again."
        raise ValueError(msg) from error
    names = attributes.get("feature_names_in_", np.empty(features))
    has_names = isinstance(names, np.ndarray) and names.shape == (features,)
    if attributes.get("n_features_in_", features) != features or not has_names:
        msg = f"{origin} has another number of feature names or features than means_: fit it again."
        raise ValueError(msg)

"""Estimators that go into a directory and come back, without pickle.

The parameters are JSON, the fitted attributes JSON beside the file of the fitted torch module. What
is read is checked against itself before an estimator is made of it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_torch_gmm._private_parts import parameter_names
from sklearn_torch_gmm._saving.directory import (
    ATTRIBUTE_FILES,
    PARAMETER_FILES,
    read_model,
    write_model,
)
from sklearn_torch_gmm._saving.pickling import compact_labels
from sklearn_torch_gmm._saving.values import decode, encode
from sklearn_torch_gmm.core.covariance import STRUCTURES, get_structure
from sklearn_torch_gmm.core.fixed import PARTS
from sklearn_torch_gmm.core.model import GaussianMixtureModel
from sklearn_torch_gmm.core.serialization import dump_json, dump_tensors, parse_json, parse_tensors

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
    "known_parts_",
    "n_samples_seen_",
    "n_features_in_",
    "feature_names_in_",
)
"""Fitted attributes of a mixture that are saved, where it has them."""

_BUFFERS = {
    "weights_": "component_probs",
    "means_": "means",
    "precisions_cholesky_": "precisions_cholesky",
}
"""Fitted attributes that the module's file holds under the names of the module's buffers."""

_PARAMETERS_JSON, _PARAMETERS_TENSORS = PARAMETER_FILES
_ATTRIBUTES_JSON, _ATTRIBUTES_TENSORS = ATTRIBUTE_FILES


def save(self, path: PathLike) -> None:
    """Write the estimator, fitted or not, to a directory, without pickle.

    A model that is there already is replaced in one step: a crash leaves the old or the new
    one. What each file holds is described in the documentation's page on keeping models.

    Parameters
    ----------
    path : str or path-like
        The directory, which is made if it is not there.

    Raises
    ------
    UnstorableParameterError
        If a parameter can be stored neither as JSON nor as an array. Nothing is then written.
    ValueError
        If the fitted attributes do not fit the parameters.
    OSError
        If the path is one of a file, or the directory cannot be written.

    Examples
    --------
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> mixture = GaussianMixture.from_parameters([0.5, 0.5], [[0], [4]], [[[1]], [[1]]])
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     mixture.save(folder)
    ...     again = GaussianMixture.load(folder)
    >>> again.means_
    array([[0.],
           [4.]])
    """
    files = _parameter_files(self)
    if self.__sklearn_is_fitted__():
        files |= _attribute_files(self)
    replaced = (*PARAMETER_FILES, *ATTRIBUTE_FILES)
    write_model(Path(path), _name_of(type(self)), files, replaced=replaced)


def load(cls: type[Self], path: PathLike) -> Self:
    """Return the estimator that :meth:`save` wrote, on the CPU, fitted if it was.

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
        If there is no model, or a file of it is missing.
    ValueError
        If the model is of another class, of a newer format, damaged or altered.
    """
    path = Path(path)
    files = read_model(path, _name_of(cls), (*PARAMETER_FILES, *ATTRIBUTE_FILES))
    estimator = _from_parameter_files(cls, files, path)
    if _ATTRIBUTES_JSON in files:
        _set_attributes(estimator, files, path)
    return estimator


def save_parameters(self, path: PathLike) -> None:
    """Write the parameters alone to a directory; fitted attributes that are there stay.

    Parameters
    ----------
    path : str or path-like
        The directory, which is made if it is not there.

    Raises
    ------
    UnstorableParameterError
        If a parameter can be stored neither as JSON nor as an array. Nothing is then written.
    ValueError
        If the directory holds attributes of another class.
    OSError
        If the path is one of a file, or the directory cannot be written.
    """
    files = _parameter_files(self)
    write_model(Path(path), _name_of(type(self)), files, replaced=PARAMETER_FILES)


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
        If there are no parameters.
    ValueError
        If they are of another class, of a newer format, damaged or altered.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     GaussianMixture(3).save_parameters(folder)
    ...     GaussianMixture.load_parameters(folder)
    GaussianMixture(num_components=3)
    """
    path = Path(path)
    return _from_parameter_files(cls, read_model(path, _name_of(cls), PARAMETER_FILES), path)


def save_attributes(self, path: PathLike) -> None:
    """Write the fitted attributes alone to a directory; parameters that are there stay.

    Parameters
    ----------
    path : str or path-like
        The directory, which is made if it is not there.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If the attributes do not fit the parameters, or the directory holds parameters of
        another class.
    OSError
        If the path is one of a file, or the directory cannot be written.
    """
    check_is_fitted(self)
    files = _attribute_files(self)
    write_model(Path(path), _name_of(type(self)), files, replaced=ATTRIBUTE_FILES)


def load_attributes(self, path: PathLike) -> None:
    """Take the fitted attributes from a directory; those of an earlier fit are dropped.

    Parameters
    ----------
    path : str or path-like
        The directory.

    Raises
    ------
    OSError
        If there are no attributes.
    ValueError
        If they are of another class or covariance type, of a newer format, damaged or altered.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> mixture = GaussianMixture(2).fit([[0.0], [1.0], [8.0], [9.0]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     mixture.save_attributes(folder)
    ...     mixture.clone().load_attributes(folder)
    """
    path = Path(path)
    _set_attributes(self, read_model(path, _name_of(type(self)), ATTRIBUTE_FILES), path)


def _parameter_files(estimator: BaseEstimator) -> dict[str, bytes]:
    tensors: dict[str, Tensor] = {}
    parameters = estimator.get_params(deep=False)
    encoded = {name: encode(value, name, tensors) for name, value in parameters.items()}
    files = {_PARAMETERS_JSON: dump_json(encoded)}
    if tensors:
        files[_PARAMETERS_TENSORS] = dump_tensors(tensors, {})
    return files


def _from_parameter_files(cls: type[Self], files: Mapping[str, bytes], directory: Path) -> Self:
    origin = directory / _PARAMETERS_JSON
    if _PARAMETERS_JSON not in files:
        msg = "The directory has no parameters: load its attributes into an estimator that has"
        raise FileNotFoundError(errno.ENOENT, msg, str(origin))
    tensors: dict[str, Tensor] = {}
    if _PARAMETERS_TENSORS in files:
        place = str(directory / _PARAMETERS_TENSORS)
        tensors, _ = parse_tensors(files[_PARAMETERS_TENSORS], place)
    parameters = _decode_names(files[_PARAMETERS_JSON], tensors, str(origin))
    _check_names(parameters, parameter_names(cls), str(origin))
    return cls(**parameters)


def _attribute_files(estimator: BaseEstimator) -> dict[str, bytes]:
    attributes = {
        n: getattr(estimator, n) for n in estimator.persistent_attributes if hasattr(estimator, n)
    }
    _check_fitted(attributes, estimator.covariance_type, origin="The estimator")
    if "labels_" in attributes:
        attributes["labels_"] = compact_labels(attributes["labels_"])
    tensors: dict[str, Tensor] = {}
    encoded = {
        name: encode(value, _BUFFERS.get(name, name), tensors) for name, value in attributes.items()
    }
    others = {n: t for n, t in tensors.items() if n not in _BUFFERS.values()}
    model: GaussianMixtureModel = estimator.model_
    return {
        _ATTRIBUTES_JSON: dump_json(encoded),
        _ATTRIBUTES_TENSORS: model.to_bytes(others),
    }


def _set_attributes(estimator: BaseEstimator, files: Mapping[str, bytes], directory: Path) -> None:
    origin = directory / _ATTRIBUTES_JSON
    for name in ATTRIBUTE_FILES:
        if name not in files:
            msg = (
                "The directory has no fitted attributes: it was saved before the fit. Load its "
                "parameters, and fit"
            )
            raise FileNotFoundError(errno.ENOENT, msg, str(directory / name))
    place = str(directory / _ATTRIBUTES_TENSORS)
    model, others = GaussianMixtureModel.from_bytes(files[_ATTRIBUTES_TENSORS], place)
    tensors = {**others, **model.state_dict()}
    attributes = _decode_names(files[_ATTRIBUTES_JSON], tensors, str(origin))
    _check_names(attributes, estimator.persistent_attributes, str(origin))
    _check_fitted(attributes, estimator.covariance_type, str(origin))
    if "labels_" in attributes:
        attributes["labels_"] = attributes["labels_"].astype(np.int64)
    for name in estimator.persistent_attributes:
        estimator.__dict__.pop(name, None)
    estimator.__dict__.update(attributes)


def _name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _decode_names(content: bytes, tensors: Mapping[str, Tensor], origin: str) -> dict[str, Any]:
    values = decode(parse_json(content, origin), tensors, origin)
    if not isinstance(values, dict):
        msg = f"{origin} is damaged: it does not hold values by name. Save the model again."
        raise ValueError(msg)
    return values


def _check_names(found: Mapping[str, Any], known: list[str], origin: str) -> None:
    strange = [name for name in found if name not in known]
    if strange:
        msg = (
            f"{origin} names {strange}, which this version of the class does not have: update "
            "sklearn_torch_gmm, or save the model with this version."
        )
        raise ValueError(msg)


def _check_fitted(attributes: Mapping[str, Any], covariance_type: Any, origin: str) -> None:
    """Raise ValueError unless the attributes belong together, and to the covariance type."""
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
                f"{origin} has {name} of shape {getattr(values, 'shape', None)}, and "
                f"covariance_type={covariance_type!r} wants {wanted_shape}: fit it again."
            )
            raise ValueError(msg)
        if values.dtype != means.dtype or values.dtype.kind != "f":
            msg = f"{origin} has {name} of type {values.dtype}, and means_ of {means.dtype}."
            raise ValueError(msg)
    labels = attributes.get("labels_", np.zeros(0, np.int64))
    if not isinstance(labels, np.ndarray) or labels.ndim != 1 or labels.dtype.kind not in "iu":
        msg = f"{origin} has labels_ that are not one whole number a row: fit it again."
        raise ValueError(msg)
    known = attributes.get("known_parts_", [])
    if not isinstance(known, list) or not all(part in PARTS for part in known):
        msg = f"{origin} has known_parts_ {known!r}, and the parts are {PARTS}: fit it again."
        raise ValueError(msg)
    names = attributes.get("feature_names_in_", np.empty(features))
    has_names = isinstance(names, np.ndarray) and names.shape == (features,)
    if attributes.get("n_features_in_", features) != features or not has_names:
        msg = f"{origin} names another number of features than means_ has: fit it again."
        raise ValueError(msg)

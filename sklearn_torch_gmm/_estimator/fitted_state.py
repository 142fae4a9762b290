"""The fitted attributes, set from the result of a fit, and their conversions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_torch_gmm._estimator.fit_data import FitData
from sklearn_torch_gmm._estimator.inference import evaluate, inference_of, is_of_other_type
from sklearn_torch_gmm._estimator.outcome import check_representable
from sklearn_torch_gmm._estimator.validation import rows_of
from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.core.fixed import fix_whole, parts_from_plain, parts_to_plain
from sklearn_torch_gmm.core.model import GaussianMixtureModel, GaussianMixtureModelConfig
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.em.results import FitResult
from sklearn_torch_gmm.em.settings import FitSettings
from sklearn_torch_gmm.rows.in_memory import ArrayRows
from sklearn_torch_gmm.rows.kinds import is_read_in_pieces
from sklearn_torch_gmm.rows.tensors import as_tensor

_PARAMETERS = ("weights_", "means_", "covariances_", "precisions_cholesky_")
"""Attributes for the fields of :class:`MixtureParameters`, in their order."""


def keep_result(
    mixture: BaseEstimator, result: FitResult, settings: FitSettings, data: FitData
) -> None:
    """Set all fitted attributes from the result of a fit."""
    X = data.X
    mixture._keep_parameters(result.parameters, settings, data.dtype)
    mixture.n_samples_seen_ = data.total_weight
    mixture.converged_ = result.converged
    mixture.lower_bounds_ = result.lower_bounds
    mixture.n_iter_ = len(result.lower_bounds)
    mixture.lower_bound_ = result.lower_bounds[-1] if result.lower_bounds else -math.inf
    if has_computed_labels(mixture):
        return
    if not is_read_in_pieces(X):
        mixture.labels_ = _labels(mixture, data)
    elif isinstance(X, np.ndarray):
        mixture.labels_ = mixture.predict(X)
    else:
        # The labels of a stream might not fit in memory.
        mixture.__dict__.pop("labels_", None)


def has_computed_labels(mixture: BaseEstimator) -> bool:
    """Whether a subclass computes `labels_` in a way of its own."""
    return hasattr(getattr(type(mixture), "labels_", None), "__get__")


def _labels(mixture: BaseEstimator, data: FitData) -> npt.NDArray[np.int64]:
    """Return the labels of data in memory, which may still be on the trainer's device.

    The data of the fit do not include the rows of weight zero.
    """
    inference, rows = inference_of(mixture), rows_of(data.X)
    if isinstance(data.rows, ArrayRows) and data.rows.num_rows == len(rows):
        rows = data.rows.rows_on(inference.device)
    labels: npt.NDArray[np.int64] = evaluate(inference, "labels", rows).cpu().numpy()
    return labels


def set_parameters(mixture: BaseEstimator, parameters: MixtureParameters, dtype: Any) -> None:
    """Set weights, means, covariances and precision factors from a batch of one mixture.

    UnrepresentableParameterError is raised if ``dtype`` cannot hold a variance.
    """
    structure, sizes = get_structure(mixture.covariance_type), parameters.means.shape[-2:]
    check_representable(structure.variances(parameters.covariances[0], *sizes), dtype)

    # A posterior has further fields.
    for name, values in zip(_PARAMETERS, parameters.tensors(), strict=False):
        # An M-step may return tensors with the components along the last axis of memory.
        setattr(mixture, name, values[0].numpy().astype(dtype, order="C"))


def remember_estimation(mixture: BaseEstimator, settings: FitSettings, *, continues: bool) -> None:
    """Set `known_parts_` and `regularization_` after a fit, which may continue an earlier one."""
    _remember_known_parts(mixture, settings, continues=continues)
    # A warm start keeps the number of components of the earlier fit.
    amounts = np.full(len(mixture.means_), float(settings.regularization.amount))
    if "covariances" in settings.fixed:
        before = amounts
        if continues:
            before = getattr(mixture, "regularization_", amounts)
        elif "covariances" in settings.start.given_parts:
            before = np.zeros_like(amounts)
        amounts = np.where(settings.fixed["covariances"].numpy(), before, amounts)
    mixture.regularization_ = amounts


def _remember_known_parts(
    mixture: BaseEstimator, settings: FitSettings, *, continues: bool
) -> None:
    """Set `known_parts_` to the fixed parts that the user gave, in this or an earlier fit."""
    components, given = settings.num_components, {}
    if settings.fixed and continues:
        given = parts_from_plain(getattr(mixture, "known_parts_", []), components)
    elif settings.fixed:
        given = fix_whole(settings.start.given_parts, components)
    both = {part: given[part] & chosen for part, chosen in settings.fixed.items() if part in given}
    mixture.known_parts_ = parts_to_plain({part: mask for part, mask in both.items() if mask.any()})


def fitted_parameters(mixture: BaseEstimator) -> MixtureParameters:
    """Return the fitted attributes as float64 tensors, a batch of one mixture."""
    weights, means, factors = (
        as_tensor(getattr(mixture, name)).double()
        for name in ("weights_", "means_", "precisions_cholesky_")
    )
    parts = weights, means, covariances_of(mixture).double(), factors
    return MixtureParameters(*(values.unsqueeze(0) for values in parts))


def covariances_of(mixture: BaseEstimator) -> Tensor:
    """Return the covariances; a mixture made by hand may have only factors of its precisions."""
    if hasattr(mixture, "covariances_"):
        return as_tensor(mixture.covariances_)
    factors = as_tensor(mixture.precisions_cholesky_)
    return get_structure(mixture.covariance_type).covariances(factors.double()).to(factors.dtype)


def check_can_continue(
    mixture: BaseEstimator, sizes: tuple[int, int], reason: str, requirement: str, remedy: str
) -> None:
    """Raise ValueError unless the fitted attributes have the ``sizes`` K and D to continue from.

    The message names the ``reason`` to continue, the parameters behind the ``requirement``, and a
    ``remedy``.
    """
    means, covariances = mixture.means_.shape, mixture.precisions_cholesky_.shape
    required = get_structure(mixture.covariance_type).covariance_shape(*sizes)
    if means != sizes or covariances != required:
        msg = (
            f"{reason} continues from means of shape {means} and covariances of shape "
            f"{covariances}, but {requirement} and covariance_type={mixture.covariance_type!r} "
            f"require covariances of shape {required}. {remedy}"
        )
        raise ValueError(msg)
    if is_of_other_type(mixture):
        msg = (
            f"{reason} continues from covariances of shape {covariances}, which were not estimated "
            f"with covariance_type={mixture.covariance_type!r}. {remedy}"
        )
        raise ValueError(msg)


def precisions_of(mixture: BaseEstimator) -> npt.NDArray[Any]:
    """Return the inverse covariances, in the shape of `covariances_`."""
    check_is_fitted(mixture)
    factors = mixture.precisions_cholesky_
    structure = get_structure(mixture.covariance_type)
    precisions = structure.precisions(as_tensor(factors).double())
    return precisions.numpy().astype(factors.dtype)


def factors_of(mixture: BaseEstimator, precisions: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return the Cholesky factors of precisions, in the shape of `covariances_`."""
    precisions = np.asarray(precisions)
    structure = get_structure(mixture.covariance_type)
    factors = structure.precisions_cholesky_from_precisions(as_tensor(precisions).double())
    return factors.numpy().astype(precisions.dtype)


def torch_model(mixture: BaseEstimator) -> GaussianMixtureModel:
    """Return the fitted mixture as a new torch module on the CPU."""
    check_is_fitted(mixture)
    components, features = mixture.means_.shape
    config = GaussianMixtureModelConfig(components, features, mixture.covariance_type)
    dtype = as_tensor(mixture.means_[:0]).dtype
    with torch.device("cpu"):
        model = GaussianMixtureModel(
            config, dtype=dtype if dtype.is_floating_point else torch.float64
        )
    model.component_probs.copy_(as_tensor(mixture.weights_))
    model.means.copy_(as_tensor(mixture.means_))
    model.precisions_cholesky.copy_(as_tensor(mixture.precisions_cholesky_))
    return model

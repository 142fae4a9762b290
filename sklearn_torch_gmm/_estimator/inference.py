"""Predicting and scoring with a fitted mixture.

The functions with a `self` are methods, which the public classes bind. They use only the fitted
attributes, and never Lightning for arrays and tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_torch_gmm._estimator.missing import takes_gaps
from sklearn_torch_gmm._estimator.validation import like_input, rows_of, validate_rows
from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.core.device import arithmetic_dtype, device_for, moved
from sklearn_torch_gmm.core.fixed import num_free_parameters, parts_from_plain
from sklearn_torch_gmm.core.gap_inference import GapInference
from sklearn_torch_gmm.core.inference import Inference
from sklearn_torch_gmm.em.threads import threads_for_work
from sklearn_torch_gmm.rows.kinds import is_read_in_pieces, is_stream, source_of
from sklearn_torch_gmm.rows.sample_weight import check_total, validate_weights
from sklearn_torch_gmm.rows.source import RowSource
from sklearn_torch_gmm.rows.tensors import as_tensor, device_of


def predict(self, X: Any) -> Any:
    """Return the most probable component of each sample.

    Parameters
    ----------
    X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
        Samples, in any form that :meth:`fit` accepts.

    Returns
    -------
    labels : ndarray or Tensor of shape (N,), int64

    Examples
    --------
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> mixture = GaussianMixture.from_parameters(
    ...     [0.5, 0.5], [[0], [4]], [[[1]], [[1]]]
    ... )
    >>> mixture.predict([[0.5], [3.0]])
    array([0, 1])
    """
    return _evaluate(self, "labels", X)


def predict_proba(self, X: Any) -> Any:
    """Return the responsibilities p(component | x) for each sample.

    Parameters
    ----------
    X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
        Samples, in any form that :meth:`fit` accepts.

    Returns
    -------
    responsibilities : ndarray or Tensor of shape (N, K)

    Examples
    --------
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> mixture = GaussianMixture.from_parameters(
    ...     [0.5, 0.5], [[0], [4]], [[[1]], [[1]]]
    ... )
    >>> mixture.predict_proba([[2.0], [3.0]]).round(3)
    array([[0.5  , 0.5  ],
           [0.018, 0.982]])
    """
    return _evaluate(self, "responsibilities", X)


def score_samples(self, X: Any) -> Any:
    """Return the log-density of each sample; it is positive where the density exceeds 1.

    Parameters
    ----------
    X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
        Samples, in any form that :meth:`fit` accepts.

    Returns
    -------
    log_densities : ndarray or Tensor of shape (N,)
        In nats.

    Examples
    --------
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> mixture = GaussianMixture.from_parameters(
    ...     [0.5, 0.5], [[0], [4]], [[[1]], [[1]]]
    ... )
    >>> mixture.score_samples([[0.0], [2.0]]).round(3)
    array([-1.612, -2.919])
    """
    return _evaluate(self, "log_densities", X)


def component_log_densities(self, X: Any) -> Any:
    """Return log p(x | component) for each sample and component, without the weights.

    It tells components apart also where :meth:`predict_proba` is zero or one to rounding.

    Parameters
    ----------
    X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
        Samples, in any form that :meth:`fit` accepts.

    Returns
    -------
    log_densities : ndarray or Tensor of shape (N, K)
        log N(x | μ_k, Σ_k), in nats.

    Examples
    --------
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> mixture = GaussianMixture.from_parameters(
    ...     [0.5, 0.5], [[0], [4]], [[[1]], [[1]]]
    ... )
    >>> mixture.component_log_densities([[0.0], [100.0]]).round().tolist()
    [[-1.0, -9.0], [-5001.0, -4609.0]]
    """
    return _evaluate(self, "component_log_densities", X)


def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
    """Return the mean log-density of the samples; larger is better.

    Parameters
    ----------
    X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
        Samples, in any form that :meth:`fit` accepts.
    y : Ignored
        Not used, present for API consistency by convention.
    sample_weight : array-like of shape (N,) or True, default=None
        Weights of the samples in the mean. True: each item of a stream or a ``DataLoader`` is a
        pair whose second element is the weight.

    Returns
    -------
    score : float
        In nats per sample.

    Examples
    --------
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> mixture = GaussianMixture.from_parameters(
    ...     [0.5, 0.5], [[0], [4]], [[[1]], [[1]]]
    ... )
    >>> round(mixture.score([[0.0], [2.0]]), 3)
    -2.265
    """
    mean, _ = _mean_log_density(self, X, sample_weight)
    return mean


def bic(self, X: Any, sample_weight: Any = None) -> float:
    """Return the Bayesian information criterion; smaller is better.

    Parameters
    ----------
    X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
        Samples, in any form that :meth:`fit` accepts.
    sample_weight : array-like of shape (N,) or True, default=None
        Weights of the samples, as in :meth:`score`: an integer weight stands for that many copies
        of the sample, and N is the sum of the weights.

    Returns
    -------
    bic : float
        −2 log p(X) + log(N) · number of free parameters. Schwarz (1978). Parts of the mixture
        that were given and kept fixed have no free parameters.

    Examples
    --------
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> mixture = GaussianMixture.from_parameters(
    ...     [0.5, 0.5], [[0], [4]], [[[1]], [[1]]]
    ... )
    >>> round(mixture.bic([[0.0], [2.0], [4.0]]), 3)
    17.778
    """
    mean, weight = _mean_log_density(self, X, sample_weight)
    return -2.0 * mean * weight + self._n_parameters() * math.log(weight)


def aic(self, X: Any, sample_weight: Any = None) -> float:
    """Return the Akaike information criterion; smaller is better.

    Parameters
    ----------
    X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
        Samples, in any form that :meth:`fit` accepts.
    sample_weight : array-like of shape (N,) or True, default=None
        Weights of the samples, as in :meth:`score`: an integer weight stands for that many copies
        of the sample.

    Returns
    -------
    aic : float
        −2 log p(X) + 2 · number of free parameters. Akaike (1974). Parts of the mixture that
        were given and kept fixed have no free parameters.

    Examples
    --------
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> mixture = GaussianMixture.from_parameters(
    ...     [0.5, 0.5], [[0], [4]], [[[1]], [[1]]]
    ... )
    >>> round(mixture.aic([[0.0], [2.0], [4.0]]), 3)
    22.285
    """
    mean, weight = _mean_log_density(self, X, sample_weight)
    return -2.0 * mean * weight + self._n_parameters() * 2


def check_covariance_type(mixture: BaseEstimator) -> None:
    """Raise ValueError if `covariance_type` is not that of the fitted covariances any more."""
    found, name = np.shape(mixture.precisions_cholesky_), mixture.covariance_type
    required = get_structure(name).covariance_shape(*np.shape(mixture.means_))
    if found != required or is_of_other_type(mixture):
        msg = (
            f"The fitted covariances have the shape {found} and were not estimated with "
            f"covariance_type={name!r}: set it back, or fit again."
        )
        raise ValueError(msg)


def is_of_other_type(mixture: BaseEstimator) -> bool:
    """Whether shared matrices are taken for variances, or the reverse: K may be equal to D."""
    factors, structure = mixture.precisions_cholesky_, get_structure(mixture.covariance_type)
    components, features = sizes = np.shape(mixture.means_)
    if np.shape(factors) != sizes or components != features or components < 2:
        return False
    # A matrix has a triangular factor; a variance has a positive one.
    is_triangular = not np.tril(factors, -1).any()
    return is_triangular if structure.has_independent_features else not is_triangular


def inference_of(mixture: BaseEstimator, device: torch.device | None = None) -> Inference:
    """Return the fitted mixture on a device, by default the one that its trainer uses."""
    check_covariance_type(mixture)
    params = getattr(mixture, "trainer_params", None) or {}
    device = device or device_for(params)
    dtype = arithmetic_dtype(device, params.get("precision"))
    log_weights, means, factors = (
        moved(tensor, device, dtype)
        for tensor in (
            mixture._added_log_weights(),
            as_tensor(mixture.means_),
            as_tensor(mixture.precisions_cholesky_),
        )
    )
    kind = GapInference if takes_gaps(mixture) else Inference
    return kind(log_weights, means, factors, get_structure(mixture.covariance_type))


def num_estimated_parameters(mixture: BaseEstimator) -> int:
    """Return the number of parameters that were estimated from data."""
    components, features = mixture.means_.shape
    known = parts_from_plain(getattr(mixture, "known_parts_", []), components)
    return num_free_parameters(get_structure(mixture.covariance_type), components, features, known)


def _evaluate(mixture: BaseEstimator, quantity: str, X: Any) -> Any:
    """Evaluate a method of :class:`Inference`, named by ``quantity``, on data in any form."""
    check_is_fitted(mixture)
    if is_read_in_pieces(X):
        batches, source = _evaluate_batches(mixture, quantity, X, None, in_order=True)
        values = _concatenate((values for values, *_ in batches), source.num_rows)
        return like_input(values, source.tensor_device, mixture._vocabulary)
    X = validate_rows(mixture, X, reset=False)
    # A tensor is evaluated on its own device, all else on the device of the trainer.
    values = evaluate(inference_of(mixture, device_of(X)), quantity, rows_of(X))
    return like_input(values, device_of(X), mixture._vocabulary)


def evaluate(inference: Inference, quantity: str, rows: Tensor) -> Tensor:
    """Evaluate a method of :class:`Inference`, named by ``quantity``, on rows ``[N, D]``."""
    with threads_for(inference, rows):
        values: Tensor = getattr(inference, quantity)(rows)
    return values


def threads_for(inference: Inference, rows: Tensor) -> AbstractContextManager[None]:
    """Limit OpenMP to one thread for few rows ``[N, D]``.

    torch divides even the maxima of three numbers among its threads, and waits for all of them: on
    a busy machine, the labels of a hundred rows took 17 ms instead of 0.2 ms.
    """
    return threads_for_work(inference.cost(rows.shape[0]))


def _mean_log_density(mixture: BaseEstimator, X: Any, sample_weight: Any) -> tuple[float, float]:
    """Return the weighted mean of log p(x), and Σ w."""
    if is_stream(X) or (sample_weight is None and is_read_in_pieces(X)):
        batches, _ = _evaluate_batches(mixture, "log_densities", X, sample_weight, in_order=False)
        means = [_weighted_mean(*batch) for batch in batches]
        mean, weight = _weighted_mean(*as_tensor(np.array(means)).T)
        check_total(weight)
        return mean, weight
    log_densities = mixture.score_samples(X)
    num_rows = log_densities.shape[0]
    if isinstance(log_densities, Tensor) and (log_densities.is_cpu or sample_weight is not None):
        log_densities = log_densities.cpu().numpy()
    if sample_weight is None:
        # NumPy's mean rounds as scikit-learn's.
        return float(log_densities.mean()), float(num_rows)
    weights = validate_weights(sample_weight, num_rows)
    return _weighted_mean(as_tensor(log_densities), as_tensor(weights))


def _evaluate_batches(
    mixture: BaseEstimator, quantity: str, X: Any, sample_weight: Any, *, in_order: bool
) -> tuple[Iterator[tuple[Tensor, ...]], RowSource]:
    """Return batches of values with their weights, if any, and the source of the rows."""
    source = source_of(X, sample_weight)
    if source.num_features != mixture.means_.shape[1]:
        msg = (
            f"X has {source.num_features} features, but {type(mixture).__name__} is expecting "
            f"{mixture.means_.shape[1]} features as input."
        )
        raise ValueError(msg)
    inference = inference_of(mixture)
    # Several workers that share a stream would return its rows out of order.
    num_workers = mixture.num_workers
    if in_order and is_stream(X):
        num_workers = min(num_workers, 1)

    def values() -> Iterator[tuple[Tensor, ...]]:
        with source.batches(mixture.batch_size, num_workers) as batches:
            for rows, *weights in batches.finite(allow_missing=takes_gaps(mixture)):
                yield evaluate(inference, quantity, rows.cpu()), *(w.cpu() for w in weights)

    return values(), source


def _weighted_mean(values: Tensor, weights: Tensor | None = None) -> tuple[float, float]:
    """Return Σ w v / Σ w, zero without weight, and Σ w."""
    if weights is None:
        return values.double().mean().item(), float(len(values))
    total = weights.sum().item()
    # 0 * -inf would be NaN; a sample of weight zero contributes 0.
    kept = weights > 0
    values, weights = values[kept].double(), weights[kept].double()
    if (values == -math.inf).any():
        # A share that underflows would make it NaN.
        return -math.inf, total
    # Not the sum, which might overflow, divided by the total.
    return (values @ (weights / total)).item(), total


def _concatenate(batches: Iterator[Tensor], num_rows: int | None) -> Tensor:
    """Return all batches as one tensor, grown in place unless the number of rows is known."""
    first = next(batches).numpy()
    result = np.empty((num_rows or 0, *first.shape[1:]), first.dtype)
    filled = 0
    for batch in chain([first], (batch.numpy() for batch in batches)):
        end = filled + len(batch)
        if end > len(result):
            # An eighth in reserve keeps the copies linear in N; twice that would leave up to a
            # quarter of the memory unused before the last resize.
            result.resize((end + len(result) // 8, *result.shape[1:]), refcheck=False)
        result[filled:end] = batch
        filled = end
    if num_rows is not None and filled != num_rows:
        msg = f"Expected {num_rows} rows, and {filled} could be read."
        raise ValueError(msg)
    result.resize((filled, *result.shape[1:]), refcheck=False)
    return as_tensor(result)

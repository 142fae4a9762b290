"""The answers of a fitted mixture about rows of any kind, and rows drawn from it.

The public functions are methods: the classes bind them. They need the fitted attributes only, and
for arrays and tensors never Lightning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_torch_gmm._estimator.validation import like_input, rows_of, validate_rows
from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.core.device import arithmetic_dtype, device_for
from sklearn_torch_gmm.core.fixed import num_free_parameters
from sklearn_torch_gmm.core.inference import Inference
from sklearn_torch_gmm.rows.kinds import is_read_in_pieces, is_stream, source_of
from sklearn_torch_gmm.rows.sample_weight import check_total, validate_weights
from sklearn_torch_gmm.rows.tensors import as_tensor


def predict(self, X: Any) -> Any:
    """Return the most probable component of each row.

    Parameters
    ----------
    X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
        Rows, of any kind that :meth:`fit` takes.

    Returns
    -------
    labels : ndarray or Tensor of shape (N,), int64

    Examples
    --------
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> mixture = GaussianMixture.from_parameters([0.5, 0.5], [[0], [4]], [[[1]], [[1]]])
    >>> mixture.predict([[0.5], [3.0]])
    array([0, 1])
    """
    return _ask(self, "labels", X)


def predict_proba(self, X: Any) -> Any:
    """Return p(component | x) of each row.

    Parameters
    ----------
    X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
        Rows, of any kind that :meth:`fit` takes.

    Returns
    -------
    responsibilities : ndarray or Tensor of shape (N, K)

    Examples
    --------
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> mixture = GaussianMixture.from_parameters([0.5, 0.5], [[0], [4]], [[[1]], [[1]]])
    >>> mixture.predict_proba([[2.0], [3.0]]).round(3)
    array([[0.5  , 0.5  ],
           [0.018, 0.982]])
    """
    return _ask(self, "responsibilities", X)


def score_samples(self, X: Any) -> Any:
    """Return the log-density of each row; it is larger than zero where the density exceeds 1.

    Parameters
    ----------
    X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
        Rows, of any kind that :meth:`fit` takes.

    Returns
    -------
    log_densities : ndarray or Tensor of shape (N,)
        In nats.

    Examples
    --------
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> mixture = GaussianMixture.from_parameters([0.5, 0.5], [[0], [4]], [[[1]], [[1]]])
    >>> mixture.score_samples([[0.0], [2.0]]).round(3)
    array([-1.612, -2.919])
    """
    return _ask(self, "log_densities", X)


def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
    """Return the mean log-density of the rows; larger is better.

    Parameters
    ----------
    X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
        Rows, of any kind that :meth:`fit` takes.
    y : Ignored
        Not used, present for API consistency by convention.
    sample_weight : array-like of shape (N,) or True, default=None
        Weights of the rows in the mean. True: each item of a stream or a ``DataLoader`` is a
        pair whose second member is the weight.

    Returns
    -------
    score : float
        In nats per row.

    Examples
    --------
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> mixture = GaussianMixture.from_parameters([0.5, 0.5], [[0], [4]], [[[1]], [[1]]])
    >>> round(mixture.score([[0.0], [2.0]]), 3)
    -2.265
    """
    total, weight = _total_log_density(self, X, sample_weight)
    return total / weight


def bic(self, X: Any, sample_weight: Any = None) -> float:
    """Return the Bayesian information criterion; smaller is better.

    Parameters
    ----------
    X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
        Rows, of any kind that :meth:`fit` takes.
    sample_weight : array-like of shape (N,) or True, default=None
        Weights of the rows, as in :meth:`score`: an integer stands for the row repeated, N for
        their sum.

    Returns
    -------
    bic : float
        −2 log p(X) + log(N) · number of free parameters. Schwarz (1978). Parts of the mixture
        that were given and stayed fixed have none.

    Examples
    --------
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> mixture = GaussianMixture.from_parameters([0.5, 0.5], [[0], [4]], [[[1]], [[1]]])
    >>> round(mixture.bic([[0.0], [2.0], [4.0]]), 3)
    17.778
    """
    total, weight = _total_log_density(self, X, sample_weight)
    return -2.0 * total + self._n_parameters() * math.log(weight)


def aic(self, X: Any, sample_weight: Any = None) -> float:
    """Return the Akaike information criterion; smaller is better.

    Parameters
    ----------
    X : array-like, DataFrame, Tensor, Dataset, DataLoader or store of shape (N, D)
        Rows, of any kind that :meth:`fit` takes.
    sample_weight : array-like of shape (N,) or True, default=None
        Weights of the rows, as in :meth:`score`: an integer stands for the row repeated.

    Returns
    -------
    aic : float
        −2 log p(X) + 2 · number of free parameters. Akaike (1974). Parts of the mixture that
        were given and stayed fixed have none.

    Examples
    --------
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> mixture = GaussianMixture.from_parameters([0.5, 0.5], [[0], [4]], [[[1]], [[1]]])
    >>> round(mixture.aic([[0.0], [2.0], [4.0]]), 3)
    22.285
    """
    total, _ = _total_log_density(self, X, sample_weight)
    return -2.0 * total + self._n_parameters() * 2


def draw(
    mixture: BaseEstimator, num_rows: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Draw rows ``[N, D]`` and their components ``[N]``, with scikit-learn's random numbers."""
    random_state = check_random_state(mixture.random_state)
    given = np.asarray(mixture.weights_)
    weights = given.astype(np.float64)
    if given.dtype != np.float64:
        # They sum to one in their own type only, which NumPy may refuse.
        weights /= weights.sum()
    counts = random_state.multinomial(num_rows, weights)
    parts = [
        _draw_component(mixture, random_state, component, int(count))
        for component, count in enumerate(counts)
    ]
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return np.vstack(parts), labels


def _draw_component(
    mixture: BaseEstimator, random_state: np.random.RandomState, component: int, num_rows: int
) -> np.ndarray[Any, Any]:
    components, features = mixture.means_.shape
    structure, mean = get_structure(mixture.covariance_type), mixture.means_[component]
    covariances = as_tensor(mixture.covariances_)
    if structure.has_independent_features:
        variances = structure.variances(covariances, components, features)[component].numpy()
        noise = random_state.standard_normal(size=(num_rows, features))
        return np.asarray(mean + noise * np.sqrt(variances))
    matrix = structure.matrices(covariances, components, features)[component].numpy()
    return random_state.multivariate_normal(mean, matrix, num_rows)


def inference_of(mixture: BaseEstimator, device: torch.device | None = None) -> Inference:
    """Return the fitted mixture on a device: that of its trainer unless another is given."""
    params = getattr(mixture, "trainer_params", None) or {}
    device = device or device_for(params)
    dtype = arithmetic_dtype(device, params.get("precision"))
    weights, means, factors = (
        as_tensor(array).to(device, dtype)
        for array in (mixture.weights_, mixture.means_, mixture.precisions_cholesky_)
    )
    return Inference(weights, means, factors, get_structure(mixture.covariance_type))


def _ask(mixture: BaseEstimator, question: str, X: Any) -> Any:
    """Answer a question that :class:`Inference` knows, for rows of any kind."""
    check_is_fitted(mixture)
    if is_read_in_pieces(X):
        answers, num_rows = _answers(mixture, question, X, None, in_order=True)
        return _joined((answer for answer, *_ in answers), num_rows)
    X = validate_rows(mixture, X, reset=False)
    # A tensor is answered where it is, anything else where the trainer would work.
    rows = rows_of(X)
    device = rows.device if isinstance(X, Tensor) else None
    return like_input(getattr(inference_of(mixture, device), question)(rows), X)


def _total_log_density(mixture: BaseEstimator, X: Any, sample_weight: Any) -> tuple[float, float]:
    """Return Σ w log p(x) and Σ w."""
    if is_stream(X) or (sample_weight is None and is_read_in_pieces(X)):
        answers, _ = _answers(mixture, "log_densities", X, sample_weight, in_order=False)
        sums = [_weighted_sum(*answer) for answer in answers]
        weight = sum(weight for _, weight in sums)
        check_total(weight)
        return math.fsum(total for total, _ in sums), weight
    log_densities = mixture.score_samples(X)
    num_rows = log_densities.shape[0]
    if sample_weight is None:
        # The sum of a mean: the same rounding as scikit-learn's.
        return float(log_densities.mean()) * num_rows, float(num_rows)
    weights = validate_weights(sample_weight, num_rows)
    if isinstance(log_densities, Tensor):
        log_densities = log_densities.cpu().numpy()
    # Zero times the density of a row that is infinitely far away would not be a number.
    kept = weights > 0
    return float(weights[kept] @ log_densities[kept]), float(weights.sum())


def num_estimated_parameters(mixture: BaseEstimator) -> int:
    """Return the number of parameters that were estimated from data."""
    components, features = mixture.means_.shape
    known = getattr(mixture, "known_parts_", ())
    return num_free_parameters(get_structure(mixture.covariance_type), components, features, known)


def _answers(
    mixture: BaseEstimator, question: str, X: Any, sample_weight: Any, *, in_order: bool
) -> tuple[Iterator[tuple[Tensor, ...]], int | None]:
    """Answers and weights, if any, batch by batch; and for how many rows if that is known."""
    source = source_of(X, sample_weight)
    if source.num_features != mixture.means_.shape[1]:
        msg = (
            f"X has {source.num_features} features, but {type(mixture).__name__} is expecting "
            f"{mixture.means_.shape[1]} features as input."
        )
        raise ValueError(msg)
    ask = getattr(inference_of(mixture), question)
    # Workers that share a stream give its rows in another order than it does.
    in_turn = in_order and is_stream(X)
    num_workers = min(mixture.num_workers, 1) if in_turn else mixture.num_workers

    def answers() -> Iterator[tuple[Tensor, ...]]:
        with source.batches(mixture.batch_size, num_workers) as batches:
            for rows, *weights in batches.finite():
                yield ask(rows.cpu()), *(w.cpu() for w in weights)

    return answers(), source.num_rows


def _weighted_sum(values: Tensor, weights: Tensor | None = None) -> tuple[float, float]:
    """Return Σ w v and Σ w."""
    values = values.double()
    if weights is None:
        return values.sum().item(), float(len(values))
    return (values * weights).sum().item(), weights.sum().item()


def _joined(answers: Iterator[Tensor], num_rows: int | None) -> npt.NDArray[Any]:
    """All answers as one array, which grows where it stands if their number is not known."""
    first = next(answers).numpy()
    result = np.empty((num_rows or 0, *first.shape[1:]), first.dtype)
    filled = 0
    for answer in chain([first], (answer.numpy() for answer in answers)):
        place = slice(filled, filled + len(answer))
        if place.stop > len(result):
            result.resize((place.stop + len(result) // 8, *result.shape[1:]), refcheck=False)
        result[place] = answer
        filled = place.stop
    if num_rows is not None and filled != num_rows:
        msg = f"Expected {num_rows} rows, and {filled} could be read."
        raise ValueError(msg)
    result.resize((filled, *result.shape[1:]), refcheck=False)
    return result

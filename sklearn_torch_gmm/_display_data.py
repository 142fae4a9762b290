"""The numbers that the displays of a mixture draw, from a fitted estimator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_torch_gmm.core.counts import is_number
from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.rows.checks import FLOAT_TYPES
from sklearn_torch_gmm.rows.kinds import is_read_in_pieces
from sklearn_torch_gmm.rows.tensors import as_tensor


@dataclass(frozen=True)
class DisplayData:
    """F features of a mixture of K components, and of N samples if there are any."""

    means: npt.NDArray[Any]
    """``[K, F]``"""
    covariances: npt.NDArray[Any]
    """``[K, F, F]``, of the marginal distributions."""
    X: npt.NDArray[Any] | None
    """``[N, F]``"""
    feature_names: tuple[str, ...]

    @classmethod
    def of(
        cls, mixture: Any, X: Any, features: Sequence[int | str] | None, *, most: int
    ) -> DisplayData:
        """Return features, no more than ``most``, of a mixture and of samples that it validated."""
        names = getattr(mixture, "feature_names_in_", None)
        num_features = mixture.means_.shape[1]
        if features is None:
            features = range(num_features)
        chosen = _positions(features, num_features, names)
        if len(chosen) > most:
            msg = f"This plot draws at most {most} features, got {len(chosen)}: choose some."
            raise ValueError(msg)
        return cls(
            mixture.means_[:, chosen],
            _marginal_covariances(mixture, chosen),
            None if X is None else _columns(X, chosen),
            tuple(f"feature {i}" if names is None else str(names[i]) for i in chosen),
        )


def check_in_memory(X: Any) -> None:
    """Raise TypeError for samples that are read in batches."""
    if is_read_in_pieces(X):
        msg = f"A plot needs samples in memory, not a {type(X).__name__}: pass some of them."
        raise TypeError(msg)


def as_array(values: Any) -> npt.NDArray[Any]:
    """Return the output of a mixture as an array, whatever its device."""
    return np.asarray(values.cpu() if isinstance(values, Tensor) else values)


def mixture_of(display: type, estimator: Any) -> Any:
    """Return a fitted mixture, or the best mixture of a fitted search.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it is neither a mixture nor a search for one.
    """
    check_is_fitted(estimator)
    mixture = getattr(estimator, "best_estimator_", estimator)
    if not (hasattr(mixture, "covariance_type") and hasattr(mixture, "means_")):
        msg = (
            f"{display.__name__} draws a Gaussian mixture of this package or of scikit-learn, or a "
            f"search for one, got a {type(estimator).__name__}. For a pipeline, pass the last "
            "step, and the samples transformed by the others."
        )
        if hasattr(mixture, "mixture_"):
            msg = f"{display.__name__} draws a Gaussian mixture: pass the estimator's mixture_."
        elif getattr(mixture, "refit", True) is False:
            msg = f"The {type(estimator).__name__} has no best_estimator_: set refit=True."
        raise TypeError(msg)
    return mixture


def _positions(
    features: Sequence[int | str], num_features: int, names: Sequence[str] | None
) -> list[int]:
    """Return the positions of features, or raise ValueError."""
    if num_features == 1:
        msg = (
            "The mixture has one feature, and a plot needs two or more: draw "
            "np.exp(mixture.score_samples(grid[:, None])) over a grid."
        )
        raise ValueError(msg)
    are_several = np.ndim(features) == 1 and len(features) >= 2
    if not are_several or not all(isinstance(f, str) or is_number(f, Integral) for f in features):
        msg = f"features must be two or more positions or names, got {features!r}."
        raise ValueError(msg)
    known = [] if names is None else list(names)
    positions = []
    for feature in features:
        if isinstance(feature, str):
            if feature not in known:
                columns = known or "columns without names"
                msg = f"There is no feature {feature!r}: the mixture was fitted to {columns}."
                raise ValueError(msg)
            positions.append(known.index(feature))
        elif -num_features <= feature < num_features:
            positions.append(int(feature) % num_features)
        else:
            msg = (
                f"There is no feature {feature}: the mixture has {num_features}. "
                "A plot needs two or more, counted from 0."
            )
            raise ValueError(msg)
    if len(set(positions)) < len(positions):
        msg = f"features must be different features, got {features!r}."
        raise ValueError(msg)
    return positions


def _marginal_covariances(estimator: Any, features: list[int]) -> npt.NDArray[Any]:
    """Return the covariances ``[K, F, F]`` of F features."""
    num_components, num_features = estimator.means_.shape
    structure = get_structure(estimator.covariance_type)
    covariances = as_tensor(estimator.covariances_)
    if structure.has_independent_features:
        # Selecting variances first avoids a D × D matrix for each component.
        variances = structure.variances(covariances, num_components, num_features)
        return variances[:, features].diag_embed().numpy()
    matrices = structure.matrices(covariances, num_components, num_features)
    return matrices[:, features][:, :, features].numpy()


def _columns(X: Any, features: list[int]) -> npt.NDArray[Any]:
    if isinstance(X, Tensor):
        # NumPy does not have all of torch's types, such as bfloat16.
        rows = X.detach().cpu().double().numpy()
    else:
        # Numbers, as the mixture reads them: of strings, matplotlib would draw their order.
        rows = check_array(X, dtype=FLOAT_TYPES, ensure_all_finite=False)
    return rows[:, features]


def radii(levels: Sequence[float]) -> list[float]:
    """Return the Mahalanobis radii that enclose shares of a bivariate normal distribution.

    The squared radius has a χ² distribution with two degrees of freedom: P(r² < s) = 1 − exp(−s/2).
    """
    shares = np.asarray(levels)
    are_numbers = shares.ndim == 1 and shares.dtype.kind in "fiu"
    if not are_numbers or not ((shares > 0) & (shares < 1)).all():
        msg = f"levels must be a sequence of numbers between 0 and 1, got {levels!r}."
        raise ValueError(msg)
    return [math.sqrt(-2.0 * math.log1p(-share)) for share in shares]

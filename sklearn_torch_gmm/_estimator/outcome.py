"""What a fit leaves behind: everything or nothing, and warnings that name what was done."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from sklearn_torch_gmm.core.fixed import Part
from sklearn_torch_gmm.em.failures import power_of_ten
from sklearn_torch_gmm.em.results import FitResult
from sklearn_torch_gmm.em.settings import FitSettings
from sklearn_torch_gmm.exceptions import EmptyComponentWarning, UnrepresentableParameterError


@contextmanager
def as_before_on_failure(estimator: BaseEstimator) -> Iterator[None]:
    """Leave an estimator as it was where the block raises, an interruption included."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def warn_of_outcome(
    mixture: BaseEstimator, result: FitResult, settings: FitSettings, *, stacklevel: int = 3
) -> None:
    """Warn the caller of `fit` of what may make the result worse than expected.

    Parameters
    ----------
    mixture : BaseGaussianMixture
        Gives the words of the warning that the fit did not converge.
    result : FitResult
    settings : FitSettings
    stacklevel : int, default=3
        How far above is whom to warn.
    """
    warn_of_empty(result.empty, settings.fixed, stacklevel=stacklevel + 1)
    _warn_of_fall(result.fall, settings.regularization.name, stacklevel=stacklevel + 1)
    if settings.loop.max_iter != 0 and not result.converged:
        advice = mixture._vocabulary.convergence_advice
        warnings.warn(advice, ConvergenceWarning, stacklevel=stacklevel)


def warn_of_empty(components: list[int], fixed: frozenset[Part], *, stacklevel: int = 3) -> None:
    """Tell of components that kept their means because they had no rows."""
    if components:
        kept = "covariance" if "covariances" in fixed else "has the variance of the data"
        warnings.warn(
            f"Components {components} lost all their rows; each keeps its last mean and {kept}. "
            "Try fewer components or another start.",
            EmptyComponentWarning,
            stacklevel=stacklevel,
        )


def _warn_of_fall(bounds: list[float], regularization_name: str, *, stacklevel: int) -> None:
    if bounds:
        before, after = bounds
        warnings.warn(
            f"The mean log-likelihood fell from {before:.10g} to {after:.10g} nats, by more than "
            f"rounding and {regularization_name} explain: the covariances are too ill-conditioned "
            f"for the arithmetic. Scale the features alike, or increase {regularization_name}.",
            ConvergenceWarning,
            stacklevel=stacklevel,
        )


def check_representable(variances: Tensor, dtype: Any) -> None:
    """Raise unless ``dtype`` can hold the variances ``[K, D]`` of the components."""
    with np.errstate(over="ignore", under="ignore"):
        held = variances.numpy().astype(dtype)
    is_held = np.isfinite(held) & (held > 0)
    if not is_held.all():
        component, feature = np.argwhere(~is_held)[0]
        variance, largest = variances[component, feature].item(), variances.max().item()
        scale = 10.0 ** round(0.5 * math.log10(variance))
        msg = (
            f"Component {component} has the variance {variance:.3g}, which {np.dtype(dtype).name} "
            "cannot hold. Pass the data as float64, or "
        )
        if math.sqrt(largest) / scale < math.sqrt(np.finfo(dtype).max):
            msg += f"divide them by {scale:.0e}."
        else:
            # It has collapsed beside others, whose variances would be too large then.
            msg += f"regularize: {power_of_ten(1e-6 * largest):.0e} would do."
        raise UnrepresentableParameterError(msg)

"""The outcome of a fit: rollback after an error, warnings, and a check of its parameters."""

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

from sklearn_torch_gmm.core.caller import level_of_caller
from sklearn_torch_gmm.core.fixed import FixedParts
from sklearn_torch_gmm.em.failures import power_of_ten
from sklearn_torch_gmm.em.results import FitResult
from sklearn_torch_gmm.em.settings import FitSettings
from sklearn_torch_gmm.exceptions import EmptyComponentWarning, UnrepresentableParameterError


@contextmanager
def as_before_on_failure(estimator: BaseEstimator) -> Iterator[None]:
    """Restore the attributes of an estimator if the block raises, or is interrupted."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def warn_of_outcome(mixture: BaseEstimator, result: FitResult, settings: FitSettings) -> None:
    """Warn of empty components, a falling likelihood and a fit that did not converge."""
    warn_of_empty(result.empty, settings.fixed)
    if result.fall:
        (before, after), regularization = result.fall, settings.regularization.name
        warnings.warn(
            f"The mean log-likelihood fell from {before:.10g} to {after:.10g} nats, by more than "
            f"rounding and {regularization} explain: the covariances are too ill-conditioned for "
            f"the arithmetic. Scale the features alike, or increase {regularization}.",
            ConvergenceWarning,
            stacklevel=level_of_caller(),
        )
    if settings.loop.max_iter != 0 and not result.converged:
        advice = mixture._vocabulary.convergence_advice
        warnings.warn(advice, ConvergenceWarning, stacklevel=level_of_caller())


def warn_of_empty(components: list[int], fixed: FixedParts) -> None:
    """Warn of components that kept their means because they had no samples."""
    if components:
        kept = "has the variance of the data"
        if "covariances" in fixed:
            is_kept = fixed["covariances"][components]
            kept = "covariance" if is_kept.all() else f"{kept}, or its covariance if that is fixed"
        warnings.warn(
            f"Components {components} lost all their samples; each keeps its last mean and {kept}. "
            "Try fewer components or another initialization.",
            EmptyComponentWarning,
            stacklevel=level_of_caller(),
        )


def check_representable(variances: Tensor, dtype: Any) -> None:
    """Raise unless ``dtype`` can hold the variances ``[K, D]`` of the components."""
    values = variances.numpy()
    if values.dtype == dtype:
        # They are usable as they are.
        return
    with np.errstate(over="ignore", under="ignore"):
        held = values.astype(dtype)
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
            # The component has collapsed, and scaling it up would overflow the variances of the
            # others. The default reg_covar for data of unit variance is 1e-6; twice as much would
            # often be the same power of ten.
            msg += f"regularize: {power_of_ten(1e-6 * largest):.0e} is sufficient."
        raise UnrepresentableParameterError(msg)

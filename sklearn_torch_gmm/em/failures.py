"""Messages of fits that cannot go on: which component, why, and what would do."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch

from sklearn_torch_gmm import exceptions
from sklearn_torch_gmm.core.m_step import MStepResult
from sklearn_torch_gmm.em.settings import FitSettings
from sklearn_torch_gmm.exceptions import IllDefinedCovarianceError, NonFiniteLikelihoodError


def check_number_of_rows(num_rows: int, num_components: int, name: str) -> None:
    """Raise ValueError, as scikit-learn does, if there are fewer rows than components.

    ``name`` is the parameter that says how many components there are.
    """
    if num_rows < num_components:
        msg = (
            f"Expected n_samples >= {name} but got {name} = {num_components}, "
            f"n_samples = {num_rows}"
        )
        raise ValueError(msg)


def check_usable(result: MStepResult, settings: FitSettings) -> None:
    """Raise for the first component without a positive-definite covariance.

    Raises
    ------
    IllDefinedCovarianceError
    """
    for failure in find_unusable(result, settings).values():
        raise failure


def find_unusable(
    result: MStepResult, settings: FitSettings, beside: Collection[int] = ()
) -> dict[int, IllDefinedCovarianceError]:
    """Say why a mixture cannot be used, for each of the R that cannot, beside some."""
    usable = result.usable
    is_its_own = not settings.structure.is_shared and "covariances" not in settings.fixed
    if not settings.regularization.keep_empty and is_its_own:
        usable = usable & ~result.empty
    failures: dict[int, IllDefinedCovarianceError] = {}
    for restart, component in (~usable).nonzero().tolist():
        if restart not in failures and restart not in beside:
            failures[restart] = _error_of_component(restart, component, result, settings)
    return failures


def _error_of_component(
    restart: int, component: int, result: MStepResult, settings: FitSettings
) -> IllDefinedCovarianceError:
    structure, parameters = settings.structure, result.parameters
    covariances = parameters.covariances[restart]
    weight = parameters.weights[restart, component].item()
    name = settings.regularization.name
    msg = (
        "Fitting the mixture model failed because some components have ill-defined empirical "
        "covariance (for instance caused by singleton or collapsed samples). Try to decrease the "
        f"number of components, increase {name}, or scale the input data. "
    )
    sizes = parameters.means.shape[-2:]
    largest = structure.variances(covariances, *sizes).amax().item()
    if result.empty[restart, component]:
        remedy = power_of_ten(1e-6 * largest)
        msg += (
            f"Component {component} has lost all its rows, and {name} is zero; {name}={remedy:.0e} "
            "would do."
        )
        return IllDefinedCovarianceError(msg)
    if not covariances.isfinite().all():
        size = parameters.means[restart].abs().amax().nan_to_num(nan=math.inf).item()
        msg += (
            f"The covariance of component {component} (weight {weight:.3g}) is not finite: the "
            "squares of some rows cannot be represented. Leave them out, or divide the data by "
            f"{power_of_ten(size):.0e}."
        )
        return IllDefinedCovarianceError(msg)
    eigenvalues = structure.smallest_eigenvalues(covariances.cpu(), settings.num_components)
    smallest = eigenvalues[component].item()
    # What is missing, and room for the rounding of a covariance and a mean of this size.
    epsilon = torch.finfo(covariances.dtype).eps
    rounding = epsilon * largest + (epsilon * parameters.means[restart].abs().amax().item()) ** 2
    rounding = max(100 * parameters.means.shape[-1] * rounding, 1e-300)
    remedy = power_of_ten(settings.regularization.amount + max(-smallest, 0.0) + rounding)
    msg += (
        f"Component {component} has weight {weight:.3g} and a covariance whose smallest "
        f"eigenvalue is {smallest:.3g} with {name}={settings.regularization.amount:g}; "
        f"{name}={remedy:.0e} would do."
    )
    return IllDefinedCovarianceError(msg)


def power_of_ten(least: float) -> float:
    """The smallest power of ten that is not less, or the largest one that there is."""
    return 10.0 ** math.ceil(min(math.log10(least), 308.0)) if least > 0 else 0.0


def not_finite(bound: float) -> NonFiniteLikelihoodError:
    """Return the error of a mean log-likelihood that is not finite."""
    msg = (
        f"The mean log-likelihood became {bound}: some rows are so far from all components that "
        "their density cannot be represented. Scale the data, or start from means inside of them."
    )
    return NonFiniteLikelihoodError(msg)


def error_to_plain(error: ValueError | None) -> list[str] | None:
    """Return an error as what a checkpoint can hold."""
    return None if error is None else [type(error).__name__, str(error)]


def error_from_plain(plain: Sequence[str] | None) -> ValueError | None:
    """Return the error that was made plain."""
    if plain is None:
        return None
    name, message = plain
    kind: type[ValueError] = getattr(exceptions, name, ValueError)
    return kind(message)

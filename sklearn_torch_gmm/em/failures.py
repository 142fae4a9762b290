"""Errors of fits that cannot continue, with the component, the cause and a sufficient remedy."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch

from sklearn_torch_gmm import exceptions
from sklearn_torch_gmm.core.m_step import MStepResult
from sklearn_torch_gmm.core.rounding import are_reliable
from sklearn_torch_gmm.em.settings import FitSettings
from sklearn_torch_gmm.exceptions import IllDefinedCovarianceError, NonFiniteLikelihoodError


def check_number_of_rows(num_rows: int, num_components: int, name: str) -> None:
    """Raise ValueError, as scikit-learn does, if there are fewer rows than components.

    ``name`` is the parameter that sets the number of components.
    """
    if num_rows < num_components:
        msg = (
            f"Expected n_samples >= {name} but got {name} = {num_components}, "
            f"n_samples = {num_rows}"
        )
        raise ValueError(msg)


def check_usable(result: MStepResult, settings: FitSettings) -> None:
    """Raise IllDefinedCovarianceError if a covariance is not positive definite."""
    for failure in find_unusable(result, settings, are_final=True).values():
        raise failure


def find_unusable(
    result: MStepResult,
    settings: FitSettings,
    excluded: Collection[int] = (),
    *,
    are_final: bool = False,
) -> dict[int, IllDefinedCovarianceError]:
    """Return an error for each unusable mixture of the R, apart from the excluded ones.

    If they ``are_final``, a covariance that only rounding makes positive definite is an error.
    Before, further iterations may repair it.
    """
    usable, demands = result.usable, []
    if are_final:
        demands.append(are_reliable(result.parameters, settings.structure))
    may_be_empty = settings.regularization.keep_empty or settings.structure.is_shared
    if result.empty is not None and not may_be_empty:
        demands.append(~result.empty)
    fixed = settings.fixed.get("covariances")
    for is_met in demands:
        usable = usable & (is_met if fixed is None else is_met | fixed.to(is_met.device))
    failures: dict[int, IllDefinedCovarianceError] = {}
    # As nearly always, without a search for the places.
    places = [] if usable.all() else (~usable).nonzero().tolist()
    for restart, component in places:
        if restart not in failures and restart not in excluded:
            failures[restart] = _error_of_component(restart, component, result, settings)
    return failures


def _error_of_component(
    restart: int, component: int, result: MStepResult, settings: FitSettings
) -> IllDefinedCovarianceError:
    structure, parameters = settings.structure, result.parameters
    covariances, means = parameters.covariances[restart], parameters.means[restart]
    weight = parameters.weights[restart, component].item()
    name, amount = settings.regularization.name, settings.regularization.amount
    largest = structure.variances(covariances, *means.shape).amax().item()
    if result.empty is not None and result.empty[restart, component]:
        # scikit-learn's default regularization, which suits variances near one, scaled to the data.
        remedy = power_of_ten(1e-6 * largest)
        cause = (
            f"Component {component} has lost all its samples, and {name} is zero; "
            f"{name}={remedy:.0e} is sufficient."
        )
    elif not covariances.isfinite().all():
        size = means.abs().amax().item()
        is_known = math.isfinite(size)
        divisor = f"{power_of_ten(size):.0e}" if is_known else "the largest of their values"
        cause = (
            f"The covariance of component {component} (weight {weight:.3g}) is not finite: the "
            "squares of some samples cannot be represented. Leave them out, or divide the data by "
            f"{divisor}."
        )
    else:
        eigenvalues = structure.smallest_eigenvalues(covariances.cpu(), settings.num_components)
        smallest = eigenvalues[component].item()
        # The remedy makes up for the deficit and for the rounding of a covariance and a mean of
        # this size. The factor 100 is a margin: twice as much changes the remedy by at most one
        # power of ten.
        epsilon = torch.finfo(covariances.dtype).eps
        # Not a power of a float of Python's, which would raise an error instead of overflowing.
        rounding = epsilon * largest + (epsilon * means).square().amax().item()
        rounding = max(100 * means.shape[-1] * rounding, 1e-300)
        remedy = power_of_ten(amount + max(-smallest, 0.0) + rounding)
        cause = (
            f"Component {component} has weight {weight:.3g} and a covariance whose smallest "
            f"eigenvalue is {smallest:.3g} with {name}={amount:g}; {name}={remedy:.0e} is "
            "sufficient."
        )
    return IllDefinedCovarianceError(
        "Fitting the mixture model failed because some components have ill-defined empirical "
        "covariance (for instance caused by singleton or collapsed samples). Try to decrease the "
        f"number of components, increase {name}, or scale the input data. {cause}"
    )


def power_of_ten(least: float) -> float:
    """Return the smallest power of ten that is at least ``least``, and at most 1e308."""
    return 10.0 ** math.ceil(min(math.log10(least), 308.0)) if least > 0 else 0.0


def not_finite(bound: float, name: str) -> NonFiniteLikelihoodError:
    """Return the error for a bound on the likelihood that is not finite."""
    return NonFiniteLikelihoodError(
        f"The {name} became {bound}: some samples are so far from all components that "
        "their density cannot be represented. Scale the data, or initialize means inside the data."
    )


def error_to_plain(error: ValueError | None) -> list[str] | None:
    """Return an error as strings that a checkpoint can hold."""
    return None if error is None else [type(error).__name__, str(error)]


def error_from_plain(plain: Sequence[str] | None) -> ValueError | None:
    """Return the inverse of :func:`error_to_plain`."""
    if plain is None:
        return None
    name, message = plain
    kind: type[ValueError] = getattr(exceptions, name, ValueError)
    return kind(message)

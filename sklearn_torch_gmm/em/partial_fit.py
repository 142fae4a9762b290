"""A step of stepwise EM, with the initialization before the first one."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

from torch import Tensor

from sklearn_torch_gmm.core.device import arithmetic_dtype, as_if_alone, read_together, sendable
from sklearn_torch_gmm.core.e_step import cost_of_pass
from sklearn_torch_gmm.core.fixed import on_device
from sklearn_torch_gmm.core.m_step import MStepResult
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.stepwise import StepwiseUpdate, stepwise_update
from sklearn_torch_gmm.em.failures import check_usable
from sklearn_torch_gmm.em.restarts import find_starts
from sklearn_torch_gmm.em.results import FitResult
from sklearn_torch_gmm.em.settings import FitSettings
from sklearn_torch_gmm.em.threads import threads_for_work
from sklearn_torch_gmm.exceptions import NonFiniteLikelihoodError
from sklearn_torch_gmm.rows.in_memory import ArrayRows
from sklearn_torch_gmm.rows.tensors import as_tensor


@as_if_alone()
def update_mixture(
    rows: ArrayRows,
    settings: FitSettings,
    parameters: MixtureParameters | None,
    step_size: float,
    included: Tensor | None = None,
) -> FitResult:
    """Move ``parameters`` towards a batch of rows, on the device that holds the rows.

    Without parameters, the mixture is first initialized from the rows. A ``step_size`` of 1 forgets
    all earlier batches. The covariances of the parameters contain the regularization ``included``
    ``[K]``, by default that of the settings.

    Raises
    ------
    IllDefinedCovarianceError
        If a covariance is not positive definite after regularization.
    NonFiniteLikelihoodError
        If the log-likelihood is not finite.
    """
    if parameters is None:
        # Several initializations cannot be compared, since later batches are not known yet.
        starts = find_starts(rows, [replace(settings, num_init=1)])
        parameters = starts.restarts[0][0].parameters
    device = rows.rows.device
    dtype = arithmetic_dtype(device, settings.loop.trainer_params.get("precision"))
    sizes = rows.num_rows, settings.num_components, rows.num_features
    update = partial(
        stepwise_update,
        parameters.to(device, dtype),
        rows.rows,
        None if rows.weights is None else sendable(as_tensor(rows.weights), device).to(device),
        step_size,
        settings.structure,
        settings.regularization.amount,
        on_device(settings.fixed, device),
        included=None if included is None else included.to(device, dtype),
        missing=settings.loop.missing,
    )
    with threads_for_work(cost_of_pass(*sizes, settings.structure)):
        found = update()
        known = _read(found)
        if known.has_lost_precision:
            known = _read(update(about=found.result.parameters.means))
    result, log_likelihood, _ = known
    lower_bound = log_likelihood.item()
    if not math.isfinite(lower_bound):
        msg = f"The mean log-likelihood of the batch is {lower_bound}: scale the data."
        raise NonFiniteLikelihoodError(msg)
    check_usable(result, settings)
    assert result.empty is not None
    components = result.empty[0].nonzero().flatten().tolist()
    return FitResult(result.parameters, [lower_bound], converged=False, empty=components)


def _read(update: StepwiseUpdate) -> StepwiseUpdate:
    """Return the update on the CPU, read from its device at once."""
    result = update.result
    assert result.empty is not None
    values = [update.log_likelihood, update.lost, result.usable, result.empty]
    log_likelihood, lost, usable, empty, *parameters = read_together(
        [*values, *result.parameters.tensors()]
    )
    result = MStepResult(MixtureParameters(*parameters), usable, empty)
    return StepwiseUpdate(result, log_likelihood, lost)

"""Predictions of a fitted mixture in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from sklearn_torch_gmm.core.cached_property import cached_property
from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.device import moved, sendable, without_autocast
from sklearn_torch_gmm.core.e_step import cost_of_pass
from sklearn_torch_gmm.core.matmul_precision import full_precision_products
from sklearn_torch_gmm.core.rounding import cancellation, extents_of, rounding_of_moments
from sklearn_torch_gmm.core.workspace import (
    LEAST_ROWS,
    Workspace,
    in_lanes,
    is_wide,
    subtract_transposed,
)

TOLERATED_ERROR_OF_PREDICTIONS = 1e-9
"""Bound on the rounding error of a log-density, in nats, up to which chunks use one product.

With twice the value, predictions may differ twice as much between the two methods.
"""

FEW_DIFFERENCES = 50_000
"""Number of residuals of all rows below which the bound on the error costs more than it saves.

A row has at least ten for each mean, since a density costs as much as ten residuals. With twice the
value, data of up to twice the size would take the slower path.
"""

WIDE_RATIO_OF_PREDICTIONS = 2
"""Ratio of moments to residuals of a row from which on one product with the moments takes more time
than one product per component with the residuals.

It is less than :data:`~sklearn_torch_gmm.core.workspace.WIDE_RATIO`, since predictions do without
the second product of an iteration.
"""

COST_OF_COEFFICIENTS = 8
"""Cost of computing η for the product, in multiples of a row with as many values as T(x).

With twice the value, only twice as many rows would use the product.
"""


class Inference:
    """Labels, responsibilities and log-densities of rows under one mixture.

    ``log_weights [K]``, in nats, are added to the log-densities of the components. They, the
    ``means [K, D]`` and the factors, in the shape of the covariance structure, have the dtype and
    the device of the arithmetic.
    """

    def __init__(
        self,
        log_weights: Tensor,
        means: Tensor,
        precisions_cholesky: Tensor,
        structure: CovarianceStructure,
    ) -> None:
        self._log_weights = log_weights
        self._means = means
        self._factors = precisions_cholesky
        self._structure = structure
        self._workspace = Workspace(self._means.dtype, self._means.device)

    @property
    def device(self) -> torch.device:
        """The device of the arithmetic."""
        return self._means.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the arithmetic."""
        return self._means.dtype

    def cost(self, num_rows: int) -> int:
        """Return the cost for so many rows, in multiplications of the product with T(x)."""
        components, features = self._means.shape
        return cost_of_pass(num_rows, components, features, self._structure)

    def labels(self, rows: Tensor) -> Tensor:
        """Most probable component of each row: ``[N]``, int64."""
        if self._means.shape[0] == 1:
            return torch.zeros(rows.shape[0], dtype=torch.long, device=rows.device)
        result = torch.empty(rows.shape[0], dtype=torch.long, device=self.device)
        with self._arithmetic():
            for place, joint in self._chunks(rows):
                # Ties go to the first component, as with `argmax`, which is several times slower.
                result[place] = joint.max(1).indices.flatten()
        return result.to(rows.device)

    def log_densities(self, rows: Tensor) -> Tensor:
        """Log p(x) of each row, in nats: ``[N]``."""
        dtype = sendable(rows[:0], self.device).dtype
        result = torch.empty(rows.shape[0], dtype=dtype, device=self.device)
        with self._arithmetic():
            for place, joint in self._chunks(rows, with_common_term=True):
                _put(result, place, _log_sum_exp_(joint).flatten())
        return moved(result, rows.device, rows.dtype)

    def responsibilities(self, rows: Tensor) -> Tensor:
        """p(component | x): ``[N, K]``."""
        components = self._log_weights.shape[0]
        result = torch.empty(rows.shape[0], components, dtype=rows.dtype, device=rows.device)
        with self._arithmetic():
            for place, joint in self._chunks(rows):
                torch.softmax(joint, -2, out=joint)
                _put(result, place, joint.mT.flatten(0, 1))
        return result

    def component_log_densities(self, rows: Tensor) -> Tensor:
        """Log p(x | component), in nats, without the weights: ``[N, K]``."""
        components = self._log_weights.shape[0]
        result = torch.empty(rows.shape[0], components, dtype=rows.dtype, device=rows.device)
        # From residuals: far from all components the product with T(x) would lose precision.
        alike = type(self)(
            torch.zeros_like(self._log_weights), self._means, self._factors, self._structure
        )
        with self._arithmetic():
            for place, densities in alike._chunks(rows, with_common_term=True, exact=True):
                _put(result, place, densities.mT.flatten(0, 1))
        return result

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        """Compute as written here, whatever the caller's modes are."""
        not_mixed = without_autocast(self._means.device.type)
        with torch.inference_mode(), not_mixed, full_precision_products():
            yield

    def _chunks(
        self, rows: Tensor, *, with_common_term: bool = False, exact: bool = False
    ) -> Iterator[tuple[slice | Tensor, Tensor]]:
        """Slices or numbers of rows, and their joint log-densities ``[T, K, n]``.

        Each of T threads processes a lane of consecutive rows in every operation. A term common
        to all components is left out for labels and responsibilities, which it does not change.
        With ``exact``, all are computed from residuals. Of rows that come twice, the second values
        hold: on a device, all chunks are computed before the host reads which of them are exact.
        """
        components, features = self._means.shape
        length = 1 + self._structure.num_moments(features)
        wide = is_wide(length, self._means.numel(), ratio=WIDE_RATIO_OF_PREDICTIONS)
        # In single precision, no product is as exact as is wanted here.
        exact = exact or wide or self._means.dtype != torch.float64
        if exact or self._are_few(rows.shape[0]):
            yield from self._exact_chunks(rows, 0, with_common_term=with_common_term)
            return
        size = self._workspace.rows_per_chunk(length + 2 * components)
        shift = self._centre.unsqueeze(-1)
        unread: list[tuple[slice, Tensor]] = []
        for place, lanes in in_lanes(rows.shape[0], size, self._workspace.num_lanes):
            chunk = rows[place].to(self.device)
            num_rows = chunk.shape[0] // lanes
            moments = self._workspace.take("features", lanes, length, num_rows)
            x = moments[:, 1 : features + 1]
            subtract_transposed(chunk.unflatten(0, (lanes, num_rows)), shift, out=x)
            error = self._error_of_product(x)
            if not error.is_cpu:
                unread.append((place, error))
            elif not error <= TOLERATED_ERROR_OF_PREDICTIONS:
                yield from self._exact_chunks(chunk, place.start, with_common_term=with_common_term)
                continue
            self._structure.complete_moments(moments, features)
            joint = self._workspace.take("joint", lanes, components, num_rows)
            torch.bmm(self._natural.expand(lanes, -1, -1), moments, out=joint)
            if with_common_term:
                joint += self._structure.common_log_densities(x, self._factors)
            yield place, joint
        for place, value in _read_at_once(unread):
            if not value <= TOLERATED_ERROR_OF_PREDICTIONS:
                yield from self._exact_chunks(
                    rows[place], place.start, with_common_term=with_common_term
                )

    def _are_few(self, num_rows: int) -> bool:
        """Whether preparing the product would cost more than it saves for this number of rows."""
        components, features = self._means.shape
        coefficients = COST_OF_COEFFICIENTS * self._structure.num_moments(features)
        residuals = num_rows * components * max(features, 10)
        return residuals < FEW_DIFFERENCES or num_rows * features < coefficients

    def _exact_chunks(
        self, rows: Tensor, start: int, *, with_common_term: bool
    ) -> Iterator[tuple[slice, Tensor]]:
        """The same without cancellation, for ``rows [N, D]`` that begin at row ``start``."""
        # Without matrix products, a chunk may be as small as one row if there are many means.
        least = 1 if self._structure.has_independent_features else LEAST_ROWS
        size = self._workspace.rows_per_chunk(3 * self._means.numel(), least=least)
        unread: list[tuple[slice, Tensor]] = []

        def joint_of(place: slice) -> tuple[Tensor, Tensor]:
            # No centre: subtracting one from rows and means would cost precision.
            part = moved(rows[place].T, self.device, self._means.dtype)
            return part, self._structure.joint_log_densities(
                part, self._log_weights, self._means, self._factors
            )

        def finite(part: Tensor, joint: Tensor) -> Tensor:
            # NaN comes from distances that are sums of infinities of both signs.
            joint.nan_to_num_(nan=-math.inf, neginf=-math.inf)
            if not with_common_term:
                self._decide_(joint, part)
            return joint

        for first in range(0, rows.shape[0], size):
            place = slice(first, min(first + size, rows.shape[0]))
            part, joint = joint_of(place)
            # If the sum is finite, then so are all of its terms.
            total = joint.sum()
            if not total.is_cpu:
                unread.append((place, total))
            elif not math.isfinite(total.item()):
                joint = finite(part, joint)
            yield slice(start + place.start, start + place.stop), joint.unsqueeze(0)
        for place, value in _read_at_once(unread):
            if not math.isfinite(value):
                joint = finite(*joint_of(place))
                yield slice(start + place.start, start + place.stop), joint.unsqueeze(0)

    def _decide_(self, joint: Tensor, x: Tensor) -> None:
        """Assign each of the rows ``x [D, n]`` without any density to its nearest component."""
        is_far = joint.amax(0) == -math.inf
        if is_far.any():
            scale = scale_of_squares(x.dtype)
            distances = self._structure.squared_distances(
                scale * x[:, is_far], scale * self._means, self._factors
            )
            distances[self._log_weights == -math.inf] = math.inf
            is_nearest = distances == distances.amin(0)
            joint[:, is_far] = torch.where(is_nearest, 0.0, -math.inf).to(joint.dtype)

    def _error_of_product(self, x: Tensor) -> Tensor:
        """Rounding error of log-densities of ``x [T, D, n]`` from moments, in nats."""
        rounding = rounding_of_moments(extents_of(x), self._structure)
        return cancellation(self._natural, rounding)

    @cached_property
    def _centre(self) -> Tensor:
        """The mean of the mixture, in which components without weight do not count."""
        return self._log_weights.softmax(0) @ self._means

    @cached_property
    def _natural(self) -> Tensor:
        return self._structure.natural_parameters(
            self._log_weights, self._means - self._centre, self._factors
        )


def _read_at_once(values: list[tuple[slice, Tensor]]) -> Iterator[tuple[slice, float]]:
    """Places, and numbers on a device, for all of which the host waits once."""
    if values:
        places, numbers = zip(*values, strict=True)
        yield from zip(places, torch.stack(numbers).tolist(), strict=True)


def scale_of_squares(dtype: torch.dtype) -> float:
    """A factor for rows that is so small that no square overflows.

    As a power of two it scales without rounding.
    """
    return float(torch.finfo(dtype).tiny) * 2.0**22


def _put(result: Tensor, place: slice | Tensor, values: Tensor) -> None:
    """Write values to some places of a result of another type, perhaps on another device."""
    # In this order: not every device has the type of the result.
    result[place] = values.to(result.device).to(result.dtype)


def _log_sum_exp_(joint: Tensor) -> Tensor:
    """Log-sum-exp ``[..., n]`` of ``joint [..., K, n]``, which is overwritten."""
    # If all densities of a row vanish, its log-density is −∞, not the NaN of −∞ − −∞.
    largest = joint.amax(-2, keepdim=True).clamp_(min=torch.finfo(joint.dtype).min)
    total = joint.sub_(largest).exp_().sum(-2, keepdim=True)
    return total.log_().add_(largest).squeeze(-2)

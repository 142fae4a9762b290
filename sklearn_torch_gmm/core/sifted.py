"""Exact log-densities of only the rows that matter to a component.

Most components whose products lose precision are narrow: only a few rows have a responsibility.
The products are still estimates of the log-densities, with a bound on the error, and identify these
rows, for which the log-densities and moments are computed from residuals.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.covariance.base import LOG_2PI
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.rounding import MOST_RELATIVE_ERROR, absolute_error_of_products
from sklearn_torch_gmm.core.ways import Chunk, Selection, Way

NEGLIGIBLE = 100.0
"""Nats below the density of a row from which on the responsibility of a component is neglected.

A responsibility of 4e-44 is lost in every sum. With twice the value, more rows would be computed
exactly.
"""


class _Bounds:
    """Bounds on log-densities, whose products lose precision for the ``chosen`` components.

    Their logits are off by less than an absolute error, and a relative one of the squared distance.
    """

    def __init__(
        self,
        parameters: MixtureParameters,
        away: Tensor,
        structure: CovarianceStructure,
        chosen: Selection,
    ) -> None:
        self._sizes = _, components, num_features = parameters.means.shape
        constants = parameters.log_weights + structure.log_determinants(
            parameters.precisions_cholesky, components, num_features
        )
        constants.sub_(0.5 * num_features * LOG_2PI)
        # The constant of a component of weight zero is −∞, and ∞ − ∞ would be NaN.
        constants.clamp_(min=torch.finfo(constants.dtype).min)
        margins = absolute_error_of_products(away).add_(constants, alpha=MOST_RELATIVE_ERROR)
        self._margins = chosen.of(margins.flatten()).unsqueeze(-1)
        shape = away.numel(), 1
        self._scales, self._offsets = away.new_ones(shape), away.new_zeros(shape)
        chosen.put(torch.full_like(self._margins, 1.0 + MOST_RELATIVE_ERROR), self._scales)
        chosen.put(-self._margins, self._offsets)
        self._chosen = chosen
        self._mixtures = chosen.index // components

    def find_relevant(self, logits: Tensor, scratch: Tensor) -> Tensor:
        """Bools ``[k, n]``: whether a component may have a responsibility for a row.

        ``logits [R K, n]`` come from products, or better ones for components not chosen.
        """
        lower, upper = scratch.tensor_split([len(logits)])
        torch.addcmul(self._offsets, logits, self._scales, out=lower)
        largest: Tensor = lower.unflatten(0, self._sizes[:2]).amax(1).sub_(NEGLIGIBLE)
        own = self._chosen.of(logits)
        torch.add(self._margins, own, alpha=1.0 - MOST_RELATIVE_ERROR, out=upper)
        return upper >= (largest if len(largest) == 1 else largest[self._mixtures])


class Sifted(Way):
    """Components with separate parameters, whose logits by products are already computed.

    ``away [R, K]`` are the distances of the means from the centre, in standard deviations, and the
    moments are taken about ``points [R, K, D]``.
    """

    def __init__(
        self,
        parameters: MixtureParameters,
        away: Tensor,
        points: Tensor,
        structure: CovarianceStructure,
        chosen: Selection,
    ) -> None:
        self._bounds = _Bounds(parameters, away, structure, chosen)
        self._structure = structure
        self._chosen = chosen
        self._log_weights = chosen.of(parameters.log_weights.flatten())
        self._means, self._factors, self._points = (
            chosen.of(values.flatten(0, 1))
            for values in (parameters.means, parameters.precisions_cholesky, points)
        )
        length = 1 + structure.num_moments(points.shape[-1])
        self._sums = points.new_zeros(chosen.size, length)
        self._rows: list[tuple[int, Tensor, Tensor]] = []

    @property
    def scratch_per_row(self) -> int:
        return self._chosen.total + self._chosen.size

    def write_log_densities(self, chunk: Chunk, logits: Tensor, scratch: Tensor) -> None:
        pairs = self._bounds.find_relevant(logits[0], scratch[0]).nonzero()
        sizes: list[int] = pairs[:, 0].bincount(minlength=self._chosen.size).tolist()
        rows = chunk.rows.flatten(0, 1)
        self._rows = []
        for place, index in enumerate(pairs[:, 1].split(sizes)):
            if not sizes[place]:
                continue
            one = slice(place, place + 1)
            x = rows[index].T.to(logits.dtype).contiguous()
            found = self._structure.joint_log_densities(
                x, self._log_weights[one], self._means[one], self._factors[one]
            )
            logits[0, self._chosen.places[place]].index_copy_(0, index, found[0])
            self._rows.append((place, index, x))

    def add_moments(self, chunk: Chunk, responsibilities: Tensor) -> None:
        num_features = self._means.shape[-1]
        for place, index, x in self._rows:
            weights = responsibilities[0, self._chosen.places[place]][index]
            residuals = x - self._points[place].unsqueeze(-1)
            sums = self._sums[place]
            sums[0] += weights.sum()
            sums[1 : num_features + 1] += residuals @ weights
            second = self._structure.centred_second_moments(residuals[None], weights[None])
            sums[num_features + 1 :] += second[0]

    def finish(self, sums: Tensor) -> None:
        self._chosen.add(self._sums, sums)
        self._sums.zero_()

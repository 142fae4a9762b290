"""The exact E-step, for data whose spread is large relative to a standard deviation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.e_step import EStep, exclude_other_classes_
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.products import Products
from sklearn_torch_gmm.core.residuals import Residuals
from sklearn_torch_gmm.core.rounding import extents_of
from sklearn_torch_gmm.core.shared_whitening import SharedWhitening
from sklearn_torch_gmm.core.sifted import Sifted
from sklearn_torch_gmm.core.ways import Chunk, Selection, Way, Ways
from sklearn_torch_gmm.core.whitened import Whitened
from sklearn_torch_gmm.core.workspace import (
    LEAST_ROWS,
    Workspace,
    in_lanes,
    subtract_transposed,
)


class ExactEStep(EStep):
    """Computes each component in one of several ways, by default from residuals.

    The moments are taken about the points ``about [R, K, D]``, by default the means of
    ``parameters``, or about the centre if the ``ways`` need it. Points that lie many standard
    deviations from the means of the following M-step would cost precision in its covariances.
    The ``extents [D]``, if given, are updated to the maximum absolute deviations of the rows from
    the centre.
    """

    many_vanish = True

    def __init__(
        self,
        parameters: MixtureParameters,
        centre: Tensor,
        structure: CovarianceStructure,
        workspace: Workspace,
        *,
        about: Tensor | None = None,
        ways: Ways | None = None,
        extents: Tensor | None = None,
        with_certainty: bool = False,
        with_entropy: bool = False,
        classes: Tensor | None = None,
    ) -> None:
        points = parameters.means if about is None else about
        restarts, components, features = points.shape
        self._number = restarts * components
        if ways is None:
            ways = Ways.all_residuals(self._number)
        if ways.products:
            # Not in place: of mixtures that were selected, `flatten` may be a copy.
            places = torch.as_tensor(ways.products, device=centre.device)
            by_product = centre.expand(len(ways.products), -1)
            points = points.flatten(0, 1).index_copy(0, places, by_product)
            points = points.unflatten(0, (restarts, components))
        super().__init__(
            parameters,
            points,
            structure,
            workspace,
            with_certainty=with_certainty,
            with_entropy=with_entropy,
            classes=classes,
        )
        if structure.has_pooled_scatter:
            self.moments.scatter = centre.new_zeros(restarts, features, features)
        self.extents = extents
        self.resident_rows: int | None = None
        self._num_batches = 0
        self._shift = centre.unsqueeze(-1)
        self._ways = ways
        length = 1 + features
        if ways.need_products:
            length = 1 + structure.num_moments(features)
        self._length = length
        self._height = workspace.fast_length(length, len(ways.products))
        self._parts = list(self._make_parts(centre))

    def _make_parts(self, centre: Tensor) -> Iterator[Way]:
        ways, parameters, structure = self._ways, self.parameters, self.structure

        def select(places: Sequence[int]) -> Selection:
            return Selection(places, self._number, centre.device)

        if ways.need_products:
            natural = structure.natural_parameters(
                parameters.log_weights, parameters.means - centre, parameters.precisions_cholesky
            ).flatten(0, 1)
            estimated = select(sorted((*ways.products, *ways.sifted)))
            yield Products(natural, estimated, select(ways.products), self.workspace)
        if ways.whitened and structure.has_pooled_scatter:
            yield SharedWhitening(parameters, centre, self.centre, structure, self.moments)
        elif ways.whitened:
            chosen = select(ways.whitened)
            yield Whitened(parameters, centre, self.centre, structure, chosen, self.workspace)
        if ways.residuals:
            chosen = select(ways.residuals)
            yield Residuals(parameters, self.centre, structure, chosen, self.moments)
        # The last one, since it compares its components with all others.
        if ways.sifted:
            away = structure.distance_bounds(
                parameters.means - centre, parameters.precisions_cholesky
            )
            chosen = select(ways.sifted)
            yield Sifted(parameters, away, self.centre, structure, chosen)

    def add(
        self, rows: Tensor, sample_weight: Tensor | None = None, labels: Tensor | None = None
    ) -> None:
        if self.resident_rows is not None and self._writes_features:
            rows = self.workspace.by_feature(self._num_batches, rows, self.resident_rows)
        self._num_batches += 1
        # Otherwise the differences of a lane would not be adjacent.
        ways = self._ways
        most = 1 if ways.residuals or ways.sifted else self.workspace.num_lanes
        sizes = self.parameters.means.shape[:2]
        heights = [self._number, self._height, *(part.scratch_per_row for part in self._parts)]
        for place, lanes in in_lanes(rows.shape[0], self.rows_per_chunk, most):
            size = (place.stop - place.start) // lanes
            memory = self.workspace.take("logits", lanes, sum(heights), size)
            logits, features, *scratch = memory.split(heights, dim=1)
            chunk = Chunk(rows[place].unflatten(0, (lanes, size)), features)
            self._write_features(chunk)
            weights = None if sample_weight is None else sample_weight[place].view(lanes, size)
            known = None if labels is None else labels[place].view(lanes, size)
            for part, own in zip(self._parts, scratch, strict=True):
                if known is not None and isinstance(part, Sifted):
                    # Components of another class do not determine which rows matter to one.
                    assert self.classes is not None
                    exclude_other_classes_(logits.unflatten(1, sizes), known, self.classes)
                part.write_log_densities(chunk, logits, own)
            self.weigh(logits.unflatten(1, sizes), weights, known)
            for part in self._parts:
                part.add_moments(chunk, logits)
        sums = self.moments.sums.flatten(0, 1)
        for part in self._parts:
            part.finish(sums)

    @property
    def rows_per_chunk(self) -> int:
        """Number of rows per chunk."""
        ways, features = self._ways, self.parameters.means.shape[-1]
        values = 0
        if ways.need_products or ways.whitened:
            values += self._height + 2 * self._number
            values += sum(part.scratch_per_row for part in self._parts)
        if not (ways.residuals or ways.whitened):
            return self.workspace.rows_per_chunk(values)
        values += 3 * len(ways.residuals) * features
        # Each chunk writes a matrix for each component, which would dominate with fewer rows.
        independent = self.structure.has_independent_features
        least = 1 if independent else max(LEAST_ROWS, features)
        return self.workspace.rows_per_chunk(values, least=least)

    @property
    def _writes_features(self) -> bool:
        ways = self._ways
        return ways.need_products or bool(ways.whitened) or self.extents is not None

    def _write_features(self, chunk: Chunk) -> None:
        """Write the moments of the rows that the methods need."""
        if not self._writes_features:
            return
        features, num_features = chunk.features, chunk.rows.shape[-1]
        x = features[:, 1 : num_features + 1]
        subtract_transposed(chunk.rows, self._shift, out=x)
        if self.extents is not None:
            torch.maximum(self.extents, extents_of(x), out=self.extents)
        if self._ways.need_products:
            self.structure.complete_moments(features[:, : self._length], num_features)
        else:
            features[:, 0].fill_(1.0)

    def log_likelihood(self, moments: Moments) -> Tensor:
        return moments.log_likelihood

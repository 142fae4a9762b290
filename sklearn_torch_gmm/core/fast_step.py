"""The fast E-step, for one mixture or for many in the same pass.

Mixtures with the same covariance structure need the same moments T(x) of a row. Whatever their
number and their sizes, they only add rows of η to the same two products.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.e_step import EStep, part_of
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.rounding import extents_of
from sklearn_torch_gmm.core.workspace import Workspace, in_lanes, subtract_transposed

SMALL_PRODUCT = 250_000
"""Multiplications below which one product per mixture costs no more than one for all of them.

Separate products round as if each mixture were fitted on its own. With twice the value, that would
cost time for larger products.
"""

MOST_COMPONENTS = 256
"""Maximum number of components, over all mixtures, that are processed at once.

The other components follow on the same T(x). A chunk of few features thus has about four thousand
rows on a CPU, however many mixtures there are; twice as many components would halve that number.
"""

MOST_ON_ACCELERATORS = 16 * MOST_COMPONENTS
"""The same where a chunk has sixteen times the memory, which leaves it as many rows."""


class FastEStep(EStep):
    """Two matrix products per chunk: log-densities η T(x), then the sums R T(x)ᵀ.

    ``natural [R, K, 1 + P]`` are the natural parameters about ``centre``. The ``extents [D]``, if
    given, grow to the maximum absolute deviations of the rows from the centre. A pooled ``scatter
    [1, D, D]`` is the same in all iterations, and not computed again if it is given.
    """

    def __init__(
        self,
        parameters: MixtureParameters,
        centre: Tensor,
        structure: CovarianceStructure,
        workspace: Workspace,
        *,
        natural: Tensor,
        extents: Tensor | None = None,
        scatter: Tensor | None = None,
        with_certainty: bool = False,
        with_entropy: bool = False,
        classes: Tensor | None = None,
    ) -> None:
        super().__init__(
            parameters,
            centre,
            structure,
            workspace,
            with_certainty=with_certainty,
            with_entropy=with_entropy,
            classes=classes,
        )
        self.natural = natural
        self.extents = extents
        self.collects_scatter = structure.has_pooled_scatter and scatter is None
        if self.collects_scatter:
            scatter = centre.new_zeros(1, centre.shape[0], centre.shape[0])
        if structure.has_pooled_scatter:
            self.moments.scatter = scatter

    def is_alike(self, natural: Tensor, *, with_certainty: bool, with_entropy: bool) -> bool:
        """Whether a pass for these parameters needs no other step than this one, renewed.

        It does not if there are as many mixtures and all facts about the rows are known.
        """
        own = self.moments
        collects = own.certainty is not None, own.entropy is not None
        knows_all = self.extents is None and not self.collects_scatter
        is_as_large = natural.shape == self.natural.shape
        return is_as_large and knows_all and collects == (with_certainty, with_entropy)

    def renew(self, parameters: MixtureParameters, natural: Tensor) -> None:
        """Begin another pass over the same rows, with moments of the same kinds."""
        before = self.moments
        self.parameters, self.natural = parameters, natural
        self.moments = self._no_moments(before.certainty is not None, before.entropy is not None)
        self.moments.scatter = before.scatter

    def add(
        self, rows: Tensor, sample_weight: Tensor | None = None, labels: Tensor | None = None
    ) -> None:
        FastPass([self]).add(rows, sample_weight, labels)

    @property
    def moments_name(self) -> str:
        """The name of T(x), for the workspace that may keep it."""
        return self.structure.name

    def write_moments(self, rows: Tensor, out: Tensor) -> None:
        """Write (1, T(x)) of ``rows [T, n, D]`` into ``out [T, 1 + P, n]``."""
        num_features = rows.shape[-1]
        subtract_transposed(rows, self.centre.unsqueeze(-1), out=out[:, 1 : num_features + 1])
        self.structure.complete_moments(out, num_features)

    def log_likelihood(self, moments: Moments) -> Tensor:
        if moments.scatter is None:
            return moments.log_likelihood
        factors = self.parameters.precisions_cholesky
        common = self.structure.common_log_likelihood(factors, moments.scatter)
        return moments.log_likelihood + common

    def entropy(self, moments: Moments) -> Tensor:
        if moments.entropy is not None:
            return super().entropy(moments)
        # Σ log p − Σ r log (π_k N(x | μ_k, Σ_k)), with the errors of all log-densities.
        return moments.log_likelihood - (self.natural * moments.sums).sum((-2, -1))


class _Part:
    """Some of the mixtures of a step, or all of them, and their parts of its tensors."""

    def __init__(self, step: FastEStep, restarts: slice | None) -> None:
        self.step = step
        self.restarts = restarts
        self.num_restarts, self.num_components, _ = self.natural.shape
        self.num_rows = self.num_restarts * self.num_components

    @property
    def natural(self) -> Tensor:
        """Their natural parameters ``[r, K, 1 + P]``."""
        return part_of(self.step.natural, self.restarts)

    @property
    def sums(self) -> Tensor:
        """Their part ``[r, K, 1 + P]`` of the sums."""
        return part_of(self.step.moments.sums, self.restarts)


class FastPass:
    """The fast E-steps of mixtures of several sizes, in the same two products.

    Rows lie along the last axis, where products with few components run fastest. A chunk has a lane
    for each thread: in every operation, a thread gets the part of the chunk that its core still has
    in its cache from the previous operation. T(x) is stored with a height H ≥ 1 + P that makes the
    second product fast; the extra rows are arbitrary, and their sums are dropped.

    Parameters
    ----------
    steps : sequence of FastEStep
        Steps of one structure, about one centre, with one workspace, and with the same scatter and
        maximum deviations. Their moments become parts of one matrix.
    resident_rows : int, optional
        Total number of rows, if the n-th call of :meth:`add` gets the same rows in each pass that
        sets this. The workspace then keeps their T(x), if there is room, for the following passes.
    """

    def __init__(self, steps: Sequence[FastEStep], *, resident_rows: int | None = None) -> None:
        first = steps[0]
        self._first = first
        self._steps = steps
        self._groups = list(_groups(steps))
        self._width = max(sum(part.num_rows for part in group) for group in self._groups)
        self._length = first.natural.shape[-1]
        self._rows_of_large_product = SMALL_PRODUCT / (self._length * self._width)
        self._height = first.workspace.fast_length(self._length, self._width)
        self._resident_rows = resident_rows
        self._resident_chunks: dict[int, list[tuple[slice, Tensor]]] = {}
        self.renew()

    def renew(self) -> None:
        """Begin another pass, with the present parameters and moments of the same steps."""
        first, *others = self._steps
        self._num_batches = 0
        self._joined: tuple[Tensor, Tensor] | None = None
        if not others:
            return
        parts = [step.natural.flatten(0, 1) for step in self._steps]
        natural = torch.cat(parts)
        sums = first.workspace.new_sums(*natural.shape)
        self._joined = natural, sums
        scatter = first.moments.scatter
        for step, own in zip(self._steps, sums.split([len(part) for part in parts]), strict=True):
            own = own.unflatten(0, step.natural.shape[:2])
            step.moments = replace(step.moments, sums=own, scatter=scatter)

    @property
    def _of_all_mixtures(self) -> tuple[Tensor, Tensor]:
        """The natural parameters and the sums of all mixtures, ``[Σ R K, 1 + P]``.

        Only large products need them; the views would cost a thirtieth of a small iteration.
        """
        if self._joined is None:
            first = self._first
            self._joined = first.natural.flatten(0, 1), first.moments.sums.flatten(0, 1)
        return self._joined

    @property
    def rows_per_chunk(self) -> int:
        """Number of rows per chunk, whose memory holds T(x) and two copies of a group's logits."""
        return self._first.workspace.rows_per_chunk(self._height + 2 * self._width)

    def add(
        self, rows: Tensor, sample_weight: Tensor | None = None, labels: Tensor | None = None
    ) -> None:
        """Add the moments of ``rows [N, D]`` with weights and labels ``[N]`` to each step."""
        workspace = self._first.workspace
        scratch: Tensor | None = None
        for place, features in self._features(rows):
            lanes, height, size = features.shape
            weights = None if sample_weight is None else sample_weight[place].view(lanes, size)
            known = None if labels is None else labels[place].view(lanes, size)
            sums: Tensor | None = None
            if lanes > 1 or (height > self._length and size >= self._rows_of_large_product):
                if scratch is None:
                    scratch = workspace.take_sums(lanes, len(self._of_all_mixtures[1]), height)
                sums = scratch[:lanes]
            self._add_chunk(features, weights, known, sums)
        if scratch is not None:
            self._of_all_mixtures[1].add_(scratch[..., : self._length].sum(0))

    def _features(self, rows: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """The chunks of a batch, and their (1, T(x)) ``[T, H, n]``."""
        number = self._num_batches
        self._num_batches += 1
        if number in self._resident_chunks:
            yield from self._resident_chunks[number]
            return
        rows, kept, is_known = self._kept(rows, number)
        height = self._height if kept is None else kept.shape[0]
        chunks = []
        for place, lanes in self._chunks(rows.shape[0]):
            size = (place.stop - place.start) // lanes
            if kept is None:
                features = self._first.workspace.take("features", lanes, height, size)
            else:
                features = _lanes_of(kept, place, lanes)
                chunks.append((place, features))
            if not is_known:
                own = rows[place].unflatten(0, (lanes, size))
                self._first.write_moments(own, features[:, : self._length])
            yield place, features
        if kept is not None:
            self._resident_chunks[number] = chunks

    def _kept(self, rows: Tensor, number: int) -> tuple[Tensor, Tensor | None, bool]:
        """The rows in the best layout, the kept (1, T(x)) ``[H, N]``, and whether it is filled.

        The workspace keeps either the T(x) of all rows or of no row.
        """
        workspace = self._first.workspace
        if self._resident_rows is None:
            return rows, None, False
        name = self._first.moments_name
        row = self._resident_rows * workspace.dtype.itemsize
        # Products with T(x) of any height take less time than computing it again.
        kept = workspace.room_for(name, row * self._height, row * self._length)
        if kept:
            return rows, *workspace.keep((name, number), kept // row, rows.shape[0])
        return workspace.by_feature(number, rows, self._resident_rows), None, False

    def _chunks(self, num_rows: int) -> Iterator[tuple[slice, int]]:
        workspace = self._first.workspace
        most = workspace.most_lanes(self._of_all_mixtures[1], self._height)
        fewest, multiple = self._rows_of_large_product, workspace.lane_multiple
        return in_lanes(num_rows, self.rows_per_chunk, most, fewest, multiple)

    def _add_chunk(
        self,
        features: Tensor,
        sample_weight: Tensor | None,
        labels: Tensor | None,
        sums: Tensor | None,
    ) -> None:
        """Add the sums over ``features [T, H, n]`` to ``sums [T, K, H]``, or to each step's."""
        first = self._first
        start = 0
        for group in self._groups:
            stop = start + sum(part.num_rows for part in group)
            self._add_group(group, slice(start, stop), features, sample_weight, labels, sums)
            start = stop
        if first.collects_scatter or first.extents is not None:
            self._collect(features[:, 1 : first.centre.shape[0] + 1], sample_weight)

    def _collect(self, x: Tensor, sample_weight: Tensor | None) -> None:
        """Collect the unknown ones of scatter and maximum deviations from rows ``x [T, D, n]``."""
        first = self._first
        if first.collects_scatter:
            assert first.moments.scatter is not None
            weighted = x if sample_weight is None else x * sample_weight.to(x.dtype).unsqueeze(1)
            first.moments.scatter.add_((weighted @ x.mT).sum(0))
        if first.extents is not None:
            torch.maximum(first.extents, extents_of(x), out=first.extents)

    def _add_group(
        self,
        group: list[_Part],
        place: slice,
        features: Tensor,
        sample_weight: Tensor | None,
        labels: Tensor | None,
        sums: Tensor | None,
    ) -> None:
        """Do the two products of ``features [T, H, n]`` for the mixtures of a group."""
        lanes, height, num_rows = features.shape
        moments = features if height == self._length else features[:, : self._length]
        if lanes == 1 and num_rows < self._rows_of_large_product:
            for part in group:
                self._add_small(part, moments, sample_weight, labels)
            return
        workspace = self._first.workspace
        natural, sums_of_all = self._of_all_mixtures
        logits = workspace.take("logits", lanes, place.stop - place.start, num_rows)
        torch.bmm(natural[place].expand(lanes, -1, -1), moments, out=logits)
        start = 0
        for part in group:
            own = logits[:, start : start + part.num_rows] if len(group) > 1 else logits
            start += part.num_rows
            by_mixture = own.view(lanes, part.num_restarts, part.num_components, num_rows)
            part.step.weigh(by_mixture, sample_weight, labels, part.restarts)
        sums = sums_of_all.unsqueeze(0) if sums is None else sums
        workspace.add_product(sums[:, place], logits, features)

    def _add_small(
        self, part: _Part, moments: Tensor, sample_weight: Tensor | None, labels: Tensor | None
    ) -> None:
        """The same for few rows, (1, T(x)) ``[1, 1 + P, n]``, with one product for each mixture.

        It rounds as if the mixture were the only one; for large products, one for all of them is up
        to twice as fast.
        """
        each = moments if part.num_restarts == 1 else moments.expand(part.num_restarts, -1, -1)
        shape = part.num_restarts, part.num_components, moments.shape[-1]
        logits = self._first.workspace.take("logits", *shape)
        torch.bmm(part.natural, each, out=logits)
        part.step.weigh(logits.unsqueeze(0), sample_weight, labels, part.restarts)
        part.sums.baddbmm_(logits, each.mT)


def _lanes_of(kept: Tensor, place: slice, lanes: int) -> Tensor:
    """The part of ``kept [H, N]`` for a chunk of rows, by lane: ``[T, H, n]``."""
    if place.stop - place.start == kept.shape[1] and lanes == 1:
        return kept.unsqueeze(0)
    by_lane: Tensor = kept[:, place].unflatten(1, (lanes, -1))
    return by_lane.transpose(0, 1)


def _groups(steps: Sequence[FastEStep]) -> Iterator[list[_Part]]:
    """The mixtures in order, in groups of at most :data:`MOST_COMPONENTS` components on a CPU."""
    group: list[_Part] = []
    is_processor = steps[0].workspace.device.type == "cpu"
    most = MOST_COMPONENTS if is_processor else MOST_ON_ACCELERATORS
    room = most
    for step in steps:
        restarts, components, _ = step.natural.shape
        start = 0
        while start < restarts:
            if components > room and group:
                yield group
                group, room = [], most
            # A single mixture may exceed the limit.
            stop = min(restarts, start + max(1, room // components))
            is_whole = stop - start == restarts
            group.append(_Part(step, None if is_whole else slice(start, stop)))
            room -= (stop - start) * components
            start = stop
    yield group

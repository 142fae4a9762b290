"""E-steps: the passes over the rows, fast or exact, of one mixture or of many at once.

Mixtures of one covariance structure need the same moments T(x) of a row. However many there are,
and of however many components, they are more rows of η in the same two products.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.em import normalize_
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.workspace import Workspace, subtract_transposed

SMALL_PRODUCT = 1_000_000
"""Multiplications below which a product for each mixture costs no more than one for all."""

MOST_COMPONENTS = 256
"""Components of all mixtures that are worked on at once; the others follow on the same T(x).

A chunk of few features then has about four thousand rows on a processor, however many mixtures
there are."""


class EStep(ABC):
    """One pass over the rows under fixed parameters.

    Parameters
    ----------
    parameters : MixtureParameters
        Of R mixtures.
    centre : Tensor [D]
        A point near the middle of the data.
    structure : CovarianceStructure
    workspace : Workspace
        Memory that is reused from chunk to chunk and from iteration to iteration.
    with_certainty : bool, default=False
        Whether the moments tell how sure the assignment of the rows is.

    Attributes
    ----------
    moments : Moments
        The sums over the rows added so far.
    """

    moments: Moments
    centre: Tensor
    """What the moments are about: ``[D]`` or ``[R, K, D]``."""

    def __init__(
        self,
        parameters: MixtureParameters,
        centre: Tensor,
        structure: CovarianceStructure,
        workspace: Workspace,
        *,
        with_certainty: bool = False,
    ) -> None:
        self.parameters = parameters
        self.centre = centre
        self.structure = structure
        self.workspace = workspace
        restarts, components, features = parameters.means.shape
        length = 1 + structure.num_moments(features)
        # Components lie next to each other: the product that adds to them is up to twice as fast.
        sums = parameters.means.new_zeros(length, restarts * components)
        self.moments = Moments(
            sums=sums.T.unflatten(0, (restarts, components)),
            log_likelihood=parameters.means.new_zeros(restarts),
            certainty=parameters.means.new_zeros(restarts) if with_certainty else None,
        )

    @abstractmethod
    def add(self, rows: Tensor, sample_weight: Tensor | None = None) -> None:
        """Add the moments of ``rows [N, D]`` with weights ``[N]``, a chunk at a time."""

    @abstractmethod
    def log_likelihood(self, moments: Moments) -> Tensor:
        """Σ log p(x) ``[R]``, in nats, from moments that may be summed over processes."""

    def weigh(
        self, logits: Tensor, sample_weight: Tensor | None, restarts: slice = slice(None)
    ) -> None:
        """Normalize logits into weighted responsibilities in place, and add the likelihood.

        Parameters
        ----------
        logits : Tensor [r, K, n]
        sample_weight : Tensor [n] or None
        restarts : slice
            Which r of the R mixtures they are of.
        """
        certainty = self.moments.certainty
        largest = None if certainty is None else logits.amax(1)
        log_densities = normalize_(logits)
        # The largest responsibility is the share of the largest term in the density.
        log_shares = None if largest is None else largest.sub_(log_densities)
        if sample_weight is not None:
            sample_weight = sample_weight.to(logits.dtype)
            logits.mul_(sample_weight)
            log_densities.mul_(sample_weight)
        self.moments.log_likelihood[restarts].add_(log_densities.sum(-1))
        if certainty is not None and log_shares is not None:
            if sample_weight is not None:
                log_shares.mul_(sample_weight)
            certainty[restarts].add_(log_shares.sum(-1))


class FastEStep(EStep):
    """Two matrix products a chunk: log-densities η T(x), then the sums R T(x)ᵀ.

    Parameters
    ----------
    natural : Tensor [R, K, 1 + P]
        Natural parameters about ``centre``.
    extents : Tensor [D] or None
        If given, grows to the largest distance of a row from the centre in each feature.
    scatter : Tensor [1, D, D] or None
        For structures that share it: the sum over all rows where it is known from an earlier
        iteration; it does not change between iterations.
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
    ) -> None:
        super().__init__(parameters, centre, structure, workspace, with_certainty=with_certainty)
        self.natural = natural
        self.extents = extents
        self.collects_scatter = structure.has_shared_scatter and scatter is None
        if self.collects_scatter:
            scatter = centre.new_zeros(1, centre.shape[0], centre.shape[0])
        if structure.has_shared_scatter:
            self.moments.scatter = scatter

    def add(self, rows: Tensor, sample_weight: Tensor | None = None) -> None:
        FastPass([self]).add(rows, sample_weight)

    def log_likelihood(self, moments: Moments) -> Tensor:
        if moments.scatter is None:
            return moments.log_likelihood
        factors = self.parameters.precisions_cholesky
        return moments.log_likelihood + self.structure.common_log_density(factors, moments.scatter)


class _Part:
    """Some of the mixtures of a step, and the parts of its tensors that are theirs.

    Parameters
    ----------
    step : FastEStep
    restarts : slice
    """

    def __init__(self, step: FastEStep, restarts: slice) -> None:
        self.step = step
        self.restarts = restarts
        self.natural = step.natural[restarts]
        self.num_restarts, self.num_components, _ = self.natural.shape
        self.num_rows = self.num_restarts * self.num_components


class FastPass:
    """The fast E-steps of mixtures of several sizes, in the same two products.

    Rows lie along the last axis, where products with few components run fastest.

    Parameters
    ----------
    steps : sequence of FastEStep
        Of one structure, about one centre, with one workspace, and with the same extents and
        scatter. Their moments become parts of one matrix.
    """

    def __init__(self, steps: Sequence[FastEStep]) -> None:
        first = steps[0]
        self._first = first
        self._shift = first.centre.unsqueeze(-1)
        self._groups = list(_groups(steps))
        if len(steps) == 1:
            self._natural = first.natural.flatten(0, 1)
            self._sums = first.moments.sums.flatten(0, 1).T
            return
        self._natural = torch.cat([step.natural.flatten(0, 1) for step in steps])
        self._sums = torch.cat([step.moments.sums.flatten(0, 1).T for step in steps], dim=1)
        sizes = [step.natural.shape[0] * step.natural.shape[1] for step in steps]
        for step, sums in zip(steps, self._sums.split(sizes, dim=1), strict=True):
            step.moments.sums = sums.T.unflatten(0, step.natural.shape[:2])
            step.moments.scatter = first.moments.scatter

    @property
    def rows_per_chunk(self) -> int:
        """How many rows are worked on at once: their T(x), and the logits of a group twice."""
        length = self._natural.shape[1]
        largest = max(sum(part.num_rows for part in group) for group in self._groups)
        return self._first.workspace.rows_per_chunk(length + 2 * largest)

    def add(self, rows: Tensor, sample_weight: Tensor | None = None) -> None:
        """Add the moments of ``rows [N, D]`` with weights ``[N]`` to those of each step."""
        for chunk, weights in _chunks(self.rows_per_chunk, rows, sample_weight):
            self._add_chunk(chunk, weights)

    def _add_chunk(self, rows: Tensor, sample_weight: Tensor | None) -> None:
        first = self._first
        num_rows, num_features = rows.shape
        features = first.workspace.take("features", self._natural.shape[1], num_rows)
        x = features[1 : num_features + 1]
        subtract_transposed(rows, self._shift, out=x)
        first.structure.complete_moments(features, num_features)

        start = 0
        for group in self._groups:
            stop = start + sum(part.num_rows for part in group)
            self._add_group(group, slice(start, stop), features, sample_weight)
            start = stop

        if first.collects_scatter:
            assert first.moments.scatter is not None
            weighted = x if sample_weight is None else x * sample_weight.to(x.dtype)
            first.moments.scatter[0].addmm_(weighted, x.T)
        if first.extents is not None:
            torch.maximum(first.extents, x.abs().amax(dim=1), out=first.extents)

    def _add_group(
        self, group: list[_Part], place: slice, features: Tensor, sample_weight: Tensor | None
    ) -> None:
        """Two products of ``features [1 + P, n]`` for the mixtures of a group."""
        length, num_rows = features.shape
        logits = self._first.workspace.take("logits", place.stop - place.start, num_rows)
        # A product for each mixture rounds as if the mixture were the only one; with much data one
        # product for all is up to twice as fast.
        is_small = logits.numel() * length < SMALL_PRODUCT
        if not is_small:
            torch.mm(self._natural[place], features, out=logits)
        sizes = [part.num_rows for part in group]
        for part, own in zip(group, logits.split(sizes), strict=True):
            by_mixture = own.view(part.num_restarts, part.num_components, num_rows)
            if is_small:
                each = features.expand(part.num_restarts, length, num_rows)
                torch.bmm(part.natural, each, out=by_mixture)
                part.step.weigh(by_mixture, sample_weight, part.restarts)
                part.step.moments.sums[part.restarts].baddbmm_(by_mixture, each.mT)
            else:
                part.step.weigh(by_mixture, sample_weight, part.restarts)
        if not is_small:
            self._sums[:, place].addmm_(features, logits.T)


class ExactEStep(EStep):
    """Differences to the means before any product, moments about the means or near the next ones.

    Parameters
    ----------
    about : Tensor [R, K, D] or None
        What the moments are about; None: the means of ``parameters``. Moments about points that are
        many widths from the next means lose the digits of the covariances.
    """

    def __init__(
        self,
        parameters: MixtureParameters,
        centre: Tensor,
        structure: CovarianceStructure,
        workspace: Workspace,
        *,
        about: Tensor | None = None,
        with_certainty: bool = False,
    ) -> None:
        super().__init__(
            parameters,
            parameters.means if about is None else about,
            structure,
            workspace,
            with_certainty=with_certainty,
        )
        if structure.has_shared_scatter:
            restarts, _, features = parameters.means.shape
            self.moments.scatter = centre.new_zeros(restarts, features, features)

    def add(self, rows: Tensor, sample_weight: Tensor | None = None) -> None:
        for chunk, weights in _chunks(self.rows_per_chunk, rows, sample_weight):
            self._add_chunk(chunk, weights)

    @property
    def rows_per_chunk(self) -> int:
        """How many rows are worked on at once."""
        # Each chunk writes a matrix a component: with fewer rows that would be most of the work.
        size = self.workspace.rows_per_chunk(3 * self.parameters.means.numel())
        return max(size, self.parameters.means.shape[-1])

    def _add_chunk(self, rows: Tensor, sample_weight: Tensor | None) -> None:
        mixture, moments, structure = self.parameters, self.moments, self.structure
        num_features = rows.shape[1]
        x = rows.T.to(mixture.means.dtype)
        logits = structure.joint_log_densities(
            x, mixture.weights, mixture.means, mixture.precisions_cholesky
        )
        self.weigh(logits, sample_weight)
        differences = x - self.centre.unsqueeze(-1)
        moments.counts.add_(logits.sum(-1))
        moments.first(num_features).add_((differences @ logits.unsqueeze(-1)).squeeze(-1))
        second = structure.centred_second_moments(differences, logits)
        if moments.scatter is None:
            moments.second(num_features).add_(second)
        else:
            moments.scatter.add_(second)

    def log_likelihood(self, moments: Moments) -> Tensor:
        return moments.log_likelihood


def _chunks(
    size: int, rows: Tensor, sample_weight: Tensor | None
) -> Iterator[tuple[Tensor, Tensor | None]]:
    for start in range(0, rows.shape[0], size):
        place = slice(start, start + size)
        yield rows[place], None if sample_weight is None else sample_weight[place]


def _groups(steps: Sequence[FastEStep]) -> Iterator[list[_Part]]:
    """Mixtures in order, in groups of no more components than can be worked on at once."""
    group: list[_Part] = []
    room = MOST_COMPONENTS
    for step in steps:
        restarts, components, _ = step.natural.shape
        start = 0
        while start < restarts:
            if components > room and group:
                yield group
                group, room = [], MOST_COMPONENTS
            # A mixture by itself may have more.
            stop = min(restarts, start + max(1, room // components))
            group.append(_Part(step, slice(start, stop)))
            room -= (stop - start) * components
            start = stop
    yield group

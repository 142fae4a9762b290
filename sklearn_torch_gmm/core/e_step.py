"""The interface of the two E-steps: one pass over the rows for several mixtures.

Both compute the same sums. The fast one, in :mod:`~sklearn_torch_gmm.core.fast_step`, expands the
square and takes two matrix products per chunk of rows. The exact one, in
:mod:`~sklearn_torch_gmm.core.exact_step`, chooses a way for each component, in the worst case the
residuals x − μ; it is for data whose spread is so large relative to the standard deviation of a
component that the expanded form might lose precision. The bounds in
:mod:`~sklearn_torch_gmm.core.rounding` decide between them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.workspace import Workspace

SEPARATE_VALUES = 2**15
"""Number of float64 values on a CPU from which on separate operations take as long as one softmax,
or up to a third less. With twice the value, such chunks would take longer on some processors."""


EXPONENTIAL = 20
"""Time of the exponential of a logit, and of what else follows from it, in multiplications."""


def cost_of_pass(
    num_rows: int, num_components: int, num_features: int, structure: CovarianceStructure
) -> int:
    """Return the cost of a pass over rows, in multiplications of a product with T(x)."""
    length = 1 + structure.num_moments(num_features)
    return num_rows * num_components * (length + EXPONENTIAL)


def normalize_(logits: Tensor, *, many_vanish: bool = False) -> tuple[Tensor, Tensor]:
    """Turn joint log-densities ``[..., K, n]`` into responsibilities in place.

    Returns the log-density of each row and the logarithm of its largest responsibility, both
    ``[..., n]``, in nats. The largest term of a density is the latter times the density.
    If ``many_vanish``, one operation does it: among separate ones, an exponential that underflows
    takes six to twenty times as long as others.
    """
    largest = logits.amax(-2)
    is_one = _is_one_operation(logits, many_vanish)
    relative = logits if is_one else logits.sub_(largest.unsqueeze(-2))
    log_share = _softmax(relative, logits, is_one)
    return largest.sub_(log_share), log_share


FAR_BELOW = -1e4
"""Logarithm of a responsibility that is zero in every floating-point type, and still finite."""


def normalize_for_entropy_(
    logits: Tensor, relative: Tensor, *, many_vanish: bool = False
) -> tuple[Tensor, Tensor]:
    """The same, with the terms of the entropy −Σ r log r of the responsibilities r, in nats.

    Writes log(r_k / max r) into ``relative [..., K, n]``: the entropy of a row is −log max r minus
    Σ r relative. All terms are positive. Σ log p − ⟨η, S⟩, which takes no operation on a row, loses
    precision far from the centre.
    """
    largest = logits.amax(-2)
    torch.sub(logits, largest.unsqueeze(-2), out=relative)
    log_share = _softmax(relative, logits, _is_one_operation(logits, many_vanish))
    relative.clamp_(min=FAR_BELOW)
    return largest.sub_(log_share), log_share


def _is_one_operation(logits: Tensor, many_vanish: bool) -> bool:
    is_separate = logits.dtype == torch.float64 and logits.device.type == "cpu"
    return many_vanish or not is_separate or logits.numel() < SEPARATE_VALUES


def _softmax(relative: Tensor, out: Tensor, is_one_operation: bool) -> Tensor:
    """Write the softmax over the components; return the logarithm ``[..., n]`` of the largest.

    In separate operations, ``relative`` is taken to have the maximum zero.
    """
    if is_one_operation:
        torch.softmax(relative, -2, out=out)
        return out.amax(-2).log_()
    share = torch.exp(relative, out=out).sum(-2).reciprocal_()
    out.mul_(share.unsqueeze(-2))
    return share.log_()


def sum_of_products_(first: Tensor, second: Tensor) -> Tensor:
    """Sums ``[R]`` of the products of two tensors ``[T, R, ..., n]``, which overwrite the first.

    A product of matrices with one row and one column takes four times as long.
    """
    products = first.mul_(second)
    return products.sum([dim for dim in range(products.ndim) if dim != 1])


def exclude_other_classes_(logits: Tensor, labels: Tensor, classes: Tensor) -> None:
    """Let rows with a label belong to the components of their class, in place.

    The joint log-densities ``logits [T, r, K, n]`` of all other components become −∞. Components
    have ``classes [K]``, rows have ``labels [T, n]``; rows labelled −1 may belong to any component.
    """
    labels = labels.unsqueeze(1)
    is_other = (labels >= 0) & (labels != classes.unsqueeze(-1))
    logits.masked_fill_(is_other.unsqueeze(1), -math.inf)


def part_of(values: Tensor, restarts: slice | None) -> Tensor:
    """The values of some of the R mixtures, or of all; a view takes as long as a small sum."""
    return values if restarts is None else values[restarts]


class EStep(ABC):
    """One pass over the rows for R mixtures with fixed parameters.

    ``centre [D]`` is a point near the middle of the data. The workspace's memory is reused from
    chunk to chunk and from iteration to iteration. ``with_certainty`` and ``with_entropy`` ask for
    these sums in :attr:`moments`. ``classes [K]`` are the classes of the components, if rows have
    labels.
    """

    many_vanish: bool = False
    """Whether most responsibilities may be zero, with rows far from most components."""

    moments: Moments
    """The sums over the rows added so far."""

    centre: Tensor
    """The point ``[D]`` or points ``[R, K, D]`` about which the moments are taken."""

    def __init__(
        self,
        parameters: MixtureParameters,
        centre: Tensor,
        structure: CovarianceStructure,
        workspace: Workspace,
        *,
        with_certainty: bool = False,
        with_entropy: bool = False,
        classes: Tensor | None = None,
    ) -> None:
        self.parameters = parameters
        self.centre = centre
        self.structure = structure
        self.workspace = workspace
        self.classes = classes
        self.moments = self._no_moments(with_certainty, with_entropy)

    def _no_moments(self, with_certainty: bool, with_entropy: bool) -> Moments:
        """Zeros, for the moments before the first row."""
        means = self.parameters.means
        restarts, components, features = means.shape
        length = 1 + self.structure.num_moments(features)
        sums = self.workspace.new_sums(restarts * components, length)
        return Moments(
            sums=sums.view(restarts, components, length),
            log_likelihood=means.new_zeros(restarts),
            certainty=means.new_zeros(restarts) if with_certainty else None,
            entropy=means.new_zeros(restarts) if with_entropy else None,
        )

    @abstractmethod
    def add(
        self, rows: Tensor, sample_weight: Tensor | None = None, labels: Tensor | None = None
    ) -> None:
        """Add the moments of ``rows [N, D]`` with weights and labels ``[N]``, chunk by chunk."""

    @abstractmethod
    def log_likelihood(self, moments: Moments) -> Tensor:
        """Σ log p(x) ``[R]``, in nats, from moments that may be sums over several processes."""

    def entropy(self, moments: Moments) -> Tensor:
        """−Σ r log r ``[R]``, in nats, from moments that may be sums over several processes."""
        assert moments.entropy is not None
        return moments.entropy

    def weigh(
        self,
        logits: Tensor,
        sample_weight: Tensor | None,
        labels: Tensor | None,
        restarts: slice | None = None,
    ) -> None:
        """Normalize logits into weighted responsibilities in place, and add the log-likelihood.

        The ``logits [T, r, K, n]`` belong to the r mixtures in the slice ``restarts``, by default
        all; weights and labels have the shape ``[T, n]``. A row with a label y adds log p(x, y).
        """
        if labels is not None:
            assert self.classes is not None, "rows have labels, and components no classes"
            exclude_other_classes_(logits, labels, self.classes)
        certainty, entropy = self.moments.certainty, self.moments.entropy
        relative: Tensor | None = None
        if entropy is None:
            log_densities, log_shares = normalize_(logits, many_vanish=self.many_vanish)
        else:
            relative = self.workspace.take("relative", *logits.shape)
            log_densities, log_shares = normalize_for_entropy_(
                logits, relative, many_vanish=self.many_vanish
            )
        if sample_weight is not None:
            by_mixture = sample_weight.to(logits.dtype).unsqueeze(1)
            logits.mul_(by_mixture.unsqueeze(1))
            log_densities.mul_(by_mixture)
            if certainty is not None or entropy is not None:
                log_shares.mul_(by_mixture)
        part_of(self.moments.log_likelihood, restarts).add_(log_densities.sum((0, -1)))
        if entropy is not None and relative is not None:
            own = log_shares.sum((0, -1)) + sum_of_products_(relative, logits)
            part_of(entropy, restarts).sub_(own)
        if certainty is not None:
            part_of(certainty, restarts).add_(log_shares.sum((0, -1)))

"""Log-densities and moments of some components from whitened rows.

The residuals z = Uᵀ(x − c) − Uᵀ(μ − c) of all components are one product. Rounding moves them by
eps · |Uᵀ| |μ − c|, so that log-densities −½ ‖z‖² lose eps · ‖ |Uᵀ| |μ − c| ‖ · ‖z‖, where an
expanded square loses eps · ‖ |Uᵀ| |μ − c| ‖². Another product gives the sums G = Σ r z (1, x − c)ᵀ,
from which the moments Σ r z zᵀ = G (−Uᵀ(μ − c), Uᵀ)ᵀ follow, with an equally small error. They are
symmetric, so that a block of z needs only the part of x that it is computed from.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.covariance.base import LOG_2PI
from sklearn_torch_gmm.core.covariance.linalg import invert_triangular
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.ways import Chunk, Selection, Way
from sklearn_torch_gmm.core.workspace import Workspace

BLOCK = 16
"""Minimum number of features that are whitened at once.

Uᵀ is lower triangular: the i-th block needs the first i blocks of x, so that for many features
almost half of the multiplications are saved. With twice the value,
[100k, 32] → 16 takes 3 % longer.
"""

MOST_BLOCKS = 8
"""Maximum number of blocks: small products take more time than large ones.

With twice the value, [20k, 256] → 4 would take a quarter more time.
"""


class Whitened(Way):
    """Components with separate covariance matrices, and moments about ``points [R, K, D]``."""

    def __init__(
        self,
        parameters: MixtureParameters,
        centre: Tensor,
        points: Tensor,
        structure: CovarianceStructure,
        chosen: Selection,
        workspace: Workspace,
    ) -> None:
        self._means, self._factors, self._points = (
            chosen.of(values.flatten(0, 1))
            for values in (parameters.means, parameters.precisions_cholesky, points)
        )
        self._centre = centre
        self._is_about_means = points is parameters.means
        sizes = _, num_features = self._means.shape
        constants = chosen.of(parameters.log_weights.flatten())
        constants = constants + structure.log_determinants(self._factors, *sizes)
        self._constants = constants.sub_(0.5 * num_features * LOG_2PI).unsqueeze(-1)
        self._structure = structure
        self._chosen = chosen
        self._workspace = workspace
        self._blocks = _blocks(self._whitening(self._means))
        self._whitened: list[Tensor] = []
        self._sums: tuple[Tensor, list[Tensor]] | None = None

    @property
    def scratch_per_row(self) -> int:
        return self._means.numel() + self._chosen.size * (self._blocks[0].shape[1] + 1)

    def _whitening(self, points: Tensor) -> Tensor:
        """Matrices ``[k, D, 1 + D]`` that map (1, x − c) to Uᵀ (x − point)."""
        factors = self._factors.mT
        offsets = factors @ (self._centre - points).unsqueeze(-1)
        return torch.cat([offsets, factors], dim=-1)

    def write_log_densities(self, chunk: Chunk, logits: Tensor, scratch: Tensor) -> None:
        lanes = len(logits)
        size = self._chosen.size
        widest = size * self._blocks[0].shape[1]
        own, squares, rest = scratch.split([size, widest, self._means.numel()], 1)
        self._whitened = []
        for number, block in enumerate(self._blocks):
            _, width, length = block.shape
            z, rest = rest.tensor_split([size * width], 1)
            matrix = block.flatten(0, 1).expand(lanes, -1, -1)
            torch.bmm(matrix, chunk.features[:, :length], out=z)
            square = torch.mul(z, z, out=squares[:, : size * width]).unflatten(1, (size, width))
            if number == 0:
                torch.sum(square, 2, out=own)
            else:
                own.add_(square.sum(2))
            self._whitened.append(z.unflatten(1, (size, width)))
        torch.add(self._constants, own, alpha=-0.5, out=own)
        self._chosen.put(own, logits, 1)

    def add_moments(self, chunk: Chunk, responsibilities: Tensor) -> None:
        weights = self._chosen.of(responsibilities, 1)
        lanes = len(weights)
        if self._sums is None:
            self._sums = self._new_sums(lanes)
        counts, sums = self._sums
        counts[:lanes].add_(weights.sum(-1))
        start = 0
        for z, own in zip(self._whitened, sums, strict=True):
            stop = start + z.shape[2]
            if not self._is_about_means:
                shifts = self._shifts()
                z.add_(shifts[:, start:stop])
            weighted = z.mul_(weights.unsqueeze(2)).flatten(1, 2)
            own[:lanes].baddbmm_(chunk.features[:, : own.shape[1]], weighted.mT)
            start = stop

    def _shifts(self) -> Tensor:
        """Return the shifts ``[k, D, 1]`` that make whitened residuals relative to the points."""
        return self._factors.mT @ (self._means - self._points).unsqueeze(-1)

    def _new_sums(self, lanes: int) -> tuple[Tensor, list[Tensor]]:
        """Zeros for Σ r ``[T, k]``, and for a part of Gᵀ ``[T, length, k width]`` by block."""
        size = self._chosen.size
        take = self._workspace.take
        sums = [
            take(f"whitened sums {number}", lanes, length, size * width)
            for number, (_, width, length) in enumerate(block.shape for block in self._blocks)
        ]
        return take("whitened counts", lanes, size).zero_(), [own.zero_() for own in sums]

    def finish(self, sums: Tensor) -> None:
        if self._sums is None:
            return
        size, num_features = self._means.shape
        counts = self._sums[0].sum(0)
        first = counts.new_empty(size, num_features, 1)
        second = counts.new_empty(size, num_features, num_features)
        whitening = self._whitening(self._points)
        start = 0
        for sums_of_block in self._sums[1]:
            stop = sums_of_block.shape[1] - 1
            own = sums_of_block.sum(0).T.unflatten(0, (size, -1))
            first[:, start:stop] = own[..., :1]
            second[:, start:stop, :stop] = own @ whitening[:, :stop, : stop + 1].mT
            start = stop
        # The inverse of Uᵀ reverses the whitening.
        lower = invert_triangular(self._factors.mT, upper=False)
        second = second.tril()
        second = lower @ (second + second.tril(-1).mT) @ lower.mT
        packed = self._structure.second_moments_of(second, torch.ones_like(counts), num_features)
        first = (lower @ first).squeeze(-1)
        self._chosen.add(torch.cat([counts.unsqueeze(-1), first, packed], dim=-1), sums)
        self._sums = None


def _blocks(whitening: Tensor) -> list[Tensor]:
    """Rows of matrices ``[k, D, 1 + D]``, without the columns that are zero."""
    num_features = whitening.shape[1]
    width = max(BLOCK, -(-num_features // MOST_BLOCKS))
    edges = range(0, num_features, width)
    stops = [min(start + width, num_features) for start in edges]
    return [whitening[:, start:stop, : stop + 1] for start, stop in zip(edges, stops, strict=True)]

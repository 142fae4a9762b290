"""The active mixtures of a fit, stacked so that one operation updates all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.em.restarts import Restart


class Mixtures:
    """The parameters of all restarts of a fit that take part in later passes.

    Parameters
    ----------
    restarts : list of Restart
    structure : CovarianceStructure
    centre : Tensor [D]
        Point that natural parameters refer to, on the device and in the type of the arithmetic.
    has_natural : bool
        Whether natural parameters are kept. They take as much memory as the parameters, and only
        the fast E-step needs them.

    Attributes
    ----------
    centre : Tensor [D]
    active : list of int
        Positions of the restarts that take part.
    parameters : MixtureParameters
        Parameters of these R restarts.
    natural : Tensor [R, K, 1 + P]
        Their natural parameters, if kept.
    """

    def __init__(
        self,
        restarts: list[Restart],
        structure: CovarianceStructure,
        centre: Tensor,
        *,
        has_natural: bool,
    ) -> None:
        self.restarts = restarts
        self.active: list[int] = []
        self.parameters = MixtureParameters.none()
        self.natural = torch.empty(0)
        self._structure = structure
        self.centre = centre
        self._has_natural = has_natural

    @property
    def active_restarts(self) -> list[Restart]:
        """The R restarts that take part."""
        return [self.restarts[position] for position in self.active]

    def activate(self, positions: Sequence[int]) -> None:
        """Let these restarts take part, each from its next point."""
        self.active = list(positions)
        if self.active:
            found = [self.restarts[position].next_point for position in self.active]
            device, dtype = self.centre.device, self.centre.dtype
            self.update(MixtureParameters.stack([p.to(device, dtype) for p in found]))

    def update(self, parameters: MixtureParameters) -> None:
        """Give the active restarts new parameters."""
        self.parameters = parameters
        if self._has_natural:
            self.natural = self._structure.natural_parameters(
                parameters.log_weights,
                parameters.means - self.centre,
                parameters.precisions_cholesky,
            )

    def take(self, parameters: MixtureParameters, natural: Tensor) -> None:
        """Give the active restarts new parameters, whose natural parameters are known."""
        self.parameters, self.natural = parameters, natural

    def keep(self, kept: Sequence[int]) -> None:
        """Deactivate all but these of the R places."""
        if not kept:
            self.put_back()
            self.active = []
            return
        for place, index in enumerate(self.active):
            if place not in kept:
                # A copy: a view would keep the parameters of the others in memory.
                self.restarts[index].parameters = self.parameters.select([place])
        self.active = [self.active[place] for place in kept]
        self.update(self.parameters.select(kept))

    def put_back(self) -> None:
        """Return their parameters to the active restarts, as views.

        A restart whose next pass starts from an extrapolated point has its parameters already.
        """
        if self.active:
            for index, own in zip(self.active, self.parameters.split(), strict=True):
                if not self.restarts[index].is_extrapolated:
                    self.restarts[index].parameters = own

    def start_from_next_points(self) -> None:
        """Let the next pass of the active restarts start where their acceleration wants it to."""
        self.put_back()
        self.activate(self.active)

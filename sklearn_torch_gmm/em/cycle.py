"""The state of the acceleration of one restart between two passes over the data.

The terms are defined in :mod:`~sklearn_torch_gmm.em.acceleration`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sklearn_torch_gmm.core.parameters import MixtureParameters

FIRST_CAP = 4.0
"""The first upper limit of s. With 1, the same fits take 3% more passes."""

GROWTH = 2.0
"""Factor by which the cap grows when a capped point is accepted, and shrinks when one is rejected.

With 4, as in the authors' program, the same fits take 5% more passes, as more are rejected.
"""


@dataclass
class Cycle:
    """The state of the scheme in one restart."""

    cap: float = FIRST_CAP
    """Upper limit of the step length s."""
    step: float = 1.0
    """Step length of the last extrapolation."""
    origin: MixtureParameters | None = None
    """θ₀, one mixture, if the next pass starts from θ₁."""
    extrapolated: MixtureParameters | None = None
    """The point that the next pass starts from and checks. The restart's parameters are then θ₂."""

    def to_plain(self) -> dict[str, Any]:
        """Return tensors and plain values that a checkpoint can hold."""
        points = {"origin": self.origin, "extrapolated": self.extrapolated}
        tensors = {
            name: None if point is None else point.to_plain() for name, point in points.items()
        }
        return {"cap": self.cap, "step": self.step, **tensors}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Cycle:
        """Return the inverse of :meth:`to_plain`."""
        points = {
            name: None if plain[name] is None else MixtureParameters.from_plain(plain[name])
            for name in ("origin", "extrapolated")
        }
        return cls(plain["cap"], plain["step"], **points)

    def end(self, *, is_accepted: bool) -> None:
        """Forget the point that a pass has checked, and adapt the cap."""
        self.extrapolated = None
        if self.step >= self.cap:
            self.cap = self.cap * GROWTH if is_accepted else max(1.0, self.cap / GROWTH)

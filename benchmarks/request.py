"""What a worker is asked for: a measurement, and the library that takes it."""

import warnings
from dataclasses import dataclass
from functools import cached_property

from benchmarks.cases import CASES, COVARIANCES
from benchmarks.forms import Measurement
from benchmarks.peers import PEERS
from benchmarks.peers.base import NotOffered
from benchmarks.problems import make_problem


@dataclass(frozen=True)
class Request(Measurement):
    library: str = ""
    device: str = "cpu"

    @cached_property
    def peer(self):
        # Fits of so many iterations don't converge, and scikit-learn says so.
        warnings.simplefilter("ignore")
        peer = PEERS[self.library].load()(self.device)
        if self.covariance in COVARIANCES and self.covariance not in peer.covariances:
            raise NotOffered(f"no {self.covariance} covariances")
        return peer

    def problem(self, times=1):
        """The case, with so many times as many samples."""
        case = CASES[self.case]
        covariance = self.covariance if self.covariance in COVARIANCES else "full"
        return make_problem(case, covariance, self.dtype, times * case.rows)

"""What every covariance structure promises.

A structure's own test file inherits :class:`StructureContract` and says the structure's name. Its
dense equal is in :mod:`tests.core.families`: how its covariances look as matrices, and the member
of its family that is most likely for given covariance matrices of the components. A structure that
only the tests have brings both itself and its dense equal. Everything expected here comes from
those, NumPy loops, scipy and torch.distributions.
"""

from tests.core.covariance.contract.algebra import AlgebraContract
from tests.core.covariance.contract.builders import ROUNDING
from tests.core.covariance.contract.densities import DensityContract
from tests.core.covariance.contract.estimators import EstimatorContract
from tests.core.covariance.contract.fixed_parts import FixedPartsContract
from tests.core.covariance.contract.iterations import IterationContract

__all__ = ["ROUNDING", "StructureContract"]


class StructureContract(
    AlgebraContract, DensityContract, IterationContract, FixedPartsContract, EstimatorContract
):
    """All of it."""

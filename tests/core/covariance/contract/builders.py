"""The dense equal that a structure supplies, and what the promises are tested on."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pytest

from sklearn_torch_gmm.core.covariance import (
    STRUCTURES,
    CovarianceStructure,
    get_structure,
    register_structure,
)
from sklearn_torch_gmm.core.model import GaussianMixtureModel, GaussianMixtureModelConfig
from sklearn_torch_gmm.core.parameters import MixtureParameters
from tests.core import oracle
from tests.core.families import FAMILIES, Family
from tests.core.oracle import Mixture
from tests.core.steps import make_parameters, tensor

SIZES = [(3, 4), (1, 3), (4, 1)]
"""K and D; more components than features and fewer, and one of each."""

ROUNDING = {"rtol": 1e-10, "atol": 1e-10}
"""float64 (2e-16), condition numbers up to a hundred, sums of some hundred terms: 1e-11."""

NUM_ROWS = 150


def make_model(name: str, parameters: MixtureParameters) -> GaussianMixtureModel:
    _, components, features = parameters.means.shape
    model = GaussianMixtureModel(GaussianMixtureModelConfig(components, features, name))
    model.component_probs.copy_(parameters.weights[0])
    model.means.copy_(parameters.means[0])
    model.precisions_cholesky.copy_(parameters.precisions_cholesky[0])
    return model


class Builders:
    name: ClassVar[str]

    own_structure: ClassVar[CovarianceStructure | None] = None
    """Of a structure that only the tests have: it is registered while they run."""

    own_family: ClassVar[Family | None] = None
    """Its dense equal."""

    num_covariance_parameters: ClassVar[dict[tuple[int, int], int]]
    """By hand, for K and D."""

    @pytest.fixture(autouse=True)
    def registered(self) -> Iterator[None]:
        if self.own_structure is None:
            yield
            return
        register_structure(self.own_structure)
        FAMILIES[self.name] = self.own_family
        yield
        del STRUCTURES[self.name], FAMILIES[self.name]

    # -- the dense equal --------------------------------------------------------------------------

    def dense(self, covariances: np.ndarray, components: int, features: int) -> np.ndarray:
        """Covariance matrices [K, D, D] of covariances in the structure's shape."""
        return FAMILIES[self.name].dense(covariances, components, features)

    def project(self, within: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Most likely covariances, from matrices [K, D, D] and the components' shares [K]."""
        return FAMILIES[self.name].project(within, shares)

    # -- builders ---------------------------------------------------------------------------------

    @pytest.fixture
    def structure(self, registered) -> CovarianceStructure:
        return get_structure(self.name)

    def random_mixture(
        self, rng: np.random.Generator, components: int, features: int
    ) -> tuple[Mixture, MixtureParameters]:
        weights = rng.dirichlet(np.full(components, 5.0))
        means = 2.0 * rng.standard_normal((components, features))
        within = oracle.random_matrices(rng, components, features)
        covariances = self.project(within, weights)
        dense = Mixture(weights, means, self.dense(covariances, components, features))
        parameters = make_parameters(
            get_structure(self.name),
            tensor(weights)[None],
            tensor(means)[None],
            tensor(covariances)[None],
        )
        return dense, parameters

    @pytest.fixture(params=SIZES, ids=lambda sizes: "K{}-D{}".format(*sizes))
    def sizes(self, request) -> tuple[int, int]:
        return request.param

    @pytest.fixture
    def both(self, rng, sizes) -> tuple[Mixture, MixtureParameters]:
        return self.random_mixture(rng, *sizes)

    @pytest.fixture
    def mixture(self, both) -> Mixture:
        return both[0]

    @pytest.fixture
    def parameters(self, both) -> MixtureParameters:
        """Of one mixture, [1, ...]."""
        return both[1]

    @pytest.fixture
    def rows(self, rng, mixture) -> np.ndarray:
        return oracle.draw_rows(rng, mixture, NUM_ROWS)

    @pytest.fixture
    def sample_weight(self, rng) -> np.ndarray:
        return rng.integers(0, 4, size=NUM_ROWS)

    @pytest.fixture
    def model(self, parameters) -> GaussianMixtureModel:
        return make_model(self.name, parameters)

    @pytest.fixture
    def three(self, rng, sizes) -> list[MixtureParameters]:
        """Mixtures to be stacked: R = 3."""
        return [self.random_mixture(rng, *sizes)[1] for _ in range(3)]

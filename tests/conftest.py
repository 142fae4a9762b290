"""Random numbers, fixed or opened by SKLEARN_TORCH_GMM_TEST_SEED=<number>, and which tests run."""

import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

SEED = int(os.environ.get("SKLEARN_TORCH_GMM_TEST_SEED", "0"))

# A fit in a loaded process may take any time.
settings.register_profile("few", deadline=None, derandomize=True, database=None, max_examples=12)
settings.register_profile(
    "fuzz",
    deadline=None,
    max_examples=int(os.environ.get("SKLEARN_TORCH_GMM_FUZZ_EXAMPLES", "1500")),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("few")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of faults, which take minutes, unless a marker expression names them."""
    if "faults" in config.getoption("markexpr"):
        return
    left_out = [item for item in items if "faults" in item.keywords]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if "faults" not in item.keywords]

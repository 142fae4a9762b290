"""Random numbers, which tests run, and in which order.

Random numbers are fixed, or opened by SKLEARN_TORCH_GMM_TEST_SEED=<number>; tests run in the order
of the files, or in a random one that SKLEARN_TORCH_GMM_TEST_ORDER=<number> sets.
"""

import os
import random
import signal
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from sklearn_torch_gmm.em.recent_clusters import recent_clusters

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


@pytest.fixture(autouse=True)
def _clusters_are_forgotten() -> None:
    """A test may count the runs of K-means, or replace it."""
    recent_clusters.clear()


@pytest.fixture(autouse=True)
def _interrupts_are_heard() -> Iterator[None]:
    """A shell that starts pytest in the background, or with nohup, lets it ignore interrupts.

    Tests that interrupt a process would then wait for it; its children ignore them, too.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Set the order, and leave out the tests of faults unless a marker expression names them."""
    if "SKLEARN_TORCH_GMM_TEST_ORDER" in os.environ:
        # Each process that runs tests comes to the same order, as pytest-xdist needs.
        random.Random(os.environ["SKLEARN_TORCH_GMM_TEST_ORDER"]).shuffle(items)
    if "faults" in config.getoption("markexpr"):
        return
    left_out = [item for item in items if "faults" in item.keywords]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if "faults" not in item.keywords]

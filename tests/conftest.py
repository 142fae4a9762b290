"""Random numbers: fixed, and opened by SKLEARN_TORCH_GMM_TEST_SEED=<number>."""

import os

import numpy as np
import pytest
import torch

SEED = int(os.environ.get("SKLEARN_TORCH_GMM_TEST_SEED", "0"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)

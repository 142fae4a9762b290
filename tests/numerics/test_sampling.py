"""Samples have the distribution of the mixture, from both classes and from the module."""

import numpy as np
import pytest
import torch
from scipy import stats

from sklearn_torch_gmm import GaussianMixtureModel, GaussianMixtureModelConfig
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn
from tests.conftest import SEED
from tests.estimators import MIXTURE_CLASSES, TYPES

LEAST_P = 1e-4
"""About a hundred p-values are compared with it: one in a hundred seeds gives a false alarm."""

STANDARD_ERRORS = 5.0
"""How far a moment may be off: once in two million by chance."""

NUM_ROWS = 20_000
BEYOND_FLOAT32 = 2**24 + 1001
"""More rows than float32 can count, and than torch.multinomial can draw."""

WEIGHTS = np.array([0.2, 0.5, 0.3])
MEANS = np.array([[0.0, 0.0, -1.0], [3.0, 1.0, 0.0], [-1.0, 2.0, 4.0]])
MATRIX = np.array([[2.0, 0.6, 0.0], [0.6, 0.5, 0.1], [0.0, 0.1, 1.0]])
COVARIANCES = {
    "full": np.stack([MATRIX, np.diag([1.0, 0.1, 3.0]), 4.0 * MATRIX]),
    "tied": MATRIX,
    "diag": np.array([[1.0, 0.1, 3.0], [0.5, 2.0, 1.0], [4.0, 0.2, 1.0]]),
    "spherical": np.array([1.0, 0.1, 3.0]),
}


def known(cls, covariance_type, dtype=np.float64):
    mixture = cls.from_parameters(
        WEIGHTS, MEANS, COVARIANCES[covariance_type], covariance_type=covariance_type,
        random_state=SEED,
    )  # fmt: skip
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        setattr(mixture, name, getattr(mixture, name).astype(dtype))
    return mixture


def matrices(covariance_type):
    """Covariances [K, D, D]."""
    values = COVARIANCES[covariance_type]
    return {
        "full": lambda: values,
        "tied": lambda: np.stack([values] * 3),
        "diag": lambda: np.stack([np.diag(variances) for variances in values]),
        "spherical": lambda: values[:, None, None] * np.eye(3),
    }[covariance_type]()


def draw(source, covariance_type, dtype):
    if source is GaussianMixtureModel:
        generator = torch.Generator().manual_seed(SEED)
        model = known(DropIn, covariance_type, dtype).model_
        return model.sample(NUM_ROWS, generator=generator).double().numpy()
    rows = known(source, covariance_type, dtype).sample(NUM_ROWS)
    return rows[0] if source is DropIn else rows


each_type = pytest.mark.parametrize("covariance_type", TYPES)
each_dtype = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["double", "single"])
each_source = pytest.mark.parametrize("source", [*MIXTURE_CLASSES, GaussianMixtureModel])


@each_source
@each_type
@each_dtype
def test_margins(source, covariance_type, dtype):
    rows = draw(source, covariance_type, dtype)
    widths = np.sqrt(matrices(covariance_type).diagonal(axis1=1, axis2=2))
    for feature in range(3):

        def distribution(values, centres=MEANS[:, feature], widths=widths[:, feature]):
            return stats.norm.cdf(values[:, None], centres, widths) @ WEIGHTS

        assert stats.kstest(rows[:, feature], distribution).pvalue > LEAST_P


@each_source
@each_type
@each_dtype
def test_moments(source, covariance_type, dtype):
    rows = draw(source, covariance_type, dtype)
    mean = WEIGHTS @ MEANS
    deviations = MEANS - mean
    between = deviations[:, :, None] * deviations[:, None]
    covariance = np.tensordot(WEIGHTS, matrices(covariance_type) + between, axes=1)
    centred = rows - mean
    products = centred[:, :, None] * centred[:, None]
    for found, expected in [(rows, mean), (products, covariance)]:
        allowed = STANDARD_ERRORS * found.std(0) / NUM_ROWS**0.5
        assert (np.abs(found.mean(0) - expected) < allowed).all()


@each_type
def test_each_component_has_its_own_rows(covariance_type):
    rows, labels = known(DropIn, covariance_type).sample(NUM_ROWS)
    assert stats.chisquare(np.bincount(labels), NUM_ROWS * WEIGHTS).pvalue > LEAST_P
    for component, matrix in enumerate(matrices(covariance_type)):
        own = rows[labels == component] - MEANS[component]
        distances = np.einsum("ni,ij,nj->n", own, np.linalg.inv(matrix), own)
        assert stats.kstest(distances, stats.chi2(df=3).cdf).pvalue > LEAST_P


@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
def test_weights_whose_rounded_sum_exceeds_one(cls):
    """Ten times a tenth in float32 is too much for NumPy, where nothing is left to the last."""
    weights = np.array([0.1] * 10 + [0.0])
    pvalues = []
    # Three draws as one test: the first of seed 4, which is NumPy's own, has the probability 4e-5.
    for seed in range(SEED, SEED + 3):
        mixture = cls.from_parameters(
            weights, np.arange(11.0)[:, None], np.full(11, 1e-6), covariance_type="spherical",
            random_state=seed,
        )  # fmt: skip
        mixture.weights_ = weights.astype(np.float32)
        rows = mixture.sample(NUM_ROWS)
        rows = rows[0] if cls is DropIn else rows
        counts = np.bincount(rows[:, 0].round().astype(int))
        pvalues.append(stats.chisquare(counts, NUM_ROWS * weights[:10]).pvalue)
    assert stats.combine_pvalues(pvalues).pvalue > LEAST_P


def test_a_rare_component_of_a_module_in_single_precision(monkeypatch):
    """Beside one, 1e-8 is lost in float32."""
    model = GaussianMixtureModel(GaussianMixtureModelConfig(2, 1), dtype=torch.float32)
    model.component_probs.copy_(torch.tensor([1.0, 1e-8]))
    model.means.copy_(torch.tensor([[0.0], [1e3]]))
    extremes = torch.tensor([0.0, 1.0 - 2.0**-53], dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: extremes)
    rows = model.sample(2, generator=torch.Generator().manual_seed(SEED))
    assert (rows.flatten() / 1e3).round().tolist() == [0.0, 1.0]
    assert rows.dtype == torch.float32


@each_source
def test_more_rows_than_single_precision_can_count(source):
    weights, distance = np.array([0.3, 0.7]), 20.0
    mixture = DropIn if source is GaussianMixtureModel else source
    mixture = mixture.from_parameters(
        weights, [[0.0], [distance]], [1.0, 1.0], covariance_type="spherical", random_state=SEED
    )
    if source is GaussianMixtureModel:
        model = mixture.model_.float()
        rows = model.sample(BEYOND_FLOAT32, generator=torch.Generator().manual_seed(SEED)).numpy()
    else:
        rows = mixture.sample(BEYOND_FLOAT32)
        rows = rows[0] if source is DropIn else rows
    assert rows.shape == (BEYOND_FLOAT32, 1)
    is_second = rows[:, 0] > distance / 2
    second = np.count_nonzero(is_second)
    counts = [BEYOND_FLOAT32 - second, second]
    assert stats.chisquare(counts, BEYOND_FLOAT32 * weights).pvalue > LEAST_P
    for own, centre in [(rows[~is_second], 0.0), (rows[is_second], distance)]:
        moments = own.mean(dtype=np.float64) - centre, own.var(dtype=np.float64) - 1.0
        allowed = STANDARD_ERRORS * np.sqrt([1.0, 2.0]) / len(own) ** 0.5
        # A row of a module in single precision is rounded, by up to 1e-6.
        assert (np.abs(moments) < allowed).all()

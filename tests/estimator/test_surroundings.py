"""What the caller has set for torch changes nothing in a mixture."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from sklearn_torch_gmm import GaussianMixtureIC, GaussianMixtureModel
from tests.estimators import MIXTURE_CLASSES, TYPES, DropIn, TorchMixture, make
from tests.rows.examples import Store, Stream

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

each_type = pytest.mark.parametrize("covariance_type", TYPES)

PARAMETERS = ["weights_", "means_", "covariances_", "precisions_cholesky_", "precisions_"]


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return np.vstack([rng.normal(size=(100, 3)), rng.normal(size=(100, 3)) + 4.0])


@contextmanager
def default_device(how):
    """A device on which nothing can be computed: whatever is created there by oversight fails."""
    if how == "context":
        with torch.device("meta"):
            yield
    else:
        torch.set_default_device("meta")
        try:
            yield
        finally:
            torch.set_default_device(None)


each_way = pytest.mark.parametrize("how", ["context", "setting"])


def assert_same(mixture, expected):
    for name in PARAMETERS:
        np.testing.assert_array_equal(getattr(mixture, name), getattr(expected, name), name)


@each_type
@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
@pytest.mark.parametrize("options", [{}, {"batch_size": 50}, {"start": "random"}], ids=str)
@each_way
def test_a_default_device_does_not_matter_to_a_fit(X, cls, covariance_type, options, how):
    options = {"covariance_type": covariance_type, "random_state": 0, **options}
    expected = make(cls, 2, **options).fit(X)
    updated = make(cls, 2, **options).partial_fit(X).partial_fit(X)
    answers = expected.score_samples(X)
    with default_device(how):
        mixture = make(cls, 2, **options).fit(X)
        assert_same(mixture, expected)
        np.testing.assert_array_equal(mixture.score_samples(X), answers)
        assert_same(make(cls, 2, **options).partial_fit(X).partial_fit(X), updated)


@pytest.mark.parametrize(
    "kind",
    [
        lambda X: TensorDataset(torch.from_numpy(X)),
        lambda X: DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=30),
        Stream,
        Store,
    ],
    ids=["dataset", "loader", "stream", "store"],
)
@each_way
def test_a_default_device_does_not_matter_to_data_in_pieces(X, kind, how):
    data = kind(X)
    expected = DropIn(2, random_state=0).fit(data)
    labels, score = expected.predict(data), expected.score(data)
    with default_device(how):
        mixture = DropIn(2, random_state=0).fit(data)
        assert_same(mixture, expected)
        np.testing.assert_array_equal(mixture.predict(data), labels)
        assert mixture.score(data) == score


@each_way
def test_a_default_device_does_not_matter_to_what_is_kept(X, tmp_path, how):
    mixture = DropIn(2, random_state=0).fit(X)
    search = GaussianMixtureIC(1, 2, random_state=0).fit(X)
    with default_device(how):
        mixture.save(tmp_path / "mixture")
        assert_same(DropIn.load(tmp_path / "mixture"), mixture)
        mixture.model_.save(tmp_path / "module")
        for module in (mixture.model_, GaussianMixtureModel.load(tmp_path / "module")):
            assert module.means.device.type == "cpu"
            np.testing.assert_array_equal(module.means.numpy(), mixture.means_)
        theirs = mixture.to_sklearn()
        np.testing.assert_array_equal(theirs.precisions_, mixture.precisions_)
        again = GaussianMixtureIC(1, 2, random_state=0).fit(X)
        np.testing.assert_array_equal(again.results_["bic"], search.results_["bic"])


@each_type
def test_autocasting_does_not_matter(X, covariance_type):
    options = {
        "covariance_type": covariance_type,
        "random_state": 0,
        "trainer_params": {"precision": 32},
    }
    expected = TorchMixture(2, **options).fit(X)
    updated = TorchMixture(2, **options).partial_fit(X).partial_fit(X)
    rows = np.tile(X, (5, 1))
    with torch.autocast("cpu", torch.bfloat16):
        mixture = TorchMixture(2, **options).fit(X)
        answers = [expected.score_samples(part) for part in (X, rows)]
        again = TorchMixture(2, **options).partial_fit(X).partial_fit(X)
        # It goes on for the caller.
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    assert_same(mixture, expected)
    assert_same(again, updated)
    for part, answer in zip((X, rows), answers, strict=True):
        np.testing.assert_array_equal(answer, expected.score_samples(part))

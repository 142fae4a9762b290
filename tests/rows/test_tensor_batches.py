"""Datasets and loaders of tensors are answered as tensors are."""

import numpy as np
import pytest
import torch
from sklearn import config_context
from torch.utils.data import DataLoader, TensorDataset

from sklearn_torch_gmm import GaussianMixture, GaussianMixtureIC
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn
from tests.rows.examples import Map, Store, Stream

METHODS = ["predict", "predict_proba", "score_samples", "component_log_densities"]


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(size=(60, 2)), rng.normal(6.0, size=(47, 2))])


OF_TENSORS = {
    "dataset": lambda X: TensorDataset(torch.from_numpy(X)),
    "map": lambda X: Map(torch.from_numpy(X)),
    "stream": lambda X: Stream(torch.from_numpy(X)),
    "loader": lambda X: DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=25),
    # The loader's own collation makes tensors of arrays.
    "loader of arrays": lambda X: DataLoader(Map(X), batch_size=25),
    "batches": lambda X: DataLoader(list(torch.from_numpy(X).split(40)), batch_size=None),
}
OF_ARRAYS = {
    "map": lambda X: Map(X),
    "stream": lambda X: Stream(X),
    "store": lambda X: Store(X),
    "batches": lambda X: DataLoader([X[:50], X[50:]], batch_size=None, collate_fn=lambda x: x),
}


def assert_answers(answer, expected, is_tensor):
    assert isinstance(answer, torch.Tensor if is_tensor else np.ndarray)
    np.testing.assert_allclose(np.asarray(answer), expected, rtol=1e-12)
    assert np.asarray(answer).dtype == expected.dtype


@pytest.mark.parametrize("method", METHODS)
class TestAnswers:
    @pytest.mark.parametrize("kind", OF_TENSORS)
    def test_tensors_with_tensors(self, X, method, kind):
        mixture = GaussianMixture(2, random_state=0).fit(X)
        expected, data = getattr(mixture, method)(X), OF_TENSORS[kind](X)
        assert_answers(getattr(mixture, method)(data), expected, is_tensor=True)

    @pytest.mark.parametrize("kind", OF_ARRAYS)
    def test_arrays_with_arrays(self, X, method, kind):
        mixture = GaussianMixture(2, random_state=0).fit(X)
        expected, data = getattr(mixture, method)(X), OF_ARRAYS[kind](X)
        assert_answers(getattr(mixture, method)(data), expected, is_tensor=False)

    @pytest.mark.parametrize("kind", OF_TENSORS)
    @pytest.mark.parametrize("dispatch", [False, True])
    def test_drop_in_as_for_a_tensor(self, X, method, kind, dispatch, monkeypatch):
        monkeypatch.setenv("SCIPY_ARRAY_API", "1")
        mixture = DropIn(2, random_state=0).fit(X)
        expected, data = getattr(mixture, method)(X), OF_TENSORS[kind](X)
        with config_context(array_api_dispatch=dispatch):
            answer = getattr(mixture, method)(data)
        assert_answers(answer, expected, is_tensor=dispatch)

    def test_search_whatever_its_mixture_does(self, X, method):
        search = GaussianMixtureIC(1, 2, covariance_type="diag", random_state=0).fit(X)
        expected = getattr(search, method)(X)
        for data in (torch.from_numpy(X), *(make(X) for make in OF_TENSORS.values())):
            assert_answers(getattr(search, method)(data), expected, is_tensor=True)
        for data in (X, X.tolist(), *(make(X) for make in OF_ARRAYS.values())):
            assert_answers(getattr(search, method)(data), expected, is_tensor=False)
        # The mixture itself goes on answering as scikit-learn's.
        answer = getattr(search.best_estimator_, method)(torch.from_numpy(X))
        assert_answers(answer, expected, is_tensor=False)


@pytest.mark.parametrize("kind", OF_TENSORS)
def test_fit_predict(X, kind):
    expected = GaussianMixture(2, random_state=0).fit(X).labels_
    labels = GaussianMixture(2, random_state=0).fit_predict(OF_TENSORS[kind](X))
    assert isinstance(labels, torch.Tensor)
    # The components are found from the same rows in the same order.
    np.testing.assert_array_equal(labels, expected)


def test_the_type_of_the_rows_is_kept(X):
    mixture = GaussianMixture(2, random_state=0).fit(X)
    data = DataLoader(TensorDataset(torch.from_numpy(X).float()), batch_size=25)
    assert mixture.score_samples(data).dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_a_gpu_are_answered_there(X):
    mixture = GaussianMixture(2, random_state=0).fit(X)
    data = DataLoader(list(torch.from_numpy(X).cuda().split(40)), batch_size=None)
    for cls in (mixture, DropIn(2, random_state=0).fit(X)):
        assert cls.predict(data).device.type == "cuda"

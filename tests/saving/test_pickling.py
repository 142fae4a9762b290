import copy
import io
import json
import os
import pickle
import subprocess
import sys

import cloudpickle
import joblib
import numpy as np
import pytest
import sklearn
import skops.io
import torch
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sklearn_torch_gmm
from sklearn_torch_gmm import GaussianMixture, mixture
from sklearn_torch_gmm.exceptions import ModelVersionWarning
from tests.saving.test_estimators import MIXTURE_CLASSES, TYPES, K, X, assert_same_fit, fit, make


def through_skops(estimator):
    content = skops.io.dumps(estimator)
    trusted = ["sklearn_torch_gmm.gaussian_mixture.GaussianMixture"]
    trusted.append("sklearn_torch_gmm.mixture.GaussianMixture")
    return skops.io.loads(content, trusted=trusted)


WAYS = {
    "pickle": lambda estimator: pickle.loads(pickle.dumps(estimator)),
    "pickle, oldest protocol": lambda estimator: pickle.loads(pickle.dumps(estimator, 0)),
    "cloudpickle": lambda estimator: cloudpickle.loads(cloudpickle.dumps(estimator)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "skops": through_skops,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
class TestRoundTrip:
    @pytest.mark.parametrize("covariance_type", TYPES)
    def test_fitted(self, cls, way, covariance_type):
        estimator = fit(cls, covariance_type=covariance_type)
        found = WAYS[way](estimator)
        assert_same_fit(estimator, found)
        assert vars(found).keys() == vars(estimator).keys()
        assert found.get_params() == estimator.get_params()

    def test_unfitted(self, cls, way):
        found = WAYS[way](make(cls, n_components=4))
        assert found.n_clusters == 4
        assert not hasattr(found, "means_")

    def test_fitted_to_a_tensor(self, cls, way):
        estimator = fit(cls, torch.tensor(X))
        found = WAYS[way](estimator)
        assert_same_fit(estimator, found)
        assert type(found.predict(torch.tensor(X))) is type(estimator.predict(torch.tensor(X)))

    def test_original_stays_as_it_is(self, cls, way):
        estimator = fit(cls)
        before = dict(vars(estimator))
        WAYS[way](estimator)
        assert vars(estimator).keys() == before.keys()
        assert all(value is before[name] for name, value in vars(estimator).items())
        assert estimator.labels_.dtype == np.int64


@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
class TestJoblib:
    @pytest.mark.parametrize("compress", [0, 3, ("gzip", 1)], ids=str)
    def test_file(self, cls, compress, tmp_path):
        estimator = fit(cls, covariance_type="full")
        joblib.dump(estimator, tmp_path / "model", compress=compress)
        assert_same_fit(estimator, joblib.load(tmp_path / "model"))

    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    @pytest.mark.parametrize("covariance_type", TYPES)
    def test_memory_map(self, cls, covariance_type, dtype, tmp_path):
        estimator = fit(cls, X.astype(dtype), covariance_type=covariance_type)
        joblib.dump(estimator, tmp_path / "model")
        mapped = joblib.load(tmp_path / "model", mmap_mode="r")
        assert isinstance(mapped.means_, np.memmap)
        assert not mapped.means_.flags.writeable
        for method in ("predict", "predict_proba", "score_samples"):
            np.testing.assert_array_equal(getattr(mapped, method)(X), getattr(estimator, method)(X))
        np.testing.assert_array_equal(mapped.sample(7)[0], estimator.sample(7)[0])
        np.testing.assert_array_equal(mapped.precisions_, estimator.precisions_)
        assert mapped.bic(X) == estimator.bic(X)
        np.testing.assert_array_equal(mapped.model_.means, estimator.means_)

    def test_memory_map_goes_on(self, cls, tmp_path):
        estimator = fit(cls)
        joblib.dump(estimator, tmp_path / "model")
        mapped = joblib.load(tmp_path / "model", mmap_mode="r")
        for copied in (copy.deepcopy(mapped), pickle.loads(pickle.dumps(mapped))):
            np.testing.assert_array_equal(copied.predict_proba(X), estimator.predict_proba(X))
        mapped.save(tmp_path / "directory")
        assert_same_fit(estimator, cls.load(tmp_path / "directory"))
        mapped.fit(X)
        assert_same_fit(estimator, mapped)


# -- what is inside -------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [X, torch.tensor(X)], ids=["array", "tensor"])
@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
def test_fitted_state_is_parameters_arrays_and_numbers(cls, rows):
    estimator = fit(cls, rows)
    state = {n: v for n, v in vars(estimator).items() if n not in estimator.get_params()}
    kinds = {type(value) for value in state.values()}
    assert kinds <= {np.ndarray, bool, int, float, list}
    assert all(type(value) is float for value in estimator.lower_bounds_)


@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
def test_pickle_names_no_class_but_ours_and_numpys(cls):
    names = []

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            names.append(module.split(".")[0])
            return super().find_class(module, name)

    Unpickler(io.BytesIO(pickle.dumps(fit(cls, torch.tensor(X))))).load()
    # An object of plain state is made by copyreg.
    assert set(names) <= {"sklearn_torch_gmm", "numpy", "copyreg", "_codecs"}


@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
def test_pickle_is_small(cls):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(16, 32)) * 10
    labels = rng.integers(16, size=20_000)
    rows = centres[labels] + rng.normal(size=(20_000, 32))
    parameters = {"covariance_type": "full", "n_components": 16, "random_state": 0}
    short = {"trainer_params": {"max_epochs": 5}} if cls is GaussianMixture else {"max_iter": 5}
    estimator = fit(cls, rows, **parameters, **short)
    assert len(pickle.dumps(estimator)) < 400_000
    assert len(cloudpickle.dumps(estimator)) < 400_000


@pytest.mark.parametrize("label", [0, 255, 256, 40_000, 2**31, -1, -(2**40)])
def test_any_label_comes_back(label, tmp_path):
    estimator = fit(GaussianMixture)
    estimator.labels_ = np.array([0, label])
    estimator.save(tmp_path)
    for found in (copy.deepcopy(estimator), GaussianMixture.load(tmp_path)):
        assert found.labels_.tolist() == [0, label]
        assert found.labels_.dtype == np.int64


def test_skops_trusts_no_type_but_ours():
    for cls in MIXTURE_CLASSES:
        content = skops.io.dumps(fit(cls, covariance_type="full"))
        name = f"{cls.__module__}.{cls.__qualname__}"
        assert skops.io.get_untrusted_types(data=content) == [name]
        pipeline = make_pipeline(StandardScaler(), make(cls, n_components=2)).fit(X)
        assert skops.io.get_untrusted_types(data=skops.io.dumps(pipeline)) == [name]


# -- versions -------------------------------------------------------------------------------------


def written_by(estimator, monkeypatch, ours=None, sklearns=None):
    """Return the estimator as a pickle of other versions."""
    with monkeypatch.context() as patch:
        if ours is not None:
            patch.setattr(sklearn_torch_gmm, "__version__", ours)
        if sklearns is not None:
            patch.setattr(sklearn, "__version__", sklearns)
        return pickle.dumps(estimator)


@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
class TestVersions:
    def test_the_same_version_does_not_warn(self, cls):
        pickle.loads(pickle.dumps(make(cls)))

    def test_another_version_of_ours(self, cls, monkeypatch):
        content = written_by(make(cls), monkeypatch, ours="0.0.1")
        with pytest.warns(ModelVersionWarning) as caught:
            found = pickle.loads(content)
        assert type(found) is cls
        (warning,) = (each.message for each in caught)
        assert "GaussianMixture from version 0.0.1 of sklearn_torch_gmm" in str(warning)
        assert warning.original_version == "0.0.1"
        assert warning.current_version == sklearn_torch_gmm.__version__
        assert warning.original_sklearn_version == sklearn.__version__

    def test_another_version_of_scikit_learn(self, cls, monkeypatch):
        content = written_by(make(cls), monkeypatch, sklearns="1.5.0")
        with pytest.warns(InconsistentVersionWarning) as caught:
            pickle.loads(content)
        (warning,) = (each.message for each in caught)
        assert type(warning) is InconsistentVersionWarning
        assert warning.original_sklearn_version == "1.5.0"
        assert warning.current_sklearn_version == sklearn.__version__

    def test_both(self, cls, monkeypatch):
        content = written_by(make(cls), monkeypatch, ours="0.0.1", sklearns="1.5.0")
        with pytest.warns(InconsistentVersionWarning) as caught:
            pickle.loads(content)
        assert [type(each.message) for each in caught] == [
            InconsistentVersionWarning,
            ModelVersionWarning,
        ]

    def test_state_without_versions(self, cls):
        with pytest.warns(InconsistentVersionWarning, match="from version unknown"):
            make(cls).__setstate__({"labels_": np.zeros(2, np.uint8)})

    def test_versions_do_not_stay_in_the_estimator(self, cls):
        found = pickle.loads(pickle.dumps(fit(cls)))
        assert not any("version" in name for name in vars(found))

    def test_directories_do_not_warn(self, cls, monkeypatch, tmp_path):
        estimator = fit(cls)
        with monkeypatch.context() as patch:
            patch.setattr(sklearn_torch_gmm, "__version__", "0.0.1")
            estimator.save(tmp_path)
        assert_same_fit(estimator, cls.load(tmp_path))


# -- other machines and processes -----------------------------------------------------------------


@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
def test_model_that_wants_a_gpu_predicts_where_there_is_none(cls, monkeypatch, tmp_path):
    estimator = fit(cls)
    expected = estimator.predict_proba(X)
    estimator.set_params(trainer_params={"accelerator": "cuda", "devices": [3]})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    estimator.save(tmp_path)
    for found in (pickle.loads(pickle.dumps(estimator)), cls.load(tmp_path)):
        np.testing.assert_array_equal(found.predict_proba(X), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
def test_model_fitted_on_a_gpu_predicts_where_there_is_none(cls, tmp_path):
    rows = torch.tensor(X, device="cuda")
    parameters = {"init_means": rows[:K]} if cls is GaussianMixture else {}
    estimator = fit(cls, rows)
    # A tensor among the parameters must not keep the model on the GPU either.
    estimator.set_params(trainer_params={"accelerator": "cuda"}, **parameters)
    (tmp_path / "pickle").write_bytes(pickle.dumps(estimator))
    estimator.save(tmp_path / "directory")
    np.save(tmp_path / "X.npy", X)
    program = (
        "import pickle, sys, numpy as np, torch\n"
        "assert not torch.cuda.is_available()\n"
        "first = pickle.load(open(sys.argv[1] + '/pickle', 'rb'))\n"
        "second = type(first).load(sys.argv[1] + '/directory')\n"
        "X = np.load(sys.argv[1] + '/X.npy')\n"
        "assert (first.predict(X) == second.predict(X)).all()\n"
        "np.save(sys.argv[1] + '/result.npy', first.predict_proba(X))\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, tmp_path],
        check=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        timeout=120,
    )
    expected = estimator.predict_proba(X)
    np.testing.assert_allclose(np.load(tmp_path / "result.npy"), expected, rtol=1e-6, atol=1e-9)


FRESH_PROCESS = """
import json, pickle, sys

with open(sys.argv[1], "rb") as file:
    pipelines, X = pickle.load(file)
labels = [pipeline.predict(X).tolist() for pipeline in pipelines]
unwanted = ("pytorch_lightning", "lightning", "torchmetrics")
print(json.dumps([labels, [name for name in unwanted if name in sys.modules]]))
"""


def test_fresh_process_predicts_without_lightning(tmp_path):
    mixtures = (make(cls, n_components=K, random_state=0) for cls in MIXTURE_CLASSES)
    pipelines = [make_pipeline(StandardScaler(), mixture).fit(X) for mixture in mixtures]
    (tmp_path / "models").write_bytes(pickle.dumps((pipelines, X)))
    process = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, tmp_path / "models"],
        check=True,
        capture_output=True,
        timeout=120,
    )
    labels, imported = json.loads(process.stdout)
    assert labels == [pipeline.predict(X).tolist() for pipeline in pipelines]
    assert imported == []


def test_precisions_come_from_their_factors():
    for covariance_type in TYPES:
        for dtype in (np.float32, np.float64):
            estimator = fit(
                mixture.GaussianMixture, X.astype(dtype), covariance_type=covariance_type
            )
            factors = estimator.precisions_cholesky_
            is_matrix = covariance_type in ("full", "tied")
            expected = factors @ np.swapaxes(factors, -1, -2) if is_matrix else factors**2
            np.testing.assert_allclose(estimator.precisions_, expected, rtol=1e-5)
            assert estimator.precisions_.dtype == dtype
            del estimator.precisions_cholesky_
            estimator.precisions_ = 4 * expected
            np.testing.assert_allclose(estimator.precisions_cholesky_, 2 * factors, rtol=1e-5)
            assert estimator.precisions_cholesky_.dtype == dtype
    assert not hasattr(GaussianMixture(), "precisions_")


@pytest.mark.parametrize(
    "labels",
    [np.array([0.5, 1.5]), np.array(["a", "b"]), np.array([1, 2], np.int32), np.array([2**63])],
    ids=str,
)
def test_labels_that_the_user_has_set_stay_as_they_are(labels):
    fitted = GaussianMixture.from_parameters([1.0], [[0.0]], [[[1.0]]])
    fitted.labels_ = labels
    for again in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(again.labels_, labels)
        assert again.labels_.dtype == labels.dtype


class RestoresItself(mixture.GaussianMixture):
    def __setstate__(self, state):
        self.__dict__.update(state)


def test_a_subclass_that_restores_itself_has_the_same_labels():
    fitted = RestoresItself(2, random_state=0).fit(X)
    restored = pickle.loads(pickle.dumps(fitted))
    assert restored.labels_.dtype == np.int64
    np.testing.assert_array_equal(restored.labels_, fitted.labels_)

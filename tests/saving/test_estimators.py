import os

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch.utils.data import TensorDataset

from sklearn_torch_gmm import GaussianMixture, GaussianMixtureModel, mixture
from sklearn_torch_gmm.core.serialization import read_tensors
from sklearn_torch_gmm.exceptions import UnstorableParameterError
from tests.conftest import SEED
from tests.saving.test_model_file import names_in

TYPES = ["full", "tied", "diag", "spherical"]
MIXTURE_CLASSES = [GaussianMixture, mixture.GaussianMixture]
FITTED = ["weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"]
K, D = 3, 2


def make_rows(dtype=np.float64):
    rng = np.random.default_rng(SEED)
    centres = rng.normal(size=(K, D)) * 8
    return (centres[rng.integers(K, size=90)] + rng.normal(size=(90, D))).astype(dtype)


X = make_rows()


def make(cls, **parameters):
    if "n_components" in parameters:
        parameters = {cls._vocabulary.components: parameters.pop("n_components"), **parameters}
    return cls(**parameters)


def fit(cls, rows=X, **parameters):
    return make(cls, **{"n_components": K, "random_state": 0, **parameters}).fit(rows)


def plain(value):
    return value.tolist() if isinstance(value, torch.Tensor) else value


def assert_same_parameters(one, other):
    assert type(one) is type(other)
    ours, theirs = one.get_params(), other.get_params()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert type(theirs[name]) is type(value)
        np.testing.assert_equal(plain(theirs[name]), plain(value))


def assert_same_fit(one, other):
    for name in one.persistent_attributes:
        assert hasattr(one, name) == hasattr(other, name)
        if hasattr(one, name):
            ours, theirs = getattr(one, name), getattr(other, name)
            np.testing.assert_array_equal(theirs, ours)
            assert type(theirs) is type(ours)
            assert getattr(theirs, "dtype", None) == getattr(ours, "dtype", None)
    for name in FITTED:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for method in ("predict", "predict_proba", "score_samples"):
        np.testing.assert_array_equal(getattr(other, method)(X), getattr(one, method)(X))


@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
class TestRoundTrip:
    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    @pytest.mark.parametrize("covariance_type", TYPES)
    def test_fitted(self, cls, covariance_type, dtype, tmp_path):
        estimator = fit(cls, X.astype(dtype), covariance_type=covariance_type)
        estimator.save(tmp_path / "model")
        loaded = cls.load(tmp_path / "model")
        assert_same_parameters(estimator, loaded)
        assert_same_fit(estimator, loaded)
        assert vars(loaded).keys() == vars(estimator).keys()
        np.testing.assert_array_equal(loaded.sample(5)[0], estimator.sample(5)[0])

    def test_unfitted(self, cls, tmp_path):
        estimator = make(cls, n_components=5)
        estimator.save(os.fspath(tmp_path))
        loaded = cls.load(os.fspath(tmp_path))
        assert_same_parameters(estimator, loaded)
        with pytest.raises(NotFittedError):
            loaded.predict(X)
        assert loaded.fit(X).n_iter_ > 0

    def test_files(self, cls, tmp_path):
        make(cls).save(tmp_path)
        assert names_in(tmp_path) == ["model.safetensors"]
        fit(cls).save(tmp_path)
        assert names_in(tmp_path) == ["model.safetensors"]

    def test_empty_arrays_and_expanded_tensors(self, cls, tmp_path):
        params = {"empty": np.zeros((0, 3)), "one": torch.ones(1).expand(5), "rows": X.T[::2]}
        estimator = fit(cls).set_params(trainer_params=params)
        estimator.save(tmp_path)
        found = cls.load(tmp_path).trainer_params
        assert found["empty"].shape == (0, 3)
        assert found["one"].tolist() == [1.0] * 5
        np.testing.assert_array_equal(found["rows"], X.T[::2])

    def test_every_parameter(self, cls, tmp_path):
        changed = {
            "covariance_type": "tied",
            "batch_size": 7,
            "num_workers": 2,
            "random_state": 3,
            "fixed": ("weights", "means"),
            "acceleration": "squarem",
            "missing": "em",
            "verbose": 1,
            "trainer_params": {"accelerator": "cpu", "devices": 1, "limit": (None, 0.5, True)},
        }
        theirs = {
            "tol": 0.0,
            "reg_covar": 1e-3,
            "max_iter": 7,
            "n_init": 2,
            "init_params": "random",
            "weights_init": np.array([0.25, 0.75]),
            "means_init": [[0, 1], [2, 3]],
            "precisions_init": np.eye(2, dtype=np.float32),
            "warm_start": True,
            "verbose_interval": 3,
        }
        ours = {
            "init_strategy": "kmeans++",
            "init_means": torch.ones(2, 2),
            "convergence_tolerance": 1e-5,
            "covariance_regularization": 0.1,
            "num_init": 4,
        }
        changed |= theirs if cls is mixture.GaussianMixture else ours
        estimator = make(cls, n_components=2, **changed)
        assert set(estimator.get_params()) == {*changed, cls._vocabulary.components}
        estimator.save(tmp_path)
        assert_same_parameters(estimator, cls.load(tmp_path))

    def test_random_state_goes_on_where_it_was(self, cls, tmp_path):
        estimator = fit(cls, random_state=np.random.RandomState(1))
        estimator.save(tmp_path)
        loaded = cls.load(tmp_path)
        np.testing.assert_array_equal(loaded.sample(20)[0], estimator.sample(20)[0])

    def test_names_of_columns(self, cls, tmp_path):
        frame = pd.DataFrame(X, columns=["width", "height"])
        estimator = fit(cls, frame)
        estimator.save(tmp_path)
        loaded = cls.load(tmp_path)
        assert_same_fit_names(estimator, loaded)
        np.testing.assert_array_equal(loaded.predict(frame), estimator.labels_)
        with pytest.raises(ValueError, match="feature names"):
            loaded.predict(frame[["height", "width"]])

    def test_fitted_to_a_dataset_there_are_no_labels(self, cls, tmp_path):
        estimator = fit(cls, TensorDataset(torch.tensor(X)))
        estimator.save(tmp_path)
        loaded = cls.load(tmp_path)
        assert not hasattr(loaded, "labels_")
        assert_same_fit(estimator, loaded)

    def test_fitted_to_a_tensor(self, cls, tmp_path):
        estimator = fit(cls, torch.tensor(X))
        estimator.save(tmp_path)
        assert_same_fit(estimator, cls.load(tmp_path))

    def test_lower_bound_that_json_has_no_word_for(self, cls, tmp_path):
        estimator = fit(cls)
        estimator.lower_bound_ = -np.inf
        estimator.save(tmp_path)
        assert cls.load(tmp_path).lower_bound_ == -np.inf

    def test_saving_over_another_model(self, cls, tmp_path):
        fit(cls, covariance_type="full").save(tmp_path)
        estimator = fit(cls, covariance_type="diag")
        estimator.save(tmp_path)
        assert_same_fit(estimator, cls.load(tmp_path))
        clone(estimator).save(tmp_path)
        with pytest.raises(NotFittedError):
            cls.load(tmp_path).predict(X)

    def test_warm_start_goes_on_as_it_would_have(self, cls, tmp_path):
        if cls is GaussianMixture:
            pytest.skip("has no warm_start")
        parameters = {"max_iter": 3, "warm_start": True, "tol": 0.0, "init_params": "random"}
        with pytest.warns(match="did not converge"):
            estimator = fit(cls, **parameters)
        estimator.save(tmp_path)
        loaded = cls.load(tmp_path)
        for each in (estimator, loaded):
            with pytest.warns(match="did not converge"):
                each.fit(X)
        assert_same_fit(estimator, loaded)

    def test_module_alone(self, cls, tmp_path):
        estimator = fit(cls, covariance_type="full")
        estimator.save(tmp_path)
        for path in (tmp_path, tmp_path / "model.safetensors"):
            _, log_prob = GaussianMixtureModel.load(path)(torch.tensor(X))
            np.testing.assert_allclose(log_prob, estimator.score_samples(X), rtol=1e-12)


def assert_same_fit_names(one, other):
    assert other.feature_names_in_.tolist() == one.feature_names_in_.tolist()
    assert other.feature_names_in_.dtype == one.feature_names_in_.dtype == object


@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
class TestParts:
    def test_parameters_alone(self, cls, tmp_path):
        estimator = fit(cls)
        estimator.save_parameters(tmp_path)
        loaded = cls.load_parameters(tmp_path)
        assert_same_parameters(estimator, loaded)
        assert not hasattr(loaded, "means_")

    def test_attributes_alone(self, cls, tmp_path):
        estimator = fit(cls)
        estimator.save_attributes(tmp_path)
        loaded = clone(estimator)
        loaded.load_attributes(tmp_path)
        assert_same_fit(estimator, loaded)

    def test_one_after_the_other_is_the_whole(self, cls, tmp_path):
        estimator = fit(cls)
        estimator.save_parameters(tmp_path)
        estimator.save_attributes(tmp_path)
        assert_same_fit(estimator, cls.load(tmp_path))

    def test_parameters_of_a_fitted_model(self, cls, tmp_path):
        estimator = fit(cls)
        estimator.save(tmp_path)
        loaded = cls.load_parameters(tmp_path)
        assert not hasattr(loaded, "means_")
        loaded.load_attributes(tmp_path)
        assert_same_fit(estimator, loaded)

    def test_changed_parameters_keep_the_attributes(self, cls, tmp_path):
        estimator = fit(cls)
        estimator.save(tmp_path)
        clone(estimator).set_params(batch_size=10).save_parameters(tmp_path)
        loaded = cls.load(tmp_path)
        assert loaded.batch_size == 10
        assert_same_fit(estimator, loaded)

    def test_loaded_attributes_replace_all_earlier_ones(self, cls, tmp_path):
        fit(cls, TensorDataset(torch.tensor(X))).save(tmp_path)
        estimator = fit(cls, pd.DataFrame(X, columns=["a", "b"]))
        estimator.load_attributes(tmp_path)
        assert not hasattr(estimator, "labels_")
        assert not hasattr(estimator, "feature_names_in_")

    def test_attributes_that_cannot_be_loaded_change_nothing(self, cls, tmp_path):
        fit(cls, covariance_type="full").save(tmp_path)
        estimator = fit(cls, covariance_type="diag")
        before = estimator.means_
        with pytest.raises(ValueError, match="covariance_type='diag'"):
            estimator.load_attributes(tmp_path)
        assert estimator.means_ is before

    def test_attributes_of_another_number_of_components(self, cls, tmp_path):
        fit(cls).save(tmp_path)
        estimator = fit(cls, n_components=2)
        before = estimator.means_
        with pytest.raises(ValueError, match=r"holds 3 components, .* has 2: .*n_clusters=3"):
            estimator.load_attributes(tmp_path)
        assert estimator.means_ is before
        estimator.set_params(n_clusters=3).load_attributes(tmp_path)
        assert len(estimator.means_) == 3

    def test_unfitted_has_no_attributes(self, cls, tmp_path):
        with pytest.raises(NotFittedError):
            make(cls).save_attributes(tmp_path / "model")
        assert names_in(tmp_path) == []
        make(cls).save(tmp_path)
        with pytest.raises(FileNotFoundError, match=r"saved before the fit.*model\.safetensors"):
            make(cls).load_attributes(tmp_path)

    def test_attributes_alone_have_no_parameters(self, cls, tmp_path):
        fit(cls).save_attributes(tmp_path)
        for load in (cls.load, cls.load_parameters):
            with pytest.raises(FileNotFoundError, match=r"no parameters.*model\.safetensors"):
                load(tmp_path)

    def test_persistent_attributes_are_what_is_saved(self, cls, tmp_path):
        estimator = fit(cls, pd.DataFrame(X, columns=["a", "b"]))
        estimator.save(tmp_path)
        _, document = read_tensors(tmp_path / "model.safetensors")
        assert sorted(document["attributes"]) == sorted(estimator.persistent_attributes)
        assert make(cls).persistent_attributes == estimator.persistent_attributes
        fitted = set(vars(estimator)) - set(estimator.get_params())
        assert fitted == set(estimator.persistent_attributes)


class Callback:
    pass


@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
class TestRefusals:
    @pytest.mark.parametrize(
        ("parameters", "name"),
        [
            (
                {"trainer_params": {"callbacks": [Callback()]}},
                r"trainer_params\['callbacks'\]\[0\]",
            ),
            ({"trainer_params": {"logger": Callback()}}, r"trainer_params\['logger'\]"),
            ({"random_state": np.random.RandomState(np.random.PCG64(0))}, "random_state"),
            ({"batch_size": Callback()}, "batch_size"),
        ],
    )
    def test_parameter_is_named_and_nothing_written(self, cls, parameters, name, tmp_path):
        estimator = fit(cls).set_params(**parameters)
        for save in (estimator.save, estimator.save_parameters):
            with pytest.raises(UnstorableParameterError, match=f"^{name} is a "):
                save(tmp_path / "model")
        assert names_in(tmp_path) == []

    def test_refusal_leaves_the_model_that_is_there(self, cls, tmp_path):
        estimator = fit(cls)
        estimator.save(tmp_path)
        with pytest.raises(UnstorableParameterError):
            clone(estimator).set_params(trainer_params={"logger": Callback()}).save(tmp_path)
        assert_same_fit(estimator, cls.load(tmp_path))

    def test_attributes_of_another_covariance_type(self, cls, tmp_path):
        estimator = fit(cls, covariance_type="full").set_params(covariance_type="diag")
        with pytest.raises(ValueError, match=r"covariances_ of shape \(3, 2, 2\).*'diag' requires"):
            estimator.save(tmp_path / "model")
        assert names_in(tmp_path) == []

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("means_", np.zeros(3)),
            ("means_", np.zeros((0, 2))),
            ("means_", None),
            ("weights_", np.zeros(K, dtype=np.float32)),
            ("weights_", [0.5, 0.5]),
            ("labels_", np.zeros(4)),
            ("n_features_in_", 7),
            ("n_features_in_", np.array([2, 2])),
            ("converged_", 3),
            ("lower_bounds_", 0.5),
        ],
    )
    def test_attributes_that_do_not_belong_together(self, cls, name, value, tmp_path):
        estimator = fit(cls)
        setattr(estimator, name, value)
        with pytest.raises(ValueError, match=r"The estimator (has|names)"):
            estimator.save(tmp_path / "model")
        assert names_in(tmp_path) == []

    def test_path_of_a_file(self, cls, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(NotADirectoryError, match="file"):
            make(cls).save(tmp_path / "file")
        with pytest.raises(NotADirectoryError, match="file"):
            cls.load(tmp_path / "file")

    def test_other_class(self, cls, tmp_path):
        other = MIXTURE_CLASSES[1 - MIXTURE_CLASSES.index(cls)]
        fit(cls).save(tmp_path)
        with pytest.raises(ValueError, match="load it with its own class"):
            other.load(tmp_path)
        with pytest.raises(ValueError, match="load it with its own class"):
            make(other).load_attributes(tmp_path)

    def test_subclass_is_another_class(self, cls, tmp_path):
        subclass = type("Special", (cls,), {})
        make(cls).save(tmp_path)
        with pytest.raises(ValueError, match="load it with its own class"):
            subclass.load(tmp_path)


def test_a_module_that_a_program_has_set_is_not_saved(tmp_path):
    class Own(mixture.GaussianMixture):
        def __init__(self, n_components=1, *, random_state=None):
            super().__init__(n_components, random_state=random_state)
            self.model_ = "mine"

    fitted = Own(K, random_state=0).fit(X)
    fitted.save(tmp_path)
    loaded = mixture.GaussianMixture(K).load_attributes
    with pytest.raises(ValueError, match="Own"):
        loaded(tmp_path)
    np.testing.assert_array_equal(Own.load(tmp_path).predict_proba(X), fitted.predict_proba(X))


def test_the_module_cannot_be_set():
    fitted = fit(GaussianMixture)
    with pytest.raises(AttributeError, match="model_"):
        fitted.model_ = fitted.model_

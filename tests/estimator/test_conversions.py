"""From scikit-learn's class and back to it."""

import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import BayesianGaussianMixture
from sklearn.mixture import GaussianMixture as Theirs

from tests.estimator.test_from_parameters import COVARIANCES, MEANS, WEIGHTS, known
from tests.estimators import MIXTURE_CLASSES, TYPES, DropIn, TorchMixture, make

each_class = pytest.mark.parametrize("cls", MIXTURE_CLASSES, ids=["documented", "drop-in"])
each_type = pytest.mark.parametrize("covariance_type", TYPES)


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return MEANS[rng.integers(3, size=120)] + rng.standard_normal((120, 2))


@each_class
@each_type
def test_from_scikit_learn(X, cls, covariance_type):
    theirs = Theirs(3, covariance_type=covariance_type, random_state=0, tol=1e-4, n_init=2).fit(X)
    ours = cls.from_sklearn(theirs)
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), rtol=1e-9)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-9)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    for criterion in ("score", "bic", "aic"):
        assert getattr(ours, criterion)(X) == pytest.approx(getattr(theirs, criterion)(X))
    sample = ours.sample(50)
    np.testing.assert_allclose(
        sample[0] if cls is DropIn else sample, theirs.sample(50)[0], rtol=1e-9, atol=1e-9
    )
    for name in ("converged_", "n_iter_", "lower_bound_", "lower_bounds_", "n_features_in_"):
        assert getattr(ours, name) == getattr(theirs, name)
    # Nothing is shared.
    before = ours.means_.copy()
    theirs.means_ += 1.0
    np.testing.assert_array_equal(ours.means_, before)


@each_class
@each_type
def test_to_scikit_learn(X, cls, covariance_type):
    ours = make(cls, 3, covariance_type=covariance_type, random_state=0).fit(X)
    theirs = ours.to_sklearn()
    assert type(theirs) is Theirs
    np.testing.assert_allclose(theirs.score_samples(X), ours.score_samples(X), rtol=1e-9)
    np.testing.assert_allclose(theirs.predict_proba(X), ours.predict_proba(X), atol=1e-9)
    np.testing.assert_array_equal(theirs.predict(X), ours.predict(X))
    np.testing.assert_array_equal(theirs.precisions_, ours.precisions_)
    assert theirs.bic(X) == pytest.approx(ours.bic(X))
    sample = ours.sample(50)
    np.testing.assert_allclose(
        theirs.sample(50)[0], sample[0] if cls is DropIn else sample, rtol=1e-9, atol=1e-9
    )
    before = theirs.means_.copy()
    ours.means_ += 1.0
    np.testing.assert_array_equal(theirs.means_, before)
    # Every parameter is one that scikit-learn takes.
    clone(theirs).fit(X)


@each_class
@each_type
def test_there_and_back_is_the_same(X, cls, covariance_type):
    ours = make(cls, 3, covariance_type=covariance_type, random_state=0).fit(X)
    back = cls.from_sklearn(ours.to_sklearn())
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_", "lower_bounds_"):
        np.testing.assert_array_equal(getattr(back, name), getattr(ours, name))


def test_the_drop_in_class_hands_all_parameters_on(X):
    params = {
        "n_components": 3, "covariance_type": "diag", "tol": 1e-4, "reg_covar": 1e-5,
        "max_iter": 77, "n_init": 2, "init_params": "k-means++", "weights_init": WEIGHTS,
        "means_init": MEANS, "precisions_init": np.ones((3, 2)), "random_state": 5,
        "warm_start": True, "verbose": 0, "verbose_interval": 3,
    }  # fmt: skip
    assert DropIn.from_sklearn(Theirs(**params).fit(X)).get_params() == {
        **params, "batch_size": None, "num_workers": 0, "trainer_params": None, "fixed": (),
        "acceleration": None,
        "missing": "error",
    }  # fmt: skip
    ours = DropIn(**params, batch_size=50, fixed=("means",), acceleration="squarem")
    assert ours.fit(X).to_sklearn().get_params() == params


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("kmeans", "kmeans"), ("k-means++", "kmeans++"), ("random", "random")],
)
def test_the_documented_class_translates_its_parameters(X, theirs, ours):
    shared = {"covariance_type": "diag", "random_state": 5}
    their_mixture = Theirs(
        3, tol=1e-2, reg_covar=1e-5, max_iter=77, n_init=2, init_params=theirs, **shared
    )
    our_mixture = TorchMixture(
        3,
        convergence_tolerance=1e-2,
        covariance_regularization=1e-5,
        trainer_params={"max_epochs": 77},
        num_init=2,
        init_strategy=ours,
        **shared,
    )
    assert TorchMixture.from_sklearn(their_mixture.fit(X)).get_params() == our_mixture.get_params()
    assert our_mixture.fit(X).to_sklearn().get_params() == their_mixture.get_params()


def test_starts_without_a_name_on_the_other_side(X):
    from_rows = Theirs(3, init_params="random_from_data", random_state=0, tol=1e-2).fit(X)
    assert TorchMixture.from_sklearn(from_rows).init_strategy == "kmeans"
    for cls in MIXTURE_CLASSES:
        mixture = make(cls, 3, start=lambda X, k, random_state: MEANS).fit(X)
        assert mixture.to_sklearn().init_params == "kmeans"


@pytest.mark.parametrize("max_epochs", [-1, None])
def test_no_limit_has_no_name_on_the_other_side(X, max_epochs):
    mixture = TorchMixture(2, trainer_params={"max_epochs": max_epochs}, random_state=0).fit(X)
    theirs = mixture.to_sklearn()
    assert theirs.max_iter == Theirs().max_iter
    # What it refuses it says there.
    theirs.fit(X)


@each_class
def test_a_mixture_of_scikit_learn_can_be_refitted(X, cls):
    ours = cls.from_sklearn(Theirs(3, random_state=0).fit(X[:50]))
    expected = Theirs(3, random_state=0).fit(X)
    ours.fit(X)
    assert ours.n_iter_ == expected.n_iter_
    np.testing.assert_allclose(ours.means_, expected.means_, rtol=1e-8)
    ours.partial_fit(X)


def test_a_warm_start_goes_on_where_scikit_learn_ended(X):
    theirs = Theirs(3, random_state=0, max_iter=2, tol=0.0, warm_start=True)
    with pytest.warns(ConvergenceWarning):
        theirs.fit(X)
    ours = DropIn.from_sklearn(theirs)
    for mixture in (theirs, ours):
        with pytest.warns(ConvergenceWarning):
            mixture.fit(X)
    np.testing.assert_allclose(ours.means_, theirs.means_, rtol=1e-10)


@each_class
@each_type
def test_float32_stays_float32(X, cls, covariance_type):
    X = X.astype(np.float32)
    theirs = Theirs(3, covariance_type=covariance_type, random_state=0).fit(X)
    ours = cls.from_sklearn(theirs)
    back = ours.to_sklearn()
    for mixture in (ours, back):
        assert mixture.means_.dtype == mixture.precisions_.dtype == np.float32
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), rtol=1e-5)
    np.testing.assert_array_equal(back.score_samples(X), theirs.score_samples(X))


def test_feature_names_go_along(X):
    frame = pd.DataFrame(X, columns=["a", "b"])
    ours = DropIn.from_sklearn(Theirs(3, random_state=0).fit(frame))
    assert ours.feature_names_in_.tolist() == ["a", "b"]
    assert ours.to_sklearn().feature_names_in_.tolist() == ["a", "b"]
    ours.predict(frame)


@each_class
def test_what_is_not_fitted_has_nothing_to_convert(cls):
    with pytest.raises(NotFittedError):
        cls().to_sklearn()
    with pytest.raises(NotFittedError):
        cls.from_sklearn(Theirs())


@each_class
def test_a_fit_that_failed_is_not_fitted(X, cls):
    theirs = Theirs(
        3, weights_init=WEIGHTS, means_init=MEANS, precisions_init=COVARIANCES["full"], max_iter=0
    )
    # scikit-learn has no covariances then, and stumbles over it.
    with pytest.raises(AttributeError, match="covariances_"):
        theirs.fit(X)
    with pytest.raises(NotFittedError):
        cls.from_sklearn(theirs)
    ours = make(cls, 3, covariance_type="full", regularization=0.0, start="random")
    with pytest.raises(ValueError, match="ill-defined"):
        ours.fit(np.ones((10, 2)))
    for method in (ours.to_sklearn, lambda: ours.predict(X)):
        with pytest.raises(NotFittedError):
            method()


@each_class
@pytest.mark.parametrize(
    "other", [None, BayesianGaussianMixture(), TorchMixture(), Theirs], ids=repr
)
def test_other_classes_are_refused(cls, other):
    with pytest.raises(TypeError, match=r"takes a fitted sklearn.mixture.GaussianMixture, got a"):
        cls.from_sklearn(other)


@each_class
def test_the_drop_in_is_one_of_scikit_learns(cls):
    with pytest.raises(NotFittedError):
        cls.from_sklearn(DropIn())
    mixture = DropIn(2, random_state=0).fit(np.arange(20.0).reshape(10, 2))
    np.testing.assert_array_equal(cls.from_sklearn(mixture).means_, mixture.means_)


# -- where torch is not installed, and beyond -----------------------------------------------------


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_what_scikit_learn_gets_works_without_torch(X, tmp_path, protocol):
    mixtures = [
        make(cls, 3, covariance_type=covariance_type, random_state=0).fit(torch.tensor(X))
        for cls in MIXTURE_CLASSES
        for covariance_type in TYPES
    ]
    # Parameters that are tensors, or that only this package has.
    mixtures.append(DropIn(3, means_init=torch.tensor(MEANS), batch_size=32).fit(X))
    mixtures.append(TorchMixture(3, init_means=torch.tensor(MEANS)).fit(X))
    mixtures.append(known(TorchMixture, "full"))
    converted = [(m.to_sklearn(), np.asarray(m.predict(X))) for m in mixtures]
    (tmp_path / "mixtures.pickle").write_bytes(pickle.dumps((X, converted), protocol))
    program = f"""
        import pickle, sys
        from pathlib import Path

        class NotInstalled:
            def find_spec(self, name, path=None, target=None):
                if name in ("torch", "pytorch_lightning", "sklearn_torch_gmm"):
                    raise ModuleNotFoundError(name)

        sys.meta_path.insert(0, NotInstalled())
        X, mixtures = pickle.loads(Path({str(tmp_path / "mixtures.pickle")!r}).read_bytes())
        for mixture, labels in mixtures:
            assert (mixture.predict(X) == labels).all()
            mixture.score(X), mixture.sample(3), repr(mixture)
        try:
            import torch
        except ModuleNotFoundError:
            print(len(mixtures))
    """
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert result.stdout.strip() == str(len(mixtures)), result.stderr


@each_class
@each_type
def test_onnx(X, cls, covariance_type):
    skl2onnx = pytest.importorskip("skl2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    ours = make(cls, 3, covariance_type=covariance_type, random_state=0).fit(X)
    theirs = ours.to_sklearn()
    rows = X.astype(np.float32)
    graph = skl2onnx.to_onnx(theirs, rows[:1], options={id(theirs): {"score_samples": True}})
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    outputs = dict(
        zip([o.name for o in session.get_outputs()], session.run(None, {"X": rows}), strict=True)
    )
    np.testing.assert_array_equal(outputs["label"].ravel(), ours.predict(rows))
    np.testing.assert_allclose(outputs["probabilities"], ours.predict_proba(rows), atol=1e-4)
    np.testing.assert_allclose(
        outputs["score_samples"].ravel(), ours.score_samples(rows), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
def test_subclasses_may_have_parameters_of_their_own(X, cls):
    class OfTheirs(Theirs):
        def __init__(self, n_components=1, extra=1):
            super().__init__(n_components)
            self.extra = extra

    class Ours(DropIn):
        def __init__(self, n_components=1, extra=1):
            super().__init__(n_components)
            self.extra = extra

    theirs = OfTheirs(2).fit(X)
    np.testing.assert_array_equal(cls.from_sklearn(theirs).means_, theirs.means_)
    ours = Ours(2).fit(X)
    np.testing.assert_array_equal(ours.to_sklearn().means_, ours.means_)


@each_class
def test_attributes_that_are_tensors_become_arrays(X, cls, tmp_path):
    """scikit-learn fits tensors where it is told to dispatch to their library."""
    theirs = Theirs(2, random_state=0).fit(X)
    expected = cls.from_sklearn(theirs)
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        setattr(theirs, name, torch.tensor(getattr(theirs, name)))
    ours = cls.from_sklearn(theirs)
    np.testing.assert_array_equal(ours.precisions_, expected.precisions_)
    ours.save(tmp_path / "mixture")
    np.testing.assert_array_equal(ours.partial_fit(X).means_, expected.partial_fit(X).means_)


def test_float32_weights_draw_what_scikit_learn_draws():
    """Where their sum in float64 is one only up to rounding."""
    weights = np.random.default_rng(0).dirichlet(np.ones(7), 40).astype(np.float32)
    differs = [sum(one[:-1].astype(float)) + float(one[-1]) != 1.0 for one in weights]
    assert sum(differs) > 20
    for seed, own in enumerate(weights):
        mixture = DropIn(7, covariance_type="spherical", random_state=seed)
        mixture.fit(np.arange(14.0, dtype=np.float32)[:, None])
        mixture.weights_ = own
        labels = [one.sample(5000)[1] for one in (mixture, mixture.to_sklearn())]
        np.testing.assert_array_equal(*labels)


@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
def test_an_own_mixture_is_converted_with_all_it_knows(cls):
    X = np.random.default_rng(0).normal(size=(100, 2))
    source = DropIn(1, reg_covar=0.5, fixed=("covariances",), precisions_init=[np.eye(2)]).fit(X)
    found = cls.from_sklearn(source)
    assert found.regularization_.tolist() == [0.0]
    assert found.known_parts_ == ["covariances"]
    assert found.n_samples_seen_ == 100
    assert found.bic(X) == pytest.approx(source.bic(X))
    assert not hasattr(source.to_sklearn(), "regularization_")

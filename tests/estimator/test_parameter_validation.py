"""Values that a parameter cannot have: an error that names it, and an estimator as it was."""

import inspect
import re
from numbers import Integral

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn import config_context
from sklearn.base import is_classifier
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    generate_invalid_param_val,
    make_constraint,
)

from sklearn_torch_gmm import (
    GaussianMixture as TorchMixture,
)
from sklearn_torch_gmm import (
    GaussianMixtureClassifier,
    GaussianMixtureIC,
    GaussianMixtureModel,
    GaussianMixtureModelConfig,
)
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn

MIXTURES = [TorchMixture, DropIn, GaussianMixtureIC]
ESTIMATORS = [*MIXTURES, GaussianMixtureClassifier]
CLASSES = np.arange(60) % 2
"""Of the rows; only the classifier looks at them."""
NAN = float("nan")
EYE = np.eye(2)

every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def X(rng):
    return np.vstack([rng.normal(size=(30, 2)), rng.normal(size=(30, 2)) + 5.0])


def make(estimator, **params):
    sizes = {"max_components": 2} if estimator is GaussianMixtureIC else {}
    return estimator(**{"random_state": 0, **sizes, **params})


def assert_refused(estimator, X, params, message, error=(ValueError, TypeError)):
    """By a fit, which leaves an estimator that was fitted before as it was."""
    mixture = make(estimator).fit(X, CLASSES).set_params(**params)
    before = dict(vars(mixture))
    with pytest.raises(error, match=message):
        mixture.fit(X, CLASSES)
    assert vars(mixture) == before


def numbers_of(kind=None):
    """Every parameter that is a number, with its estimator."""
    for estimator in ESTIMATORS:
        for name, (first, *_) in estimator._parameter_constraints.items():
            if isinstance(first, Interval) and kind in (None, first.type is Integral):
                yield estimator, name


# -- by declaration -------------------------------------------------------------------------------


@every_estimator
def test_every_parameter_declares_what_it_may_be(estimator):
    assert set(estimator._parameter_constraints) == set(estimator().get_params())


def undeclared():
    for estimator in ESTIMATORS:
        for name, declared in estimator._parameter_constraints.items():
            constraints = [make_constraint(constraint) for constraint in declared]
            values = [object()]
            for constraint in constraints:
                try:
                    values.append(generate_invalid_param_val(constraint))
                except NotImplementedError:
                    continue
            for value in values:
                if not any(constraint.is_satisfied_by(value) for constraint in constraints):
                    yield pytest.param(estimator, name, value, id=f"{estimator.__name__}-{name}")


@pytest.mark.parametrize(("estimator", "name", "value"), list(undeclared()))
def test_other_values_are_refused(X, estimator, name, value):
    message = rf"The '{name}' parameter of {estimator.__name__} must be .* Got .* instead"
    assert_refused(estimator, X, {name: value}, message, InvalidParameterError)


@pytest.mark.parametrize(
    "value", [2.0, "2", NAN, np.array(2), np.array([2]), torch.tensor(2), -1], ids=repr
)
@pytest.mark.parametrize(("estimator", "name"), list(numbers_of(kind=True)))
def test_whole_numbers(X, estimator, name, value):
    message = rf"The '{name}' parameter .* must be an int.* Got {re.escape(repr(value))} instead"
    assert_refused(estimator, X, {name: value}, message, InvalidParameterError)


@pytest.mark.parametrize(
    "value", [NAN, np.inf, -np.inf, -1e-12, "1", 1j, np.array(0.1), torch.tensor(0.1)], ids=repr
)
@pytest.mark.parametrize(("estimator", "name"), list(numbers_of(kind=False)))
def test_real_numbers(X, estimator, name, value):
    message = rf"The '{name}' parameter .* must be a float.* Got {re.escape(repr(value))} instead"
    assert_refused(estimator, X, {name: value}, message, InvalidParameterError)


@pytest.mark.parametrize(
    ("estimator", "name"),
    [pair for pair in numbers_of() if pair[0] is TorchMixture]
    + [(DropIn, name) for name in ("n_components", "batch_size", "num_workers")]
    + [(GaussianMixtureIC, name) for name in ("min_components", "max_components", "batch_size")]
    + [(GaussianMixtureClassifier, name) for name in ("n_components_per_class", "batch_size")],
)
def test_truth_values_are_no_numbers(X, estimator, name):
    """The drop-in class treats them as 0 and 1 where scikit-learn does."""
    message = rf"The '{name}' parameter .* Got True instead"
    assert_refused(estimator, X, {name: True}, message, InvalidParameterError)


@pytest.mark.parametrize(("estimator", "name"), list(numbers_of()))
def test_numbers_of_numpy_are_numbers(X, estimator, name):
    declared = estimator._parameter_constraints[name][0]
    number, kinds = 2, [np.int32, np.int64, np.uint8]
    if declared.type is not Integral:
        number, kinds = 0.25, [np.float16, np.float32, np.float64]
    expected = make(estimator, **{name: number}).fit(X, CLASSES).score_samples(X)
    for kind in kinds:
        actual = make(estimator, **{name: kind(number)}).fit(X, CLASSES).score_samples(X)
        np.testing.assert_array_equal(actual, expected)


# -- by hand --------------------------------------------------------------------------------------

BOTH = [TorchMixture, DropIn]


@pytest.mark.parametrize(
    ("estimators", "params", "message"),
    [
        (ESTIMATORS, {"random_state": 2.5}, "'random_state' parameter .* Got 2.5"),
        (ESTIMATORS, {"random_state": 2**40}, "'random_state' parameter"),
        (ESTIMATORS, {"random_state": np.random.default_rng(0)}, "'random_state' parameter"),
        (BOTH, {"covariance_type": ["full"]}, r"'covariance_type' .* Got \['full'\]"),
        (BOTH, {"fixed": "means"}, "'fixed' parameter .* Got 'means'"),
        (BOTH, {"fixed": ("mean",)}, "'fixed' must name .*'means'.* got 'mean'"),
        (BOTH, {"fixed": (["means"],)}, r"'fixed' must name .* got \['means'\]"),
        (BOTH, {"trainer_params": {3: 4}}, "trainer_params holds 3"),
        ([TorchMixture], {"init_strategy": []}, "init_strategy must .* 0 sample"),
        ([TorchMixture], {"init_strategy": [["a"]] * 60}, "init_strategy must .* 'a'"),
        ([TorchMixture], {"init_strategy": np.zeros((60, 1, 1))}, r"got shape \(60, 1, 1\)"),
        ([TorchMixture], {"init_strategy": lambda *_: NAN}, "callable init.* must return finite"),
        ([TorchMixture], {"init_means": [1.0, 2.0]}, r"init_means must .* \(1, 2\), got \(2,\)"),
        ([TorchMixture], {"init_means": np.zeros((1, 2, 1))}, r"init_means must .*\(1, 2, 1\)"),
        ([TorchMixture], {"init_means": np.array(3.0)}, r"init_means must .*scalar `array\(3\.\)`"),
        ([TorchMixture], {"init_means": [[np.inf, 0.0]]}, "init_means contains infinity"),
        ([TorchMixture], {"init_means": [["a", "b"]]}, "init_means must be .* real numbers: .*'a'"),
        (
            [TorchMixture],
            {"init_means": [[1j, 2.0]]},
            "init_means must be .* numbers.*complex",
        ),
        ([TorchMixture], {"init_means": [[1.0], [2.0, 3.0]]}, "init_means must be .* real numbers"),
        ([DropIn], {"init_params": []}, "init_params must .* 0 sample"),
        ([DropIn], {"weights_init": ["a"]}, "weights must be .* real numbers: .*'a'"),
        ([DropIn], {"weights_init": np.array(1.0)}, r"weights must .*scalar `array\(1\.\)`"),
        ([DropIn], {"means_init": [[1j, 2.0]]}, "means must be .* real numbers.*complex"),
        ([DropIn], {"means_init": np.zeros((1, 2, 1))}, "means must be .*dim 3"),
        ([DropIn], {"precisions_init": [[[1.0, 0.5], [0.4, 1.0]]]}, "should be symmetric"),
        ([DropIn], {"precisions_init": [[[1.0, 2.0], [2.0, 1.0]]]}, "positive-definite"),
        ([DropIn], {"precisions_init": [EYE * 1j]}, "full precision must be .*Complex data"),
        ([DropIn], {"warm_start": 1}, "'warm_start' parameter .* Got 1"),
        ([DropIn], {"trainer_params": {"max_epochs": 3}}, "use only max_iter"),
        ([GaussianMixtureIC], {"covariance_type": []}, r"covariance_type must .* got \[\]"),
        ([GaussianMixtureIC], {"covariance_type": [["full"]]}, "covariance_type must hold some of"),
        ([GaussianMixtureIC], {"criterion": ["bic"]}, r"'criterion' parameter .* Got \['bic'\]"),
        ([GaussianMixtureIC], {"stability": 1}, "'stability' parameter .* Got 1"),
        ([GaussianMixtureIC], {"criterion": "cv", "cv": 1}, "'cv' parameter .* Got 1"),
        ([GaussianMixtureIC], {"criterion": "cv", "cv": 61}, "n_splits=61 greater than"),
        ([GaussianMixtureIC], {"criterion": "cv", "cv": []}, r"cv must be .* got \[\]"),
        ([GaussianMixtureIC], {"criterion": "cv", "cv": [(1,)]}, "cv must be a number of folds"),
        ([GaussianMixtureIC], {"criterion": "cv", "cv": [("a", "b")]}, "cv must be a number of"),
        ([GaussianMixtureIC], {"criterion": "cv", "cv": [([0, 1], [])]}, "cv must be a number of"),
        ([GaussianMixtureIC], {"criterion": "cv", "cv": [([0], [60])]}, "of the 60 samples"),
        ([GaussianMixtureIC], {"criterion": "cv", "cv": [([0], [1], [2])]}, "cv must be a number"),
    ],
)
def test_what_no_declaration_says(X, estimators, params, message):
    for estimator in estimators:
        assert_refused(estimator, X, params, message)


@every_estimator
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"max_epoch": 3}, "holds 'max_epoch', which .* does not know. It takes: accelerator, "),
        ({None: 1, "b": 2}, "holds 'b', None, which .* does not know"),
        ({"accelerator": "quantum"}, "'quantum'.* Available names are"),
        ({"accelerator": 3}, "accelerator=3"),
        ({"devices": 0}, "refuses trainer_params={'devices': 0}: "),
        ({"devices": -3}, "refuses trainer_params={'devices': -3}: .* an int > 0"),
        ({"devices": 2.5}, r"devices=2.5, .*int"),
        ({"precision": "17"}, "precision must be '64-true' or '32-true' for EM, got '17'"),
        ({"precision": [32]}, r"precision must be .* got \[32\]"),
        ({"strategy": "no"}, "invalid strategy name: `strategy='no'`"),
        ({"callbacks": 3}, r"callbacks=3, .*Callback"),
        ({"callbacks": [3]}, r"callbacks=\[3\], .*Callback"),
        ({"logger": 3}, r"logger=3, .*Logger"),
        ({"limit_train_batches": "a"}, "limit_train_batches='a', .*int"),
        ({"limit_train_batches": 0.5}, "refuses trainer_params: .*`limit_train_batches`"),
        ({"log_every_n_steps": "a"}, "log_every_n_steps='a', .*int"),
        ({"enable_progress_bar": "no"}, "enable_progress_bar='no', .*bool"),
        ({"benchmark": "z"}, "benchmark='z', .*bool"),
        ({"default_root_dir": 3}, "default_root_dir=3, .*Path"),
        ({"max_time": "x"}, "'x'.* not a valid duration"),
        ({"gradient_clip_val": 3.0}, "gradient_clip_val=3.0"),
        ({"accumulate_grad_batches": 2}, "accumulate_grad_batches=2"),
    ],
)
def test_trainer_params(X, estimator, params, message):
    assert_refused(estimator, X, {"trainer_params": params}, message)


@pytest.mark.parametrize("value", [-5, 2.5, "many", NAN, True, np.array(3)], ids=repr)
def test_max_epochs(X, value):
    message = rf"max_epochs in trainer_params must be .* got {re.escape(repr(value))}"
    assert_refused(TorchMixture, X, {"trainer_params": {"max_epochs": value}}, message)


def test_paths_of_any_kind_are_taken(tmp_path):
    class Place:
        def __fspath__(self):
            return str(tmp_path)

    trainer = TorchMixture(trainer_params={"default_root_dir": Place()}).trainer()
    assert trainer.default_root_dir == str(tmp_path)


@pytest.mark.parametrize("params", [{"devices": 0}, {"max_epochs": -5}], ids=repr)
def test_the_trainer_says_what_it_refuses(params):
    with pytest.raises(ValueError, match="refuses trainer_params"):
        TorchMixture().trainer(**params)
    with pytest.raises(InvalidParameterError, match="'trainer_params' parameter"):
        TorchMixture(trainer_params=3).trainer()


# -- what methods take ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, -1, 2.5, "a", None, NAN, np.inf, [3], np.array(3)], ids=repr)
def test_sizes_of_samples(X, value):
    for estimator in MIXTURES:
        is_documented = estimator is TorchMixture
        message = "num_datapoints must be an int" if is_documented else "Invalid value for 'n_sam"
        with pytest.raises(ValueError, match=rf"{message}.*{re.escape(repr(value))}"):
            make(estimator).fit(X).sample(value)
    model = GaussianMixtureModel(GaussianMixtureModelConfig(2, 1))
    with pytest.raises(ValueError, match=rf"num_datapoints .* got {re.escape(repr(value))}"):
        model.sample(value)


def test_sizes_of_samples_from_numpy(X):
    assert make(TorchMixture).fit(X).sample(np.int32(3)).shape == (3, 2)
    # As scikit-learn does: len(X) / 2 is no int.
    assert make(DropIn).fit(X).sample(3.0)[0].shape == (3, 2)


@pytest.mark.parametrize("name", ["num_components", "num_features"])
@pytest.mark.parametrize("value", [0, 2.0, "2", None, True], ids=repr)
def test_sizes_of_a_module(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be an integer.* got {value!r}"):
        GaussianMixtureModelConfig(**{"num_components": 1, "num_features": 1, name: value})
    config = GaussianMixtureModelConfig(np.int64(2), np.int32(3))
    assert [type(n) for n in (config.num_components, config.num_features)] == [int, int]


@pytest.mark.parametrize("value", ["full ", None, ["full"]], ids=repr)
def test_covariance_types_of_a_module(value):
    with pytest.raises(ValueError, match=rf"Unknown covariance type {re.escape(repr(value))}"):
        GaussianMixtureModelConfig(1, 1, value)


@pytest.mark.parametrize("value", [0.5, 1.1, NAN, "a", None, [0.7], 1j, True], ids=repr)
def test_step_exponents(X, value):
    mixture = make(TorchMixture).fit(X)
    before = dict(vars(mixture))
    with pytest.raises(ValueError, match=rf"step_exponent must .*got {re.escape(repr(value))}"):
        mixture.partial_fit(X, step_exponent=value)
    assert vars(mixture) == before


@every_estimator
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0] * 59, r"sample_weight.shape == \(59,\), expected \(60,\)"),
        ([[1.0]] * 60, r"sample_weight.shape == \(60, 1\)"),
        ("heavy", r"sample_weight.shape == \(\)"),
        (["a"] * 60, "sample_weight must be an array of real numbers: .*'a'"),
        ([1j] * 60, "sample_weight must be an array of real numbers: .*complex"),
        ([[1.0, 2.0]] + [1.0] * 59, "sample_weight must be an array of real numbers"),
        ([-1.0] * 60, "Negative values in data passed to `sample_weight`"),
        ([NAN] * 60, "Input sample_weight contains NaN"),
        ([0.0] * 60, "sample_weight is zero for all samples"),
        (True, "sample_weight=True says"),
    ],
)
def test_weights(X, estimator, weights, message):
    mixture = make(estimator).fit(X, CLASSES)
    before = dict(vars(mixture))
    # A classifier's score is scikit-learn's.
    methods = ["fit", "partial_fit"] if is_classifier(mixture) else ["fit", "score", "partial_fit"]
    for method in methods:
        if hasattr(mixture, method):
            with pytest.raises((ValueError, TypeError), match=message):
                getattr(mixture, method)(X, CLASSES, sample_weight=weights)
    if hasattr(mixture, "bic"):
        with pytest.raises((ValueError, TypeError), match=message):
            mixture.bic(X, sample_weight=weights)
    assert vars(mixture) == before


DATA = {
    "one-dimensional": (np.zeros(5), "Expected 2D array, got 1D"),
    "three-dimensional": (np.zeros((5, 2, 1)), "dim 3"),
    "empty": (np.zeros((0, 2)), "0 sample"),
    "without columns": (np.zeros((5, 0)), "0 feature"),
    "NaN": ([[NAN, 0.0]] * 5, "X contains NaN"),
    "infinity": ([[np.inf, 0.0]] * 5, "X contains infinity"),
    "complex": (np.zeros((5, 2), complex), "Complex data"),
    "strings": ([["a", "b"]] * 5, "could not convert string to float: 'a'"),
    "objects": (np.array([[None, 1.0]] * 5, dtype=object), "X contains NaN"),
    "sparse": (scipy.sparse.csr_array(np.eye(2)), "Sparse data was passed for X"),
    "nothing": (None, "Expected 2D array"),
    "sparse tensor": (torch.eye(2).to_sparse(), "X must be a dense tensor.*sparse_coo"),
    "meta tensor": (torch.zeros(5, 2, device="meta"), "X must be a dense tensor.*no values"),
    "complex tensor": (torch.zeros(5, 2, dtype=torch.complex64), "Complex data"),
}


@every_estimator
@pytest.mark.parametrize("kind", DATA)
def test_data(X, estimator, kind):
    data, message = DATA[kind]
    mixture = make(estimator).fit(X, CLASSES)
    before = dict(vars(mixture))
    for method in ["fit", "predict", "predict_proba", "score_samples", "score", "partial_fit"]:
        if hasattr(mixture, method):
            labels = [CLASSES] if method in ("fit", "score") else []
            with pytest.raises((ValueError, TypeError), match=message):
                getattr(mixture, method)(data, *labels)
    assert vars(mixture) == before


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("weights", [0.5, 0.6], r"'weights' should be normalized, .* 1\.1"),
        ("weights", [-0.5, 1.5], "'weights' should be in the range"),
        ("weights", "half", "weights must be an array of real numbers"),
        ("weights", 0.5, "weights must be an array of real numbers"),
        ("means", [0.0, 1.0], r"'means' should have the shape of \(K, D\), but got \(2,\)"),
        ("means", [["a", "b"], ["c", "d"]], "means must be an array of real numbers: .*'a'"),
        ("means", [], "means must be an array of real numbers: .*0 sample"),
        ("covariances", [EYE], r"'covariances' should have the shape of \(2, 2, 2\)"),
        ("covariances", [EYE, NAN * EYE], "covariances contains NaN"),
        ("covariances", [EYE, -EYE], "'covariances' should be symmetric, positive-definite"),
        ("covariances", [EYE, [[1, 0.1], [0, 1]]], "'covariances' should be symmetric"),
        ("covariance_type", ["full"], r"Unknown covariance type \['full'\]"),
        ("fixed", "means", "'fixed' must name .* got 'means'"),
        ("fixed", None, "'fixed' must name .* got None"),
        ("colour", 3, "'colour'"),
    ],
)
def test_given_parameters(cls, name, value, message):
    given = {"weights": [0.5, 0.5], "means": [[0.0, 0.0], [1.0, 1.0]], "covariances": [EYE, EYE]}
    with pytest.raises((ValueError, TypeError), match=message):
        cls.from_parameters(**{**given, name: value})


@pytest.mark.parametrize("load", [TorchMixture.load, DropIn.load, GaussianMixtureModel.load])
def test_paths_without_a_model(tmp_path, load):
    file = tmp_path / "notes.txt"
    file.write_text("no model")
    for path, error in [
        (tmp_path / "nowhere", FileNotFoundError),
        (tmp_path, FileNotFoundError),
        (file, (NotADirectoryError, ValueError)),
    ]:
        with pytest.raises(error, match=re.escape(str(tmp_path))):
            load(path)
    with pytest.raises(TypeError, match=r"os\.PathLike object, not int"):
        load(3)


def test_the_estimators_are_all_there_are():
    import sklearn_torch_gmm

    public = [getattr(sklearn_torch_gmm, name) for name in sklearn_torch_gmm.__all__]
    estimators = {c for c in public if inspect.isclass(c) and hasattr(c, "get_params")}
    assert estimators <= set(ESTIMATORS)


def test_a_check_of_a_subclass_is_not_remembered(X):
    class Careful(DropIn):
        is_strict = False

        def _validate_params(self):
            super()._validate_params()
            if self.is_strict:
                raise ValueError("own check")

    mixture = Careful(2).fit(X)
    mixture.is_strict = True
    with pytest.raises(ValueError, match="own check"):
        mixture.fit(X)


def test_scikit_learn_may_be_told_to_skip_the_check(X):
    with config_context(skip_parameter_validation=True):
        assert DropIn(2, tol=-1.0, max_iter=5).fit(X).n_iter_ == 5
    with pytest.raises(ValueError, match="tol"):
        DropIn(2, tol=-1.0, max_iter=5).fit(X)

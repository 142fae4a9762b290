"""The drop-in class against scikit-learn's: the same results, warnings, errors and output."""

import inspect
import os
import re
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.datasets import load_iris, make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Theirs

from sklearn_torch_gmm.mixture import GaussianMixture
from tests.parity import COVARIANCE_TYPES, STARTS, compare, data_sets, matrix, run

BOTH = (Theirs, GaussianMixture)


@pytest.fixture
def X():
    return load_iris().data


def parameters(mixture):
    names = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")
    return {name: getattr(mixture, name) for name in names}


def assert_same_parameters(ours, theirs, rtol=1e-9, atol=1e-9):
    """Features of the order of one: 1e-9 is above rounding and far below what tol leaves open."""
    for name, expected in parameters(theirs).items():
        actual = getattr(ours, name)
        assert actual.dtype == expected.dtype, name
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol, err_msg=name)


def precisions_init(covariance_type):
    return {
        "full": [np.eye(4) * scale for scale in (1.0, 2.0, 3.0)],
        "tied": np.diag([1.0, 2.0, 3.0, 4.0]) + 0.1,
        "diag": np.arange(1.0, 13.0).reshape(3, 4),
        "spherical": [1.0, 2.0, 3.0],
    }[covariance_type]


# -- the signature --------------------------------------------------------------------------------


def test_the_parameters_are_those_of_scikit_learn_and_some_more():
    theirs = inspect.signature(Theirs).parameters
    ours = inspect.signature(GaussianMixture).parameters
    assert len(theirs) == 14
    for name, (our_name, ours_has) in zip(theirs, list(ours.items())[:14], strict=True):
        assert our_name == name
        assert ours_has.default == theirs[name].default, name
        assert ours_has.kind == theirs[name].kind, name
    ours_alone = list(ours.values())[14:]
    assert {p.name: p.default for p in ours_alone} == {
        "batch_size": None,
        "num_workers": 0,
        "trainer_params": None,
        "fixed": (),
        "acceleration": None,
        "missing": "error",
    }
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in ours_alone)


@pytest.mark.parametrize(
    "method",
    [
        "fit", "fit_predict", "predict", "predict_proba", "score", "score_samples", "sample",
        "bic", "aic", "get_params", "set_params",
    ],
)  # fmt: skip
def test_a_method_takes_what_that_of_scikit_learn_takes(method):
    theirs = inspect.signature(getattr(Theirs, method)).parameters.values()
    ours = list(inspect.signature(getattr(GaussianMixture, method)).parameters.values())
    for parameter, our_parameter in zip(theirs, ours, strict=False):
        assert our_parameter.name == parameter.name
        assert our_parameter.default == parameter.default
        assert our_parameter.kind == parameter.kind


# -- the same answers -----------------------------------------------------------------------------


def test_some_fits_of_the_matrix():
    data = [d for d in data_sets() if d.name in ("iris", "overlapping blobs")]
    for case in matrix(data, seeds=[0], num_inits=[1]):
        outcome = run(case)
        assert outcome.is_same, outcome


@pytest.mark.slow
def test_the_whole_matrix():
    """At least 98% of the fits are the same; in the others, rounding chose between equal starts."""
    outcomes = [run(case) for case in matrix()]
    differing = [outcome for outcome in outcomes if not outcome.is_same]
    assert len(differing) <= 0.02 * len(outcomes)
    assert all(outcome.is_tie for outcome in differing), differing


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_everything_that_is_fitted(X, covariance_type):
    theirs, ours = (
        mixture_class(3, covariance_type=covariance_type, random_state=0).fit(X)
        for mixture_class in BOTH
    )
    assert_same_parameters(ours, theirs)
    assert ours.converged_ is True
    assert ours.n_iter_ == theirs.n_iter_ == len(ours.lower_bounds_)
    assert ours.lower_bound_ == ours.lower_bounds_[-1]
    np.testing.assert_allclose(ours.lower_bounds_, theirs.lower_bounds_, rtol=1e-10)
    np.testing.assert_array_equal(ours.labels_, theirs.predict(X))
    assert_same_answers(ours, theirs, X)


def assert_same_answers(ours, theirs, X):
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-9)
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), rtol=1e-9)
    for name in ("score", "bic", "aic"):
        assert getattr(ours, name)(X) == pytest.approx(getattr(theirs, name)(X), rel=1e-9), name
        assert isinstance(getattr(ours, name)(X), float)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize(
    "given", ["w", "m", "p", "wm", "wp", "mp", "wmp"], ids=lambda given: "+".join(given)
)
def test_parts_of_the_start_can_be_given(X, covariance_type, given):
    values = {
        "weights_init": [0.2, 0.3, 0.5],
        "means_init": X[[0, 60, 120]],
        "precisions_init": precisions_init(covariance_type),
    }
    params = {name: value for name, value in values.items() if name[0] in given}
    # Two starts: both take what is given, and draw the rest one after the other.
    params.update(n_init=2, init_params="random", random_state=0, covariance_type=covariance_type)
    theirs, ours = (mixture_class(3, **params).fit(X) for mixture_class in BOTH)
    assert ours.n_iter_ == theirs.n_iter_
    # A flat likelihood: differences of rounding may grow a thousandfold on the way.
    assert_same_parameters(ours, theirs, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_start_that_is_given_whole_is_the_start(X, covariance_type):
    """scikit-learn has no covariances then, and fails where the attribute is asked for."""
    precisions = np.asarray(precisions_init(covariance_type))
    state = np.random.RandomState(0)
    before = state.get_state()[1].copy()
    mixture = GaussianMixture(
        3,
        covariance_type=covariance_type,
        weights_init=[0.2, 0.3, 0.5],
        means_init=X[[0, 60, 120]],
        precisions_init=precisions,
        max_iter=0,
        random_state=state,
    ).fit(X)
    np.testing.assert_array_equal(mixture.weights_, [0.2, 0.3, 0.5])
    np.testing.assert_array_equal(mixture.means_, X[[0, 60, 120]])
    np.testing.assert_allclose(mixture.precisions_, precisions, rtol=1e-12, atol=1e-12)
    inverse = np.linalg.inv(precisions) if precisions.shape[-2:] == (4, 4) else 1 / precisions
    np.testing.assert_allclose(mixture.covariances_, inverse, rtol=1e-12, atol=1e-12)
    # Nothing was drawn for a start that isn't needed.
    np.testing.assert_array_equal(state.get_state()[1], before)


@pytest.mark.parametrize("init_params", STARTS)
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_without_iterations_the_start_is_the_result(X, init_params, covariance_type):
    theirs, ours = (
        mixture_class(
            3, covariance_type=covariance_type, init_params=init_params, max_iter=0, random_state=0
        ).fit(X)
        for mixture_class in BOTH
    )
    # A start on single rows has variances of 1e-6, whose rounding errors are 1e-10 of them.
    assert_same_parameters(ours, theirs, rtol=1e-8)
    assert (ours.converged_, ours.n_iter_, ours.lower_bounds_) == (False, 0, [])
    assert ours.lower_bound_ == theirs.lower_bound_ == -np.inf
    np.testing.assert_array_equal(ours.fit_predict(X), theirs.predict(X))


def test_of_several_starts_without_iterations_the_last_counts(X):
    theirs, ours = (
        mixture_class(3, init_params="random", max_iter=0, n_init=3, random_state=0).fit(X)
        for mixture_class in BOTH
    )
    assert_same_parameters(ours, theirs)


@pytest.mark.parametrize("seed", [3, np.random.RandomState(3), None], ids=["int", "state", "None"])
def test_the_random_numbers_are_drawn_as_scikit_learn_draws_them(X, seed):
    afterwards, mixtures = [], []
    for mixture_class in BOTH:
        # What `None` stands for.
        np.random.seed(5)
        own = np.random.RandomState(3) if isinstance(seed, np.random.RandomState) else seed
        mixture = mixture_class(3, init_params="random", n_init=2, random_state=own).fit(X)
        mixtures.append(mixture)
        stream = own if isinstance(own, np.random.RandomState) else np.random
        afterwards.append(stream.random_sample())
    assert compare(X, *mixtures).is_same
    assert afterwards[0] == afterwards[1]


@pytest.mark.parametrize("init_params", STARTS)
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_single_column_needs_no_regularization_where_scikit_learn_needs_none(
    init_params, covariance_type
):
    column = np.array([1.0, 2.0, 3.0, 4.0, 9.0, 10.0, 11.0, 12.0]).reshape(-1, 1)
    params = {"covariance_type": covariance_type, "init_params": init_params, "reg_covar": 0.0}
    theirs, ours = (
        mixture_class(2, random_state=0, **params).fit(column) for mixture_class in BOTH
    )
    assert ours.n_iter_ == theirs.n_iter_
    assert_same_parameters(ours, theirs)


def test_a_single_sample_far_out_has_the_covariance_that_scikit_learn_gives_it(X):
    # (10 eps 1e12)² is 4.9e-6, beside a regularization of 1e-6.
    far = np.vstack([X, [1e12, 3.0, 1.0, 0.0]])
    theirs, ours = (mixture_class(2, random_state=0).fit(far) for mixture_class in BOTH)
    alone = [mixture.covariances_[np.argmin(mixture.weights_)] for mixture in (theirs, ours)]
    # A difference of two numbers of 1e12, whose last place is 1e-4, and a tenth of it.
    np.testing.assert_allclose(alone[1], alone[0], rtol=0.2, atol=1e-12)


def test_batches_change_nothing(X):
    theirs = Theirs(3, random_state=0).fit(X)
    assert_same_parameters(GaussianMixture(3, random_state=0, batch_size=32).fit(X), theirs)


# -- going on from the last fit -------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_warm_start_goes_on(covariance_type):
    X, _ = make_blobs(300, 4, centers=3, cluster_std=4.0, random_state=0)
    theirs, ours = (
        mixture_class(
            3,
            covariance_type=covariance_type,
            warm_start=True,
            max_iter=3,
            tol=1e-4,
            n_init=2,
            init_params="random",
            random_state=0,
        )
        for mixture_class in BOTH
    )
    # Other rows in the middle, and in the end a start anew.
    for rows, changes in [
        (X, {}), (X, {}), (X[::2], {}), (X, {"max_iter": 100}), (X, {}), (X, {"max_iter": 0}),
        (X, {"warm_start": False, "max_iter": 2}),
    ]:  # fmt: skip
        theirs.set_params(**changes).fit(rows)
        ours.set_params(**changes).fit(rows)
        assert ours.n_iter_ == theirs.n_iter_
        assert ours.converged_ == theirs.converged_
        np.testing.assert_allclose(ours.lower_bounds_, theirs.lower_bounds_, rtol=1e-9)
        assert_same_parameters(ours, theirs, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    ("columns", "changes"), [(2, {}), (4, {"covariance_type": "diag"})], ids=["data", "type"]
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # scikit-learn's logarithms
def test_a_warm_start_needs_parameters_that_fit(X, columns, changes):
    for mixture_class in BOTH:
        mixture = mixture_class(3, warm_start=True, random_state=0).fit(X)
        words = (
            "mismatch|broadcast|not aligned" if mixture_class is Theirs else "Set warm_start=False"
        )
        with pytest.raises(ValueError, match=words):
            mixture.set_params(**changes).fit(X[:, :columns])


# -- what is printed and warned -------------------------------------------------------------------


@pytest.mark.parametrize("verbose", [1, 2, True])
@pytest.mark.parametrize("max_iter", [0, 4, 100])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_same_lines_are_printed(X, capsys, verbose, max_iter):
    printed = []
    for mixture_class in BOTH:
        mixture = mixture_class(
            3, verbose=verbose, verbose_interval=3, max_iter=max_iter, n_init=2,
            init_params="random", warm_start=True, random_state=0,
        )  # fmt: skip
        mixture.fit(X)
        mixture.fit(X)
        # Times differ.
        printed.append(re.sub(r"\d+\.\d+s", "_s", capsys.readouterr().out))
    assert printed[0].startswith("Initialization 0\n")
    assert printed[1] == printed[0]


def test_telling_the_progress_changes_nothing(X):
    quiet = GaussianMixture(3, n_init=3, init_params="random", random_state=0).fit(X)
    telling = GaussianMixture(3, n_init=3, init_params="random", random_state=0, verbose=1).fit(X)
    assert telling.n_iter_ == quiet.n_iter_
    assert_same_parameters(telling, quiet)


def test_a_fit_that_did_not_converge_is_warned_of_in_the_same_words(X):
    messages = []
    for mixture_class in BOTH:
        with pytest.warns(ConvergenceWarning) as caught:
            mixture = mixture_class(3, max_iter=2, random_state=0).fit(X)
        assert mixture.converged_ is False
        messages.append([str(warning.message) for warning in caught])
    assert messages[0] == messages[1]


def test_max_epochs_is_max_iter(X):
    with pytest.raises(ValueError, match=r"max_epochs=5 .*max_iter=100.*only max_iter"):
        GaussianMixture(trainer_params={"max_epochs": 5}).fit(X)


# -- sampling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("seed", [0, np.random.RandomState(0)], ids=["int", "state"])
def test_samples_are_those_of_scikit_learn(X, covariance_type, seed):
    samples = []
    for mixture_class in BOTH:
        own = np.random.RandomState(0) if isinstance(seed, np.random.RandomState) else seed
        mixture = mixture_class(3, covariance_type=covariance_type, random_state=own).fit(X)
        samples.append([mixture.sample(200), mixture.sample()])
    for (theirs, their_labels), (ours, our_labels) in zip(*samples, strict=True):
        # The parameters are equal to 1e-12; the square root of a covariance magnifies that.
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(our_labels, their_labels)
        assert (ours.dtype, our_labels.dtype) == (theirs.dtype, their_labels.dtype)


@pytest.mark.parametrize("n_samples", [0, -1])
def test_a_sample_has_at_least_one_row(X, n_samples):
    with pytest.raises(ValueError, match="Invalid value for 'n_samples'"):
        GaussianMixture().fit(X).sample(n_samples)


# -- kinds of data --------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_float32_in_float32_out(covariance_type):
    X, _ = make_blobs(400, 3, centers=3, random_state=0)
    X = X.astype(np.float32)
    params = {"n_components": 3, "covariance_type": covariance_type, "random_state": 0}
    ours = GaussianMixture(**params).fit(X)
    dtypes = {name: value.dtype for name, value in parameters(ours).items()}
    assert dtypes == {
        name: value.dtype for name, value in parameters(Theirs(**params).fit(X)).items()
    }
    assert ours.predict_proba(X).dtype == ours.score_samples(X).dtype == np.float32
    assert ours.predict(X).dtype == np.int64
    assert ours.sample(3)[0].dtype == np.float64
    # The arithmetic is that of float64; what comes out is rounded to float32, 6e-8 of it.
    exact = Theirs(**params).fit(X.astype(np.float64))
    assert ours.n_iter_ == exact.n_iter_
    for name, expected in parameters(exact).items():
        np.testing.assert_allclose(getattr(ours, name), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(ours.predict(X), exact.predict(X))


@pytest.mark.parametrize(
    "convert",
    [
        np.asfortranarray,
        lambda X: X.tolist(),
        lambda X: X.astype(">f8"),
        lambda X: np.repeat(X, 2, axis=0)[::2],
        lambda X: X[::-1][::-1],
        pd.DataFrame,
    ],
    ids=["Fortran order", "list", "big endian", "strided", "reversed twice", "frame"],
)
def test_the_layout_of_the_data_changes_nothing(X, convert):
    theirs = Theirs(3, random_state=0).fit(X)
    ours = GaussianMixture(3, random_state=0).fit(convert(X))
    assert_same_parameters(ours, theirs)
    assert_same_answers(ours, theirs, X)


@pytest.mark.skipif(
    sklearn.__version__.startswith("1.7."), reason="scikit-learn's KMeans cannot be dispatched"
)
def test_with_array_api_dispatch_everything_is_as_without_it():
    """In a process of its own: scipy decides when it is imported whether dispatch is possible."""
    program = """
        import numpy as np
        import torch
        from sklearn import config_context
        from sklearn.datasets import load_iris
        from sklearn_torch_gmm.mixture import GaussianMixture

        X = load_iris().data
        for rows in (X, X.astype(np.float32), torch.tensor(X), torch.tensor(X).float()):
            given = {
                "weights_init": rows[:3, 0] / rows[:3, 0].sum(),
                "means_init": rows[[0, 60, 120]],
                "precisions_init": rows[:3, :1] ** 2 + 0 * rows[:3],
            }
            for params in ({}, {"init_params": "k-means++"}, {"init_params": "random"}, given):
                mixture = GaussianMixture(3, covariance_type="diag", random_state=0, **params)
                without = mixture.fit(rows).__dict__.copy()
                expected = [getattr(mixture, m)(rows) for m in ("predict", "predict_proba")]
                numbers = [mixture.score(rows), mixture.bic(rows), *mixture.sample(4)]
                with config_context(array_api_dispatch=True):
                    mixture.fit(rows)
                    found = [getattr(mixture, m)(rows) for m in ("predict", "predict_proba")]
                    assert type(mixture.score(rows)) is float
                    again = [mixture.score(rows), mixture.bic(rows), *mixture.sample(4)]
                # A tensor is answered with tensors while dispatch is on, as in scikit-learn.
                assert all(type(a) is np.ndarray for a in expected)
                assert all(type(b) is type(rows) for b in found)
                for a, b in zip(numbers, again, strict=True):
                    assert type(a) is type(b)
                for a, b in zip(expected + numbers, found + again, strict=True):
                    assert (np.asarray(a) == np.asarray(b)).all()
                for name in ("means_", "covariances_", "labels_", "lower_bound_"):
                    value = getattr(mixture, name)
                    assert type(value) is type(without[name]), name
                    assert (np.asarray(value) == np.asarray(without[name])).all(), name
        print("done")
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.strip() == "done", result.stderr


class TestSetByHand:
    """As many do to build a mixture from parameters, or to change one."""

    def mixture(self, **params):
        mixture = GaussianMixture(2, **params)
        mixture.weights_ = np.array([0.4, 0.6])
        mixture.means_ = np.array([[0.0, 0.0], [3.0, 3.0]])
        mixture.covariances_ = mixture.precisions_cholesky_ = np.stack([np.eye(2)] * 2)
        return mixture

    def test_goes_on_as_scikit_learn_does(self):
        X = np.random.default_rng(0).normal(size=(80, 2)) + 3.0 * (np.arange(80) % 2)[:, None]
        ours, theirs = self.mixture(warm_start=True), Theirs(2, warm_start=True)
        for name, value in vars(self.mixture()).items():
            if name.endswith("_"):
                setattr(theirs, name, value)
        for mixture in (ours, theirs):
            mixture.converged_, mixture.lower_bound_ = False, -np.inf
            mixture.fit(X)
        assert ours.n_iter_ == theirs.n_iter_
        np.testing.assert_allclose(ours.means_, theirs.means_, rtol=1e-9)

    def test_weights_may_be_a_list(self):
        X = np.random.default_rng(0).normal(size=(9, 2))
        expected, mixture = self.mixture(random_state=0), self.mixture(random_state=0)
        mixture.weights_ = mixture.weights_.tolist()
        np.testing.assert_array_equal(mixture.predict_proba(X), expected.predict_proba(X))
        np.testing.assert_array_equal(mixture.sample(9)[0], expected.sample(9)[0])
        assert torch.equal(mixture.model_.component_probs, expected.model_.component_probs)

    def test_means_may_be_whole_numbers(self):
        mixture = self.mixture()
        mixture.means_ = mixture.means_.astype(int)
        X = np.random.default_rng(0).normal(size=(9, 2))
        _, log_densities = mixture.model_(torch.tensor(X))
        np.testing.assert_allclose(log_densities.numpy(), mixture.score_samples(X), rtol=1e-12)

    @pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
    @pytest.mark.parametrize(
        "last", [["precisions_", "precisions_cholesky_"], ["precisions_cholesky_", "precisions_"]]
    )
    def test_components_can_be_put_in_another_order(self, X, covariance_type, last):
        ours, theirs = (
            kind(3, covariance_type=covariance_type, random_state=0).fit(X)
            for kind in (GaussianMixture, Theirs)
        )
        order = [1, 2, 0]  # done twice, it would be another
        for mixture in (ours, theirs):
            for name in ["weights_", "means_", "covariances_", *last]:
                setattr(mixture, name, getattr(mixture, name)[order])
        assert_same_answers(ours, theirs, X)
        factors = ours.precisions_cholesky_
        is_matrix = covariance_type == "full"
        expected = factors @ np.swapaxes(factors, -1, -2) if is_matrix else factors**2
        np.testing.assert_allclose(ours.precisions_, expected, rtol=1e-12)


def test_a_subclass_may_fit_without_weights():
    class Mixture(GaussianMixture):
        def fit(self, X, y=None):
            self.seen_ = y
            return super().fit(X)

    X = np.random.default_rng(0).normal(size=(30, 2))
    mixture = Mixture(2, random_state=0).fit(X, "y")
    assert mixture.seen_ == "y"
    # As in scikit-learn, neither of the two calls the other one that a subclass has.
    np.testing.assert_array_equal(Mixture(2, random_state=0).fit_predict(X), mixture.predict(X))


def test_a_subclass_may_fit_to_rows_alone():
    class OfRows(GaussianMixture):
        def fit(self, X, sample_weight=None):
            return super().fit(X, sample_weight=sample_weight)

    rows = np.random.default_rng(0).normal(size=(30, 2))
    weights = np.arange(len(rows)) % 3
    alone = OfRows(2, random_state=0)
    labels = GaussianMixture(2, random_state=0).fit_predict(rows, sample_weight=weights)
    np.testing.assert_array_equal(alone.fit_predict(rows, sample_weight=weights), labels)


def test_fields_of_records_are_data_like_any_other(rng):
    records = np.zeros(60, dtype=[("label", "u1"), ("x", "f8", (2,))])
    records["x"] = X = rng.normal(size=(60, 2))
    assert records["x"].strides[0] % 8
    found, expected = (GaussianMixture(2, random_state=0).fit(data) for data in (records["x"], X))
    np.testing.assert_array_equal(found.means_, expected.means_)
    np.testing.assert_array_equal(found.predict(records["x"]), expected.predict(X))

"""What breaks when scikit-learn, torch or NumPy no longer has a private part that we use."""

import functools
from numbers import Real
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.utils import check_random_state
from torch.utils.data import DataLoader, TensorDataset

from sklearn_torch_gmm import _private_parts as private


class Estimator(BaseEstimator):
    _parameter_constraints: ClassVar = {
        "share": [private.Interval(Real, 0.0, 1.0, closed="left")],
        "kind": [private.StrOptions({"one", "two"})],
    }

    def __init__(self, share=0.5, kind="one"):
        self.share = share
        self.kind = kind


def test_constraints_are_checked_by_scikit_learn():
    """Otherwise wrong parameters would be found later, in other words than scikit-learn's."""
    private.validate_parameters(Estimator())
    with pytest.raises(private.InvalidParameterError, match="'share' parameter of Estimator"):
        private.validate_parameters(Estimator(share=1.0))
    with pytest.raises(private.InvalidParameterError, match="must be a str among"):
        private.validate_parameters(Estimator(kind="three"))


def test_plain_values_that_have_passed_are_not_checked_again(monkeypatch):
    calls = []
    check = BaseEstimator._validate_params

    def counting(self):
        calls.append(self.share)
        check(self)

    monkeypatch.setattr(BaseEstimator, "_validate_params", counting)
    monkeypatch.setattr(private, "_passed", set())
    monkeypatch.setattr(private, "MOST_PASSED", 2)
    for share in (0.25, 0.25, 0, False, 0.25):
        private.validate_parameters(Estimator(share))
    # A value of another type is another value.
    assert calls == [0.25, 0, False, 0.25]
    for _ in range(2):
        with pytest.raises(private.InvalidParameterError):
            private.validate_parameters(Estimator(2.0))
    assert calls[4:] == [2.0, 2.0]
    # What may change is checked each time.
    calls.clear()
    for _ in range(2):
        with pytest.raises(private.InvalidParameterError):
            private.validate_parameters(Estimator(kind=["one"]))
    assert len(calls) == 2


def test_a_step_is_fitted_by_scikit_learns_own_method(monkeypatch):
    """Otherwise a tool that wraps `fit` would record the step as a model."""
    calls = []
    original = KMeans.fit

    @functools.wraps(original)
    def recording(self, *args, **kwargs):
        calls.append(args)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(KMeans, "fit", recording)
    X = np.arange(6.0)[:, None]
    assert private.fit_unrecorded(KMeans(2, n_init=1), X).labels_.shape == (6,)
    assert calls == []
    # The innermost wrapper is scikit-learn's, which checks parameters unless it is told not to.
    assert not get_config()["skip_parameter_validation"]
    # Without it, the class is not scikit-learn's, and nothing is known of what wraps it.
    monkeypatch.setattr(KMeans, "fit", lambda self, X: calls.append(X))
    private.fit_unrecorded(KMeans(2), X)
    assert len(calls) == 1


def test_an_invalid_parameter_is_both_errors():
    """Otherwise programs that catch scikit-learn's errors would not catch ours."""
    assert issubclass(private.InvalidParameterError, ValueError)
    assert issubclass(private.InvalidParameterError, TypeError)


def test_an_interval_tells_its_type_and_what_is_in_it():
    """Otherwise True would be a number of rows: see the constraints of the estimators."""
    interval = private.Interval(Real, 0.0, None, closed="left")
    assert interval.type is Real
    assert interval.is_satisfied_by(0.0)
    assert not interval.is_satisfied_by(-1.0)


def test_names_of_parameters_are_known_without_an_instance():
    """Otherwise a saved model could not be held against its class before it is loaded."""
    assert private.parameter_names(Estimator) == ["kind", "share"]


def test_parameters_are_read_by_the_names_that_a_class_gives():
    """Otherwise the names that our classes remember would not be used."""

    class Other(Estimator):
        @classmethod
        def _get_param_names(cls):
            return ["kind"]

    assert Other().get_params() == {"kind": "one"}


def test_a_missing_matplotlib_is_told_with_the_name_of_what_needs_it(monkeypatch):
    """Otherwise a display would end with a bare ModuleNotFoundError."""
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"Display\.plot requires matplotlib"):
        private.check_matplotlib_support("Display.plot")


def test_the_global_random_state_is_the_one_that_numpy_seeds():
    """Otherwise a fit that goes on from a checkpoint would set back the whole process."""
    assert check_random_state(None) is private.GLOBAL_RANDOM_STATE
    before = np.random.get_state()
    try:
        np.random.seed(3)
        expected = np.random.RandomState(3).random_sample()
        assert private.GLOBAL_RANDOM_STATE.random_sample() == expected
    finally:
        np.random.set_state(before)


def test_the_workers_of_a_loader_end_when_told():
    """Otherwise they would live as long as a traceback or a cycle refers to them."""
    data = TensorDataset(torch.arange(4.0))
    loader = DataLoader(data, num_workers=1, persistent_workers=True)
    assert private.persistent_iterator(loader) is None
    iterator = iter(loader)
    assert private.persistent_iterator(loader) is iterator
    (worker,) = iterator._workers
    assert worker.is_alive()
    private.end_workers(iterator)
    worker.join(30)
    assert not worker.is_alive()
    private.forget_iterator(loader)
    assert len(list(loader)) == 4
    private.end_workers(private.persistent_iterator(loader))


def test_a_loader_without_workers_has_none_to_end():
    private.end_workers(iter(DataLoader(TensorDataset(torch.arange(4.0)))))


@pytest.mark.skipif(
    private.setter_of_mkl_threads() is None, reason="MKL is not a part of torch's library"
)
def test_mkl_has_a_number_of_threads_that_can_be_set():
    """Otherwise small products would be divided after `torch.set_num_threads`."""
    set_threads = private.setter_of_mkl_threads()
    first = set_threads(3)
    assert set_threads(1) == 3
    assert set_threads(first) == 1
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        # This is why a limit of OpenMP is not enough.
        assert set_threads(first) == 2
    finally:
        torch.set_num_threads(before)
        set_threads(first)

"""M-steps of several fits as one: the same results, in as many operations as for a single fit."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sklearn_torch_gmm.core.covariance import STRUCTURES
from sklearn_torch_gmm.core.rounding import TOLERATED_ERROR
from sklearn_torch_gmm.em import joint_step
from sklearn_torch_gmm.em.settings import StartSettings
from sklearn_torch_gmm.exceptions import IllDefinedCovarianceError
from sklearn_torch_gmm.rows.in_memory import ArrayRows
from sklearn_torch_gmm.training.fit import fit_sweep
from tests.em.settings import fit_settings

TYPES = sorted(STRUCTURES)


def fits_for(sizes, types=TYPES, start="random_from_data", **options):
    defaults = {"num_init": 2, "tolerance": 1e-4, "max_iter": 20, "records_failures": True}
    random_state = np.random.RandomState(0)
    return [
        fit_settings(k, name, StartSettings(start), random_state, **defaults | options)
        for name in types
        for k in sizes
    ]


def groups(rng, num_rows=300):
    centres = 3.0 * rng.normal(size=(4, 3))
    return centres[rng.integers(4, size=num_rows)] + rng.normal(size=(num_rows, 3))


def ill_conditioned(rng):
    return groups(rng) @ np.diag([1.0, 1e-3, 1e-6]) @ np.linalg.qr(rng.normal(size=(3, 3)))[0]


def with_few_equal_rows(rng):
    """Some components have one row, or a few that are equal."""
    return np.vstack([groups(rng), [[40.0, 0.0, 0.0]], 3 * [[0.0, 40.0, 0.0]]])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("make", [groups, ill_conditioned, with_few_equal_rows])
def test_they_are_the_same_together_and_one_by_one(rng, make, weighted, monkeypatch):
    X = make(rng)
    # Of ill-conditioned rows, the fast pass tolerates up to twenty times this rounding error.
    tolerated = TOLERATED_ERROR[torch.float64] / 20 if make is ill_conditioned else 0.0
    weights = rng.uniform(0.1, 2.0, size=len(X)) if weighted else None
    found = []
    for most in (joint_step.MOST_NUMBERS, 0):
        monkeypatch.setattr(joint_step, "MOST_NUMBERS", most)
        found.append(fit_sweep(ArrayRows(X, weights), fits_for((1, 2, 5, 7))))
    for together, single in zip(*found, strict=True):
        for one, other in zip(together, single, strict=True):
            # Sums of the same numbers in another order, grown over twenty iterations.
            bounds = one.lower_bounds, other.lower_bounds
            np.testing.assert_allclose(*bounds, rtol=1e-10, atol=tolerated)
            assert (one.empty, one.converged) == (other.empty, other.converged)
            assert str(one.error) == str(other.error)
            for a, b in zip(one.parameters.tensors(), other.parameters.tensors(), strict=True):
                assert a.shape == b.shape
                # Of equal rows at 40, variances of 1e-6 have the rounding of squares of 1,600.
                far = 1e-8 * a.abs().max().item() if make is with_few_equal_rows else 0.0
                torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-10 + far)


def test_a_component_that_loses_its_rows_is_named_for_its_own_fit():
    """Two groups of rows, and three means of which one is far from both."""
    X = np.repeat([[0.0], [1.0]], 50, axis=0) + np.linspace(0.0, 0.1, 100)[:, None]
    means = {2: [[0.0], [1.0]], 3: [[0.0], [1.0], [900.0]]}
    fits = [
        fit_settings(
            k,
            "spherical",
            StartSettings(
                weights=np.full(k, 1 / k), means=np.array(own), precisions=np.full(k, 1e2)
            ),
            np.random.RandomState(0),
            max_iter=5,
        )
        for k, own in means.items()
    ]
    (two,), (three,) = fit_sweep(ArrayRows(X), fits)
    assert two.empty == set()
    assert three.empty == {2}
    assert three.parameters.means[0, 2].item() == 900.0


class Counted(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls[function._schema.name] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_one_decomposition_serves_all_sizes(rng, covariance_type):
    X, calls = groups(rng), []
    for max_iter in (4, 9):
        fits = fits_for((1, 2, 3, 4), [covariance_type], tolerance=0.0, max_iter=max_iter)
        with Counted() as counted:
            fit_sweep(ArrayRows(X), fits)
        calls.append(counted.calls["aten::linalg_cholesky_ex"])
    assert calls[1] - calls[0] == 5


def test_a_fit_that_fails_leaves_the_others_alone(rng):
    X = np.vstack([groups(rng), np.full((200, 3), 20.0)])
    fits = fits_for((1, 3, 4), ["full"], "kmeans", regularization=0.0, keep_empty=False)
    single, *others = fit_sweep(ArrayRows(X), fits)
    assert {type(one.error) for own in others for one in own} == {IllDefinedCovarianceError}
    assert [one.error for one in single] == [None, None]
    assert np.isfinite([one.log_likelihood for one in single]).all()


def test_a_smaller_mixture_repeats_its_first_component():
    """Of one fit with two mixtures of one component, and one with a mixture of three."""
    layout = joint_step._layout(((2, 1), (1, 3)), torch.device("cpu"))
    values = [torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0, 4.0, 5.0]])]
    expected = [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [3.0, 4.0, 5.0]]
    assert layout.padded(values).tolist() == expected
    copy = joint_step.SHARE_OF_COPIES
    assert layout.shares.squeeze(-1).tolist() == [[1, copy, copy], [1, copy, copy], [1, 1, 1]]
    assert layout.places.tolist() == [0, 3, 6, 7, 8]
    # A hundred copies change no sum of weights.
    assert 1.0 + 100 * copy == 1.0

"""One epoch is one exact EM iteration, however the rows arrive."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture as ScikitLearnMixture
from sklearn.preprocessing import StandardScaler

from sklearn_torch_gmm.core.covariance import STRUCTURES
from sklearn_torch_gmm.core.rounding import TOLERATED_ERROR
from sklearn_torch_gmm.em import estimation as estimation_module
from sklearn_torch_gmm.em.iterations import Iterations
from sklearn_torch_gmm.em.settings import StartSettings
from sklearn_torch_gmm.exceptions import NonFiniteLikelihoodError
from sklearn_torch_gmm.mixture import GaussianMixture
from sklearn_torch_gmm.rows.in_memory import ArrayRows
from sklearn_torch_gmm.training.fit import fit_mixture
from tests.em.settings import fit_settings

pytestmark = pytest.mark.usefixtures("loop")

TYPES = sorted(STRUCTURES)
PARAMETERS = ["weights_", "means_", "covariances_", "precisions_cholesky_"]


def wine():
    return StandardScaler().fit_transform(load_wine().data), 3


def digits():
    return PCA(16, random_state=0).fit_transform(load_digits().data), 10


def start_of(X, components, covariance_type):
    """Weights, means and precisions of scikit-learn's start."""
    start = ScikitLearnMixture(
        components, covariance_type=covariance_type, max_iter=0, random_state=0
    ).fit(X)
    return {
        "weights_init": start.weights_,
        "means_init": start.means_,
        "precisions_init": start.precisions_,
    }


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("data", [wine, digits])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_likelihood_of_each_of_20_iterations_agrees_with_scikit_learn(data, covariance_type):
    X, components = data()
    params = {
        **start_of(X, components, covariance_type),
        "covariance_type": covariance_type,
        "max_iter": 20,
        "tol": 0,
    }
    theirs = ScikitLearnMixture(components, **params).fit(X)
    ours = GaussianMixture(components, **params).fit(X)
    assert len(ours.lower_bounds_) == 20
    np.testing.assert_allclose(ours.lower_bounds_, theirs.lower_bounds_, rtol=1e-9)


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("batch_size", [1, 7, 100, 178])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_batches_change_nothing(covariance_type, batch_size):
    X, components = wine()
    # Sorted by cluster: whole batches then hold no row of some components.
    labels = ScikitLearnMixture(components, random_state=0).fit_predict(X)
    X = X[np.argsort(labels, kind="stable")]
    params = {
        **start_of(X, components, covariance_type),
        "covariance_type": covariance_type,
        "max_iter": 5,
        "tol": 0,
    }
    whole = GaussianMixture(components, **params).fit(X)
    batched = GaussianMixture(components, batch_size=batch_size, **params).fit(X)
    for name in PARAMETERS:
        np.testing.assert_allclose(
            getattr(batched, name), getattr(whole, name), rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("batch_size", [None, 3001])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_threads_change_nothing(monkeypatch, covariance_type, batch_size):
    X, components = digits()
    params = {
        **start_of(X, components, covariance_type),
        "covariance_type": covariance_type,
        "batch_size": batch_size,
        "max_iter": 5,
        "tol": 0,
    }
    found = []
    for threads in (1, 4):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        mixture = GaussianMixture(components, **params)
        found.append(mixture.fit(np.tile(X, (4, 1))))
    for name in PARAMETERS:
        first, second = (getattr(mixture, name) for mixture in found)
        np.testing.assert_allclose(second, first, rtol=1e-9, atol=1e-12)
    # Sums in another order: each thread has had its part.
    assert not np.array_equal(found[0].means_, found[1].means_)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_starts_that_share_passes_give_what_each_gives_alone(covariance_type):
    X, components = wine()
    params = {"covariance_type": covariance_type, "init_params": "random"}
    together = GaussianMixture(components, n_init=4, random_state=0, **params).fit(X)
    random_state = np.random.RandomState(0)
    alone = [
        GaussianMixture(components, random_state=random_state, **params).fit(X) for _ in range(4)
    ]
    best = max(alone, key=lambda mixture: mixture.lower_bound_)
    assert together.n_iter_ == best.n_iter_
    np.testing.assert_allclose(together.lower_bounds_, best.lower_bounds_, rtol=1e-12)
    np.testing.assert_allclose(together.means_, best.means_, rtol=1e-9, atol=1e-12)


def far_and_narrow(spread):
    """Two components of width one, `spread` apart: the fast E-step loses (spread)² · eps."""
    rng = np.random.default_rng(0)
    return np.vstack([rng.normal(size=(300, 2)) - spread, rng.normal(size=(300, 2)) + spread])


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("spread", [1e3, 1e6, 1e8])
def test_width_is_found_however_far_components_are_apart(covariance_type, spread):
    X = far_and_narrow(spread)
    mixture = GaussianMixture(2, covariance_type=covariance_type, random_state=0).fit(X)
    structure = STRUCTURES[covariance_type]
    variances = structure.variances(torch.from_numpy(mixture.covariances_), 2, 2).numpy()
    order = np.argsort(mixture.means_[:, 0])
    parts = np.stack([X[:300].var(0), X[300:].var(0)])
    expected = {
        "full": parts[np.argsort(order)],
        "diag": parts[np.argsort(order)],
        "tied": np.stack([parts.mean(0)] * 2),
        "spherical": np.repeat(parts.mean(1, keepdims=True), 2, 1)[np.argsort(order)],
    }[covariance_type]
    np.testing.assert_allclose(variances, expected + 1e-6, rtol=TOLERATED_ERROR[torch.float64])


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("rows_of_the_second", [0, 3])
def test_an_m_step_is_done_again_where_a_component_has_few_rows(
    monkeypatch, covariance_type, rows_of_the_second
):
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(60, 2)), np.full((rows_of_the_second, 2), 40.0)])
    start = {
        "weights_init": [0.5, 0.5],
        "means_init": [[0.0, 0.0], [40.0, 40.0]],
        "precisions_init": STRUCTURES[covariance_type].unit_covariances(
            torch.ones(STRUCTURES[covariance_type].covariance_shape(2, 2))
        ),
    }
    done = []
    m_step = estimation_module.m_step

    def spy(*args, rare_cases, **kwargs):
        done.append(rare_cases)
        return m_step(*args, rare_cases=rare_cases, **kwargs)

    monkeypatch.setattr(estimation_module, "m_step", spy)

    mixture = GaussianMixture(2, covariance_type=covariance_type, max_iter=3, tol=0, **start)
    with warnings.catch_warnings():
        # Of what is empty, and of what has not converged.
        warnings.simplefilter("ignore")
        mixture.fit(X)
    # From then on they are looked after at once; so narrow a component needs exact steps besides.
    assert done[0] is False
    assert len(done) >= 4
    assert all(done[1:])
    np.testing.assert_allclose(mixture.means_[1], [40.0, 40.0], rtol=1e-12)
    assert np.isfinite(mixture.covariances_).all()


def settings_for(X, **kwargs):
    return fit_settings(
        num_components=2,
        covariance_type="full",
        start=StartSettings("kmeans"),
        random_state=np.random.RandomState(0),
        **kwargs,
    )


@pytest.fixture
def taken(monkeypatch):
    """The kinds of steps that the first fit has taken."""
    taken = []
    begin = Iterations.begin_e_step

    def spy(iterations, **options):
        begin(iterations, **options)
        taken.append(type(iterations.fits[0]._e_step).__name__)

    monkeypatch.setattr(Iterations, "begin_e_step", spy)
    return taken


def test_exact_steps_are_taken_only_where_they_are_needed(taken):
    for spread in (10.0, 1e7):
        X = far_and_narrow(spread)
        fit_mixture(ArrayRows(X), settings_for(X))
    fast, exact = taken.count("FastEStep"), taken.count("ExactEStep")
    assert taken == ["FastEStep"] * fast + ["ExactEStep"] * exact
    assert fast > 0
    assert exact > 0


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("num_init", "expected"), [(1, "ExactEStep"), (2, "FastEStep")])
def test_few_components_of_many_features_take_exact_steps(taken, num_init, expected):
    """Unless there are other starts, for which the moments of a row are found anyway."""
    X = np.random.default_rng(0).normal(size=(300, 60))
    fit_mixture(ArrayRows(X), settings_for(X, max_iter=3, num_init=num_init))
    # T(x) is 1,891 numbers, and the differences to two means are 120.
    assert set(taken) == {expected}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_repeated_iteration_does_not_count(taken):
    """Rows beyond those that the start saw reveal, after a fast pass, that it was not safe."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_001, 2))
    X[1] = 1e7  # Not among the evenly spaced rows, of which there are at most 10,000.
    result = fit_mixture(
        ArrayRows(X),
        settings_for(X, max_iter=3, tolerance=0.0),
    )
    assert taken[:2] == ["FastEStep", "ExactEStep"] or taken[0] == "ExactEStep"
    assert len(result.lower_bounds) == 3


def test_a_likelihood_that_is_not_finite_ends_the_fit():
    X = np.random.default_rng(0).normal(size=(50, 2))
    mixture = GaussianMixture(
        1,
        weights_init=[1.0],
        means_init=[[1e200, 1e200]],
        precisions_init=[np.eye(2)],
    )
    with pytest.raises(NonFiniteLikelihoodError, match="mean log-likelihood became"):
        mixture.fit(X)
    assert not hasattr(mixture, "converged_")

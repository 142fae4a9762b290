"""Where EM starts."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.mixture import GaussianMixture as ScikitLearnMixture

from sklearn_torch_gmm.core.covariance import STRUCTURES
from sklearn_torch_gmm.em import kmeans as kmeans_module
from sklearn_torch_gmm.em import offsets
from sklearn_torch_gmm.em.first_m_step import SingleRows
from sklearn_torch_gmm.em.settings import StartSettings
from sklearn_torch_gmm.em.strategies import STRATEGIES, sample_of, shared_starts
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn
from sklearn_torch_gmm.model_selection import GaussianMixtureIC
from sklearn_torch_gmm.rows.source import StartingRows
from tests.em.settings import fit_settings

TYPES = sorted(STRUCTURES)
NAMES = ["weights", "means", "covariances", "precisions_cholesky"]


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return np.vstack([rng.normal(size=(40, 3)), rng.normal(size=(30, 3), loc=(5, 0, 5))])


def start_with(X, settings):
    """What the next start of a single fit leads to."""
    ((result,),) = shared_starts(StartingRows(X), sample_of(StartingRows(X)), [[settings]])
    return result


def start(X, covariance_type="full", components=3, regularization=1e-6, seed=0, **kwargs):
    settings = fit_settings(
        num_components=components,
        covariance_type=covariance_type,
        start=StartSettings(**kwargs),
        random_state=np.random.RandomState(seed),
        regularization=regularization,
    )
    return start_with(X, settings)


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"kmeans++"}))
def test_a_seed_starts_where_scikit_learn_starts(X, name, covariance_type):
    ours = start(X, covariance_type, strategy=name).parameters
    theirs = ScikitLearnMixture(
        3, covariance_type=covariance_type, init_params=name, max_iter=0, random_state=0
    ).fit(X)
    for attribute in NAMES:
        np.testing.assert_allclose(
            getattr(ours, attribute)[0], getattr(theirs, f"{attribute}_"), rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("name", sorted(STRATEGIES))
@pytest.mark.parametrize("exponent", [32, 40])
def test_an_offset_moves_the_means_and_nothing_else(X, name, covariance_type, exponent):
    # Rounded, so that the offset rounds nothing.
    X, offset = np.ldexp(np.ldexp(X, 8).round(), -8), np.array([2.0**exponent, 0.0, 1.0])
    if name in ("k-means++", "random_from_data"):
        # The formulas for single rows depend on the origin, which is then the first row.
        X = X - X[0]
    here, there = (
        start(rows, covariance_type, strategy=name, regularization=1e-3).parameters
        for rows in (X, X + offset)
    )
    np.testing.assert_array_equal(there.weights, here.weights)
    # The rounding of the means themselves.
    np.testing.assert_allclose(
        there.means.numpy() - offset, here.means, atol=2.0 ** (exponent - 50)
    )
    np.testing.assert_allclose(there.covariances, here.covariances, rtol=1e-6, atol=1e-9)


def test_rows_at_their_nearest_means_far_from_the_origin():
    rows = 2.0**40 + np.array([[0.0], [1.0], [2.0], [9.0]])
    found = start(rows, components=2, nearest_means=2.0**40 + np.array([[0.25], [4.0]]))
    np.testing.assert_array_equal(found.parameters.weights[0], [0.75, 0.25])
    # Σ (x − 0.25)² / 3 for 0, 1, 2, and (9 − 4)², regularized.
    expected = np.array([(0.0625 + 0.5625 + 3.0625) / 3, 25.0]) + 1e-6
    np.testing.assert_allclose(found.parameters.covariances[0].ravel(), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["kmeans", "kmeans++", "k-means++"])
@pytest.mark.parametrize("exponent", [70, -90])
def test_squares_that_overflow_or_vanish_start_where_others_do(X, name, exponent):
    X, scale = X.astype(np.float32), 2.0**exponent
    usual, scaled = (start(np.float32(s) * X, strategy=name).parameters for s in (1.0, scale))
    np.testing.assert_array_equal(scaled.means, scale * usual.means)
    np.testing.assert_array_equal(scaled.weights, usual.weights)


def test_consecutive_starts_draw_consecutive_random_numbers(X):
    settings = fit_settings(3, "diag", StartSettings("random"), np.random.RandomState(0))
    first, second = (start_with(X, settings).parameters for _ in range(2))
    random_state = np.random.RandomState(0)
    for ours in (first, second):
        theirs = ScikitLearnMixture(
            3, covariance_type="diag", init_params="random", max_iter=0, random_state=random_state
        ).fit(X)
        np.testing.assert_allclose(ours.means[0], theirs.means_, rtol=1e-12)


def assigned_by_hand(X, means, labels, covariance_type, regularization):
    """Weights and covariances of hard assignments about given means, by definition."""
    components, features = means.shape
    weights = np.bincount(labels, minlength=components) / len(X)
    scatters = np.stack(
        [(X[labels == k] - means[k]).T @ (X[labels == k] - means[k]) for k in range(components)]
    )
    matrices = scatters / np.bincount(labels, minlength=components)[:, None, None]
    matrices = matrices + regularization * np.eye(features)
    if covariance_type == "tied":
        matrices = (scatters.sum(0) / len(X) + regularization * np.eye(features))[None]
    diagonals = np.diagonal(matrices, axis1=1, axis2=2)
    return weights, {
        "full": matrices,
        "tied": matrices[0],
        "diag": diagonals,
        "spherical": diagonals.mean(1),
    }[covariance_type]


@pytest.mark.parametrize("covariance_type", TYPES)
def test_given_means_stay_and_rows_go_to_the_nearest(X, covariance_type):
    means = X[[0, 1, 60]]
    ours = start(X, covariance_type, nearest_means=means, regularization=0.1).parameters
    labels = ((X[:, None] - means) ** 2).sum(-1).argmin(1)
    weights, covariances = assigned_by_hand(X, means, labels, covariance_type, 0.1)
    np.testing.assert_allclose(ours.means[0], means)
    np.testing.assert_allclose(ours.weights[0], weights, rtol=1e-12)
    np.testing.assert_allclose(ours.covariances[0], covariances, rtol=1e-12)


def test_kmeans_plus_plus_takes_its_picks_as_means(X):
    picks, _ = kmeans_plusplus(X, 3, random_state=np.random.RandomState(0))
    ours = start(X, "diag", strategy="kmeans++").parameters
    np.testing.assert_allclose(ours.means[0], picks)
    assert ours.weights.sum() == pytest.approx(1.0)
    assert (ours.weights > 1 / len(X) - 1e-12).all()


def test_a_given_mean_far_from_all_rows_keeps_its_place_and_gets_the_datas_variance(X):
    means = np.vstack([X[[0, 60]], [[1e3, 1e3, 1e3]]])
    result = start(X, "diag", nearest_means=means)
    assert result.empty.tolist() == [[False, False, True]]
    assert result.usable.all()
    np.testing.assert_allclose(result.parameters.means[0, 2], means[2])
    assert result.parameters.weights[0, 2] == 0


def test_more_clusters_than_distinct_rows_leaves_components_empty():
    X = np.repeat([[0.0, 0.0], [1.0, 1.0]], 10, axis=0)
    with pytest.warns(UserWarning, match="distinct clusters"):
        result = start(X, "full", components=4, strategy="kmeans")
    assert result.empty.sum() == 2
    assert result.usable.all()


@pytest.mark.parametrize("covariance_type", TYPES)
def test_what_the_user_gives_replaces_what_the_strategy_finds(X, covariance_type):
    shape = STRUCTURES[covariance_type].covariance_shape(3, 3)
    found = start(X, covariance_type).parameters
    precisions = 2.0 * np.ones(shape) if len(shape) < 2 or shape == (3, 3) else None
    if covariance_type in ("full", "tied"):
        precisions = np.broadcast_to(2.0 * np.eye(3), shape).copy()
    elif covariance_type == "diag":
        precisions = np.full(shape, 2.0)
    given = start(
        X, covariance_type, weights=np.array([0.2, 0.3, 0.5]), precisions=precisions
    ).parameters
    torch.testing.assert_close(given.means, found.means)
    np.testing.assert_allclose(given.weights, [[0.2, 0.3, 0.5]])
    np.testing.assert_allclose(
        STRUCTURES[covariance_type].precisions(given.precisions_cholesky)[0], precisions
    )


def test_complete_starts_draw_no_random_numbers(X):
    settings = fit_settings(
        1,
        "diag",
        StartSettings(weights=np.ones(1), means=np.zeros((1, 3)), precisions=np.ones((1, 3))),
        np.random.RandomState(0),
    )
    start_with(X, settings)
    assert settings.random_state.randint(2**31) == np.random.RandomState(0).randint(2**31)


def test_kmeans_is_scikit_learns(X):
    labels = KMeans(3, n_init=1, random_state=np.random.RandomState(0)).fit(X).labels_
    ours = start(X, "full").parameters
    means = np.stack([X[labels == k].mean(0) for k in range(3)])
    np.testing.assert_allclose(ours.means[0], means, rtol=1e-12)


def test_starts_far_from_the_origin_keep_their_digits(X):
    near = start(X, "full").parameters
    far = start(X + 1e8, "full").parameters
    # A coordinate of 1e8 is stored to 1.5e-8.
    torch.testing.assert_close(far.covariances, near.covariances, rtol=1e-6, atol=1e-6)


def test_the_middle_is_the_mean_of_evenly_spaced_rows(monkeypatch):
    rows, weights = np.arange(10.0)[:, None], np.arange(1.0, 11.0)
    sample = sample_of(StartingRows(rows))
    assert sample.middle.tolist() == [4.5]
    assert sample_of(StartingRows(rows, weights)).middle.tolist() == [pytest.approx(6.0)]
    monkeypatch.setattr(offsets, "EVENLY_SPACED_ROWS", 5)
    assert offsets.evenly_spaced(sample.rows).flatten().tolist() == [0, 2, 4, 6, 8]
    # With weights, the rows in between may be the only ones that count.
    assert sample_of(StartingRows(rows, weights)).middle.tolist() == [pytest.approx(6.0)]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_sample_of_little_weight_as_a_mean_leaves_a_tied_covariance_positive():
    X = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [10.0, 9.0], [9.0, -10.0]])
    mixture = DropIn(3, covariance_type="tied", init_params="random_from_data", max_iter=1)
    for seed in range(20):
        # It failed where the samples of weight one were among the means.
        mixture.set_params(random_state=seed).fit(X, sample_weight=[5, 5, 5, 5, 1, 1])
    # By hand: two of three rows are means, and a weight of one half is taken for one.
    data = StartingRows(np.array([[1.0], [2.0], [4.0]]), np.array([0.5, 1.5, 1.0]))
    start = StartSettings("random_from_data")
    settings = fit_settings(2, "tied", start, np.random.RandomState(0), regularization=0.0)
    found = SingleRows(np.array([0, 1])).estimate(sample_of(data), settings)
    # 0.5 · 1 + 1.5 · 4 + 1 · 16 + 0.5 · 1 − 1 − 4, of two rows.
    assert found.parameters.covariances.item() == pytest.approx((23.0 - 5.0) / 2)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_far_sample_of_negligible_weight_does_not_blur_random_responsibilities(covariance_type):
    X = np.random.default_rng(0).normal(size=(300, 2))
    X[7], weights = 1e10, np.ones(300)
    weights[7] = 1e-30
    shares = np.random.RandomState(3).uniform(size=(300, 2))
    shares /= shares.sum(1, keepdims=True)
    options = {"covariance_type": covariance_type, "max_iter": 1}
    drawn, given = (
        DropIn(2, init_params=start, random_state=3, **options).fit(X, sample_weight=weights)
        for start in ("random", shares)
    )
    # The far sample's share of a variance is 1e-30 · 1e20.
    assert drawn.lower_bound_ == pytest.approx(given.lower_bound_, abs=1e-9)


@pytest.mark.parametrize("n_init", [1, 2])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_one_component_needs_no_kmeans(X, covariance_type, n_init, monkeypatch):
    options = {"covariance_type": covariance_type, "n_init": n_init, "random_state": 0}
    theirs = ScikitLearnMixture(1, **options).fit(X)
    monkeypatch.setattr(kmeans_module, "fit_unrecorded", None)
    ours = DropIn(1, **options).fit(X)
    assert ours.lower_bound_ == pytest.approx(theirs.lower_bound_)
    for attribute in NAMES:
        np.testing.assert_allclose(
            getattr(ours, f"{attribute}_"), getattr(theirs, f"{attribute}_"), rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("n_init", [1, 2])
def test_a_state_that_others_draw_from_goes_on_as_after_scikit_learn(X, n_init):
    """For one component too: the numbers after the fit are the program's own."""
    states = [np.random.RandomState(0) for _ in range(2)]
    for cls, state in zip((DropIn, ScikitLearnMixture), states, strict=True):
        cls(1, n_init=n_init, random_state=state).fit(X)
    assert states[0].uniform() == states[1].uniform()


def test_a_sweep_finds_clusters_for_several_components_alone(X, sizes_found):
    search = GaussianMixtureIC(1, 3, n_init=2, random_state=0).fit(X)
    assert sorted(sizes_found) == [2, 2, 3, 3]
    single = DropIn(1, covariance_type="diag", random_state=0).fit(X)
    is_same = (search.results_["n_components"] == 1) & (
        search.results_["covariance_type"] == "diag"
    )
    np.testing.assert_allclose(search.results_["bic"][is_same], single.bic(X), rtol=1e-12)

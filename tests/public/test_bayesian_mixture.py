"""The Bayesian drop-in gives what scikit-learn's class gives, on any rows and with weights."""

import pickle

import numpy as np
import pytest
import pytorch_lightning as pl
import sklearn.mixture
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from torch.utils.data import DataLoader, TensorDataset

from sklearn_torch_gmm import MixtureDisplay
from sklearn_torch_gmm.mixture import BayesianGaussianMixture as Ours
from sklearn_torch_gmm.mixture import GaussianMixture
from tests.parity import COVARIANCE_TYPES, STARTS
from tests.rows.examples import Store, Stream

Theirs = sklearn.mixture.BayesianGaussianMixture

PRIOR_TYPES = ["dirichlet_process", "dirichlet_distribution"]

X = load_iris().data

# Sums over 150 rows in another order, after some tens of iterations.
ROUNDING = {"rtol": 1e-9, "atol": 1e-9}

each_type = pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
each_prior = pytest.mark.parametrize("prior_type", PRIOR_TYPES)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def make(cls=Ours, covariance_type="full", prior_type="dirichlet_process", **params):
    defaults = {"n_components": 4, "random_state": 0, "max_iter": 40}
    return cls(
        covariance_type=covariance_type,
        weight_concentration_prior_type=prior_type,
        **defaults | params,
    )


def assert_same_fit(actual, expected, tolerance=ROUNDING, names=None):
    assert actual.n_iter_ == expected.n_iter_
    assert actual.converged_ == expected.converged_
    left_out = {"labels_", "n_iter_", "converged_", "n_samples_seen_", "feature_names_in_"}
    for name in names or [n for n in Ours().persistent_attributes if n not in left_out]:
        found, wanted = (np.asarray(getattr(m, name), float) for m in (actual, expected))
        # scikit-learn's bound of 'tied' covariances is an array of one.
        np.testing.assert_allclose(
            found, np.reshape(wanted, found.shape), **tolerance, err_msg=name
        )


# -- as scikit-learn ------------------------------------------------------------------------------


@each_type
@each_prior
@pytest.mark.parametrize("start", STARTS)
def test_the_fit_is_that_of_scikit_learn(covariance_type, prior_type, start):
    theirs, ours = (
        make(cls, covariance_type, prior_type, init_params=start).fit(X) for cls in (Theirs, Ours)
    )
    assert_same_fit(ours, theirs)
    for method in ("predict_proba", "score_samples"):
        found, wanted = (getattr(m, method)(X) for m in (ours, theirs))
        np.testing.assert_allclose(found, wanted, **ROUNDING)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    np.testing.assert_array_equal(ours.labels_, theirs.predict(X))
    assert ours.score(X) == pytest.approx(theirs.score(X), rel=1e-9)


@each_type
@each_prior
def test_priors_of_the_user(covariance_type, prior_type):
    matrix = np.array([[0.3, 0.1, 0, 0], [0.1, 0.2, 0, 0], [0, 0, 1.0, 0.2], [0, 0, 0.2, 0.5]])
    scale = {"full": matrix, "tied": matrix, "diag": matrix.diagonal(), "spherical": 0.4}
    priors = {
        "weight_concentration_prior": 3.0,
        "mean_precision_prior": 0.2,
        "mean_prior": [5.0, 3.0, 4.0, 1.0],
        "degrees_of_freedom_prior": 6.5,
        "covariance_prior": scale[covariance_type],
    }
    theirs, ours = (
        make(cls, covariance_type, prior_type, **priors).fit(X) for cls in (Theirs, Ours)
    )
    assert_same_fit(ours, theirs)


@each_type
def test_attributes_have_the_kinds_of_scikit_learn(covariance_type):
    theirs, ours = (make(cls, covariance_type).fit(X) for cls in (Theirs, Ours))
    for name, wanted in vars(theirs).items():
        if not name.endswith("_"):
            continue
        found = getattr(ours, name)
        if name in ("lower_bound_", "lower_bounds_"):
            # Theirs are arrays of one number for 'tied'; ours are numbers.
            assert np.ndim(found) == (0 if name == "lower_bound_" else 1)
            continue
        assert np.shape(found) == np.shape(wanted), name
        assert type(found) is type(wanted), name


@each_type
@each_prior
def test_warm_starts_take_the_prior_of_the_new_rows(covariance_type, prior_type):
    theirs, ours = (
        make(cls, covariance_type, prior_type, max_iter=3, warm_start=True)
        for cls in (Theirs, Ours)
    )
    for rows in (X, X[::2], X[::2]):
        assert_same_fit(ours.fit(rows), theirs.fit(rows))


@each_prior
def test_several_starts_keep_the_best(prior_type):
    params = {"n_init": 3, "init_params": "random", "prior_type": prior_type}
    theirs, ours = (make(cls, **params).fit(X) for cls in (Theirs, Ours))
    assert_same_fit(ours, theirs)


@pytest.mark.parametrize("seed", range(8))
def test_starts_that_end_early_leave_the_others_as_they_are(seed):
    """Some converge at once; of those that go on, some passes are exact."""
    rows = np.random.default_rng(seed).normal(size=(50, 2))
    rows[:25] += 4.0
    params = {
        "prior_type": "dirichlet_distribution",
        "n_components": 5,
        "n_init": 4,
        "init_params": "random_from_data",
        # A component without rows has a log-weight of minus 1e300.
        "weight_concentration_prior": 1e-300,
        "tol": 1.0,
    }
    theirs, ours = (make(cls, **params).fit(rows) for cls in (Theirs, Ours))
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.lower_bound_ == pytest.approx(theirs.lower_bound_, rel=1e-9)


def test_without_iterations_the_start_is_kept():
    theirs, ours = (make(cls, max_iter=0).fit(X) for cls in (Theirs, Ours))
    names = ["weights_", "means_", "covariances_", "mean_precision_", "degrees_of_freedom_"]
    assert_same_fit(ours, theirs, names=names)


def test_samples_are_those_of_scikit_learn():
    theirs, ours = (make(cls).fit(X) for cls in (Theirs, Ours))
    for found, wanted in zip(ours.sample(20), theirs.sample(20), strict=True):
        np.testing.assert_allclose(found, wanted, **ROUNDING)


def test_verbose_prints_the_lines_of_scikit_learn(capsys):
    printed = []
    for cls in (Theirs, Ours):
        make(cls, verbose=1, n_init=2, max_iter=25, tol=1e-9).fit(X)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert printed[0].count("Initialization") == 4


def test_it_is_scikit_learns_class_and_a_hook_is_in_force():
    def halved(base):
        class Halved(base):
            def _estimate_weights(self, nk):
                super()._estimate_weights(0.5 * nk)

        return Halved

    theirs, ours = (make(halved(base)).fit(X) for base in (Theirs, Ours))
    assert isinstance(make(), Theirs)
    np.testing.assert_array_equal(ours.means_, theirs.means_)
    with pytest.raises(TypeError, match="Halved overrides _estimate_weights"):
        make(halved(Ours)).fit(X, sample_weight=np.ones(150))


def test_private_methods_of_scikit_learn_work_on_our_attributes():
    ours = make().fit(X)
    theirs = ours.to_sklearn()
    np.testing.assert_array_equal(ours._estimate_log_prob(X), theirs._estimate_log_prob(X))
    np.testing.assert_array_equal(ours._estimate_log_weights(), theirs._estimate_log_weights())


# -- rows of any kind -----------------------------------------------------------------------------


class WeightedStream(torch.utils.data.IterableDataset):
    def __init__(self, rows, weights):
        self.rows, self.weights = rows, weights

    def __iter__(self):
        return zip(torch.from_numpy(self.rows), self.weights.tolist(), strict=True)


def labels():
    """A start that is the same for rows wherever they are."""
    return np.arange(len(X)) * 4 // len(X)


@pytest.mark.parametrize(
    "kind",
    [
        lambda rows: torch.from_numpy(rows),
        lambda rows: TensorDataset(torch.from_numpy(rows)),
        Stream,
        Store,
        lambda rows: DataLoader(torch.from_numpy(rows), batch_size=16),
    ],
    ids=["tensor", "dataset", "stream", "store", "loader"],
)
@each_type
def test_rows_may_be_anywhere(covariance_type, kind):
    mixture = make(covariance_type=covariance_type, init_params=labels())
    expected = clone(mixture).fit(X)
    rows = kind(X)
    mixture.fit(rows)
    assert_same_fit(mixture, expected)
    np.testing.assert_allclose(mixture.score_samples(rows), expected.score_samples(X), **ROUNDING)


@each_type
@each_prior
def test_batches_and_files_do_not_change_the_fit(covariance_type, prior_type, tmp_path):
    mixture = make(Ours, covariance_type, prior_type, init_params=labels())
    expected = clone(mixture).fit(X)
    np.save(tmp_path / "X.npy", X)
    assert_same_fit(clone(mixture).set_params(batch_size=7).fit(X), expected)
    assert_same_fit(mixture.fit(np.load(tmp_path / "X.npy", mmap_mode="r")), expected)


@each_type
def test_a_sample_of_weight_zero_may_be_anywhere(covariance_type):
    expected = make(Ours, covariance_type, init_params=labels()).fit(X)
    far, weights = np.vstack([np.full((1, 4), 1e12), X]), np.append(0.0, np.ones(150))
    mixture = make(Ours, covariance_type, init_params=np.append(0, labels()))
    assert_same_fit(clone(mixture).fit(far, sample_weight=weights), expected)
    # Samples that come with their weights cannot be left out beforehand.
    assert_same_fit(mixture.fit(WeightedStream(far, weights), sample_weight=True), expected)


@each_type
def test_a_far_sample_of_negligible_weight_leaves_the_prior_alone(covariance_type):
    # The first batches are of nothing else.
    far, weights = (
        np.vstack([np.full((10, 4), 1e9), X]),
        np.append(np.full(10, 1e-24), np.ones(150)),
    )
    mixture = make(Ours, covariance_type, max_iter=1, batch_size=4)
    expected = clone(mixture).set_params(init_params=labels()).fit(X).covariance_prior_
    start = np.append(np.zeros(10, dtype=int), labels())
    found = clone(mixture).set_params(init_params=start).fit(far, sample_weight=weights)
    # 1e-23 · 1e18 is added to the sum of squares of 150 samples.
    np.testing.assert_allclose(found.covariance_prior_, expected, rtol=1e-6, atol=1e-6)
    stream = WeightedStream(far, weights)
    found = clone(mixture).set_params(init_params=start).fit(stream, sample_weight=True)
    np.testing.assert_allclose(found.covariance_prior_, expected, rtol=1e-6, atol=1e-6)


@each_type
@each_prior
@pytest.mark.parametrize("factor", [1.0, 2.5])
def test_a_weight_is_a_number_of_copies(covariance_type, prior_type, factor):
    weights = np.random.default_rng(0).integers(0, 4, size=150)
    repeated = make(
        Ours, covariance_type, prior_type, init_params=np.repeat(labels(), 2 * weights)
    ).fit(np.repeat(X, 2 * weights, axis=0))
    weighted = make(Ours, covariance_type, prior_type, init_params=labels())
    assert_same_fit(weighted.fit(X, sample_weight=2 * weights), repeated)
    assert weighted.n_samples_seen_ == 2 * weights.sum()
    assert_same_fit(weighted.fit(WeightedStream(X, 2.0 * weights), sample_weight=True), repeated)
    # Equal weights count as well: there are more rows behind the same sums.
    alike = make(Ours, covariance_type, prior_type).fit(X, sample_weight=np.full(150, factor))
    plain = make(Ours, covariance_type, prior_type).fit(X)
    total = np.sum(alike.mean_precision_ - 1.0)
    assert total == pytest.approx(factor * np.sum(plain.mean_precision_ - 1.0))


def test_weights_that_sum_to_one_are_no_copies():
    with pytest.raises(ValueError, match="sample_weight sums to 1"):
        make().fit(X, sample_weight=np.full(150, 1 / 150))
    priors = {"mean_prior": X.mean(0), "covariance_prior": np.eye(4)}
    mixture = make(**priors).fit(X, sample_weight=np.full(150, 1 / 150))
    assert mixture.mean_precision_.sum() == pytest.approx(4 + 1)


@each_type
def test_two_processes_give_the_fit_of_one(covariance_type):
    params = {"covariance_type": covariance_type, "init_params": labels()}
    forked = {"accelerator": "cpu", "devices": 2, "strategy": "ddp_fork"}
    weights = np.linspace(0.5, 2.0, 150)
    two = make(**params, trainer_params=forked).fit(X, sample_weight=weights)
    assert_same_fit(two, make(**params).fit(X, sample_weight=weights))


class Interrupted(Exception):
    pass


class Stop(pl.Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 5:
            raise Interrupted


@each_type
@each_prior
def test_a_fit_goes_on_from_a_checkpoint(covariance_type, prior_type, tmp_path):
    def mixture(*callbacks):
        every = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
        trainer_params = {"enable_checkpointing": True, "callbacks": [every, *callbacks]}
        return make(Ours, covariance_type, prior_type, n_init=2, trainer_params=trainer_params)

    with pytest.raises(Interrupted):
        mixture(Stop()).fit(X)
    resumed = mixture().fit(X, ckpt_path=tmp_path / "epoch=4.ckpt")
    whole = make(Ours, covariance_type, prior_type, n_init=2, batch_size=150).fit(X)
    assert_same_fit(resumed, whole, {"rtol": 0, "atol": 0})


def test_a_checkpoint_of_another_kind_of_mixture_is_refused(tmp_path):
    every = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    trainer_params = {"enable_checkpointing": True, "callbacks": [every]}
    GaussianMixture(4, max_iter=2, trainer_params=trainer_params, random_state=0).fit(X)
    with pytest.raises(ValueError, match="an estimation by maximum likelihood, but"):
        make().fit(X, ckpt_path=tmp_path / "epoch=1.ckpt")


# -- numbers that are hard ------------------------------------------------------------------------


@each_type
@each_prior
@pytest.mark.parametrize(
    ("offset", "scale"), [(1e6, 1.0), (0.0, 1e-8), (0.0, 1e8), (1e3, 1e-3)], ids=str
)
def test_offsets_and_scales(covariance_type, prior_type, offset, scale):
    rng = np.random.default_rng(0)
    rows = np.vstack([rng.normal(size=(60, 2)), rng.normal(size=(60, 2)) + 6.0])
    params = {"init_params": labels()[:120] // 2, "n_components": 2, "reg_covar": 0.0}
    plain, moved = (
        make(Ours, covariance_type, prior_type, **params).fit(data)
        for data in (rows, scale * (rows + offset))
    )
    # The digits of the data that the offset leaves.
    tolerance = max(1e-9, 10 * np.finfo(float).eps * offset)
    np.testing.assert_allclose(moved.means_ / scale - offset, plain.means_, atol=100 * tolerance)
    np.testing.assert_allclose(
        moved.covariances_ / scale**2, plain.covariances_, rtol=100 * tolerance, atol=tolerance
    )
    assert moved.n_iter_ == plain.n_iter_


@each_type
@each_prior
def test_more_components_than_rows_of_their_own(covariance_type, prior_type):
    rows = np.repeat([[0.0, 1.0], [5.0, 2.0], [9.0, 9.0]], 10, axis=0)
    theirs, ours = (
        make(cls, covariance_type, prior_type, n_components=6, init_params="random").fit(rows)
        for cls in (Theirs, Ours)
    )
    assert np.isfinite(ours.predict_proba(rows)).all()
    assert_same_fit(ours, theirs, {"rtol": 1e-7, "atol": 1e-7})


@each_type
@pytest.mark.parametrize(
    "priors",
    [
        {"mean_precision_prior": 1e18},
        {"mean_prior": [1e3] * 4, "mean_precision_prior": 1e5},
        {"weight_concentration_prior": 1e10},
        {"weight_concentration_prior": 1e300},
    ],
    ids=str,
)
def test_priors_far_stronger_than_the_data(covariance_type, priors):
    theirs, ours = (make(cls, covariance_type, **priors).fit(X) for cls in (Theirs, Ours))
    # Theirs have lost that many digits: 1000 standard deviations, squared.
    assert_same_fit(ours, theirs, {"rtol": 1e-6, "atol": 1e-6}, ["means_", "covariances_"])


def test_a_covariance_that_is_lost_is_told_as_such():
    rows = np.random.default_rng(0).normal(size=(6, 5))
    rows[:, 0] = 3.3
    mixture = Ours(n_components=4, reg_covar=0, init_params="random", random_state=0)
    with pytest.raises(ValueError, match="ill-defined empirical covariance"):
        mixture.fit(rows)


def test_a_warm_start_with_another_number_of_components_is_refused():
    mixture = make(max_iter=2, warm_start=True).fit(X)
    with pytest.raises(ValueError, match=r"n_components=5 .*Set warm_start=False"):
        mixture.set_params(n_components=5).fit(X)


@pytest.mark.parametrize("value", [2.0, [2.0], np.array(2.0)], ids=str)
def test_a_number_for_spherical_covariances_may_be_an_array_of_one(value):
    expected = make(covariance_type="spherical", covariance_prior=2.0).fit(X)
    found = make(covariance_type="spherical", covariance_prior=value).fit(X)
    np.testing.assert_array_equal(found.covariances_, expected.covariances_)


@each_type
def test_a_constant_feature(covariance_type):
    rows = np.column_stack([X[:, 0], np.full(150, 0.1)])
    ours = make(covariance_type=covariance_type, n_components=2).fit(rows)
    for name in Ours().persistent_attributes:
        assert (
            name == "feature_names_in_" or np.isfinite(np.asarray(getattr(ours, name), float)).all()
        ), name
    np.testing.assert_allclose(ours.means_[:, 1], 0.1, rtol=1e-12)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"weight_concentration_prior": 0.0}, "weight_concentration_prior"),
        ({"mean_precision_prior": -1.0}, "mean_precision_prior"),
        ({"mean_prior": [1.0, 2.0]}, r"'means' should have the shape of \(4,\), but got \(2,\)"),
        ({"mean_prior": [np.nan] * 4}, "mean_prior"),
        ({"degrees_of_freedom_prior": 2.5}, "should be greater than 3, but got 2.500"),
        ({"covariance_prior": np.eye(3)}, r"'full covariance_prior' should have the shape of"),
        (
            {"covariance_prior": -np.eye(4)},
            "'full precision' should be symmetric, positive-definite",
        ),
        (
            {"covariance_prior": -np.ones(4), "covariance_type": "diag"},
            "'diag precision' should be positive",
        ),
        ({"covariance_prior": -1.0, "covariance_type": "spherical"}, "covariance_prior"),
        ({"weight_concentration_prior_type": "dirichlet"}, "weight_concentration_prior_type"),
        ({"trainer_params": {"max_epochs": 3}}, "use only max_iter"),
    ],
    ids=lambda value: "" if isinstance(value, str) else ", ".join(value),
)
def test_priors_that_cannot_be(params, message):
    with pytest.raises(ValueError, match=message):
        Ours(n_components=2, **params).fit(X)


def test_a_fit_that_has_not_converged_warns():
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        make(max_iter=1).fit(X)


def test_a_misspelt_parameter_gets_a_hint():
    with pytest.raises(TypeError, match="did you mean mean_precision_prior"):
        Ours(mean_precision_priors=1.0)


# -- kept and converted ---------------------------------------------------------------------------


@each_type
@each_prior
def test_it_is_saved_pickled_and_converted_without_a_change(covariance_type, prior_type, tmp_path):
    fitted = make(Ours, covariance_type, prior_type).fit(X)
    fitted.save(tmp_path / "model")
    others = [
        Ours.load(tmp_path / "model"),
        pickle.loads(pickle.dumps(fitted)),
        Ours.from_sklearn(fitted.to_sklearn()),
    ]
    for other in others:
        assert_same_fit(other, fitted, {"rtol": 0, "atol": 0})
        np.testing.assert_array_equal(other.predict_proba(X), fitted.predict_proba(X))
        assert other.get_params() == fitted.get_params()
    assert type(fitted.to_sklearn()) is Theirs
    np.testing.assert_allclose(fitted.to_sklearn().score_samples(X), fitted.score_samples(X))


@each_type
def test_bounds_from_scikit_learn_are_numbers(covariance_type, tmp_path):
    theirs = make(Theirs, covariance_type).fit(X)
    ours = Ours.from_sklearn(theirs)
    bounds = [ours.lower_bound_, *ours.lower_bounds_]
    assert {type(bound) for bound in bounds} == {float}
    assert bounds == [np.ravel(bound)[0] for bound in (theirs.lower_bound_, *theirs.lower_bounds_)]
    ours.save(tmp_path / "model")
    ours.set_params(warm_start=True, verbose=2, verbose_interval=1).fit(X)


def test_the_classes_do_not_take_each_other(tmp_path):
    bayesian, plain = make().fit(X), GaussianMixture(2, random_state=0).fit(X)
    with pytest.raises(
        TypeError, match=r"takes a fitted sklearn\.mixture\.BayesianGaussianMixture"
    ):
        Ours.from_sklearn(plain.to_sklearn())
    with pytest.raises(TypeError, match=r"takes a fitted sklearn\.mixture\.GaussianMixture"):
        GaussianMixture.from_sklearn(bayesian)
    bayesian.save(tmp_path / "model")
    with pytest.raises(ValueError, match="BayesianGaussianMixture"):
        GaussianMixture.load(tmp_path / "model")


def test_single_precision_rows_give_single_precision_attributes():
    fitted = make().fit(X.astype(np.float32))
    assert fitted.means_.dtype == fitted.mean_precision_.dtype == np.float32
    assert fitted.predict_proba(X.astype(np.float32)).dtype == np.float32


def test_its_module_is_the_mixture_of_its_mean_parameters():
    fitted = make().fit(X)
    torch.testing.assert_close(fitted.model_.covariances.numpy(), fitted.covariances_)
    densities = torch.from_numpy(fitted.component_log_densities(X[:5]))
    joint = fitted.model_.joint_log_densities(torch.from_numpy(X[:5])).T
    torch.testing.assert_close(joint, densities + fitted.model_.component_probs.log())


def test_it_is_drawn():
    assert MixtureDisplay.from_estimator(make().fit(X), X, features=[0, 1]).ax_ is not None

"""Mixtures that share the passes over the data end as each would by itself."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from scipy.special import log_softmax, logsumexp
from scipy.stats import multivariate_normal

from sklearn_torch_gmm.core.covariance import STRUCTURES
from sklearn_torch_gmm.core.fast_step import MOST_COMPONENTS
from sklearn_torch_gmm.core.processor import chunk_bytes
from sklearn_torch_gmm.em.iterations import Iterations
from sklearn_torch_gmm.em.restarts import find_starts
from sklearn_torch_gmm.em.settings import StartSettings
from sklearn_torch_gmm.exceptions import IllDefinedCovarianceError, NonFiniteLikelihoodError
from sklearn_torch_gmm.rows.in_memory import ArrayRows
from sklearn_torch_gmm.training.fit import first_of_best, fit_mixture, fit_sweep
from tests.em.settings import fit_settings

TYPES = sorted(STRUCTURES)


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    centres = 3.0 * rng.normal(size=(4, 3))
    return centres[rng.integers(4, size=300)] + rng.normal(size=(300, 3))


def settings_for(components, covariance_type, random_state, start="random_from_data", **options):
    defaults = {"num_init": 3, "tolerance": 1e-4, "max_iter": 30, "records_failures": True}
    return fit_settings(
        components, covariance_type, StartSettings(start), random_state, **defaults | options
    )


def fits_for(sizes=(1, 2, 4), types=TYPES, seed=0, **options):
    random_state = np.random.RandomState(seed)
    return [settings_for(k, name, random_state, **options) for name in types for k in sizes]


def assert_same_as_alone(X, fits, results, weights=None):
    for settings, restarts in zip(fits, results, strict=True):
        own = settings_for(
            settings.num_components,
            settings.covariance_type,
            np.random.RandomState(0),
            start=settings.start.strategy,
            max_iter=settings.loop.max_iter,
        )
        alone = fit_mixture(ArrayRows(X, weights), own)
        best = first_of_best(restarts)
        # Likelihoods of 300 rows: rounding of other sums, grown over thirty iterations.
        np.testing.assert_allclose(best.lower_bounds, alone.lower_bounds, rtol=1e-9)
        assert best.converged == alone.converged
        pairs = zip(best.parameters.tensors(), alone.parameters.tensors(), strict=True)
        for actual, expected in pairs:
            torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("start", ["kmeans", "k-means++", "random", "random_from_data"])
def test_each_fit_ends_as_it_would_alone(X, start):
    fits = fits_for(start=start)
    results = fit_sweep(ArrayRows(X), fits)
    assert_same_as_alone(X, fits, results)
    numbers = {len(restart.lower_bounds) for restarts in results for restart in restarts}
    assert len(numbers) > 3
    assert max(numbers) <= 30


def test_weights_count_for_each_fit(X):
    weights = np.random.default_rng(1).uniform(0.1, 2.0, size=300)
    fits = fits_for()
    results = fit_sweep(ArrayRows(X, weights), fits)
    assert_same_as_alone(X, fits, results, weights)


@pytest.mark.parametrize("weighted", [False, True])
def test_scores_are_those_of_the_last_parameters(X, weighted):
    weights = np.random.default_rng(1).uniform(0.1, 2.0, size=300) if weighted else None
    fits = fits_for(sizes=[3], types=["full"], max_iter=2)
    (restarts,) = fit_sweep(ArrayRows(X, weights), fits)
    for restart in restarts:
        probabilities, means, covariances, _ = (p[0] for p in restart.parameters.tensors())
        joint = np.array(
            [
                np.log(p) + multivariate_normal(m, c).logpdf(X)
                for p, m, c in zip(probabilities.numpy(), means, covariances, strict=True)
            ]
        )
        of_rows = [logsumexp(joint, axis=0), log_softmax(joint, axis=0).max(0)]
        expected = np.average(of_rows, axis=1, weights=weights)
        # The fast form may differ by 1e-9 nats a row.
        np.testing.assert_allclose(
            [restart.log_likelihood, restart.certainty], expected, rtol=0, atol=1e-9
        )
        assert restart.log_likelihood > restart.lower_bound
        assert restart.seconds > 0


def test_a_fit_that_repeats_an_iteration_leaves_the_others_alone(monkeypatch):
    """Narrow components beside a far row: exact for two of them, fast for one wide one."""
    rng = np.random.default_rng(0)
    X = 1e-3 * rng.normal(size=(20_001, 2))
    X[1] = 1e3  # Not among the evenly spaced rows that the start knows.
    passes = []
    begin = Iterations.begin_e_step

    def spy(iterations, **options):
        begin(iterations, **options)
        passes.append({m.settings.num_components: type(s).__name__ for m, s in iterations._in_pass})

    monkeypatch.setattr(Iterations, "begin_e_step", spy)
    fits = fits_for(sizes=(1, 2), types=["full"], max_iter=3, num_init=1)
    results = fit_sweep(ArrayRows(X), fits)
    kinds = {kind for one in passes for kind in one.values()}
    assert kinds == {"FastEStep", "ExactEStep"}
    for (restart,) in results:
        assert restart.converged or len(restart.lower_bounds) == 3
        assert restart.error is None


def collapsing(X):
    """Two hundred rows that are one point: a component on them has no covariance."""
    return np.vstack([X, np.zeros((200, 3)) + 20.0])


def test_a_fit_that_fails_is_recorded_and_the_others_go_on(X):
    X = collapsing(X)
    fits = fits_for(
        sizes=(1, 3), types=["full", "tied"], start="kmeans", regularization=0.0, keep_empty=False
    )
    results = fit_sweep(ArrayRows(X), fits)
    errors = [[type(restart.error) for restart in restarts] for restarts in results]
    none, failed = [type(None)] * 3, [IllDefinedCovarianceError] * 3
    assert errors == [none, failed, none, none]
    single, _, *tied = results
    assert np.isfinite([r.log_likelihood for r in single]).all()
    assert np.isfinite([r.log_likelihood for rs in tied for r in rs]).all()


def test_all_fail_with_the_error_of_the_first(X):
    fits = fits_for(
        sizes=(2, 3), types=["full"], start="kmeans", regularization=0.0, keep_empty=False
    )
    rows = np.repeat(X[:3], 10, axis=0)
    with pytest.raises(IllDefinedCovarianceError, match="Component 0 has weight"):
        fit_sweep(ArrayRows(rows), fits)


def test_a_likelihood_that_is_not_finite_is_the_error_of_its_fit(X):
    fits = [
        fit_settings(
            components,
            "diag",
            StartSettings(
                weights=np.full(components, 1 / components),
                means=np.full((components, 3), mean),
                precisions=np.ones((components, 3)),
            ),
            np.random.RandomState(0),
            records_failures=True,
        )
        for components, mean in [(1, 1e200), (2, 0.0)]
    ]
    (far,), (near,) = fit_sweep(ArrayRows(X), fits)
    assert isinstance(far.error, NonFiniteLikelihoodError)
    assert near.error is None
    assert np.isfinite(near.log_likelihood)


@pytest.mark.parametrize("stopped_after", [1, 4, 200])
def test_a_state_goes_on_where_it_was(X, stopped_after):
    """Through everything that a process may be told, the pass for the scores included."""

    def iterate(iterations, most):
        for _ in range(most):
            if iterations.is_finished:
                break
            iterations.begin_e_step()
            iterations.add(torch.from_numpy(X))
            iterations.test(iterations.m_step())
        return iterations

    def fresh():
        fits = fits_for()
        return fits, Iterations(
            find_starts(ArrayRows(X), fits), fits, torch.device("cpu"), scores=True
        )

    whole = iterate(fresh()[1], 200)
    fits, stopped = fresh()
    state = iterate(stopped, stopped_after).state()
    resumed = iterate(Iterations.from_state(state, fits, torch.device("cpu")), 200)
    assert whole.is_finished
    assert resumed.is_finished
    for actual, expected in zip(resumed.results(), whole.results(), strict=True):
        for one, other in zip(actual, expected, strict=True):
            assert one.lower_bounds == other.lower_bounds
            assert one.log_likelihood == other.log_likelihood
            assert one.converged == other.converged


def test_a_start_that_cannot_be_found_is_the_error_of_its_fits(X):
    def rows_of_few(rows, components, random_state):
        if components > 2:
            raise ValueError("only two of them")
        return rows[:components]

    fits = fits_for(types=["full", "tied"], start=rows_of_few, num_init=1)
    results = fit_sweep(ArrayRows(X), fits)
    errors = [str(restart.error) for (restart,) in results]
    assert errors == ["None", "None", "only two of them"] * 2
    with pytest.raises(ValueError, match="only two of them"):
        fit_sweep(ArrayRows(X), fits_for(sizes=[3, 4], start=rows_of_few))
    own = settings_for(3, "full", np.random.RandomState(0), rows_of_few, records_failures=False)
    with pytest.raises(ValueError, match="only two of them"):
        fit_mixture(ArrayRows(X), own)


class Stops(pl.Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = True


def test_a_trainer_that_stops_early_leaves_nothing_to_compare(X):
    fits = fits_for(trainer_params={"callbacks": [Stops()]})
    with pytest.raises(ValueError, match=r"stopped before all mixtures were done.*trainer_params"):
        fit_sweep(ArrayRows(X), fits)


def test_the_memory_of_a_pass_does_not_grow_with_the_number_of_mixtures(X):
    """Beside sums and parameters: the logits of no more than a group of them."""
    fits = fits_for(sizes=range(2, 31), types=["full"], num_init=2, max_iter=1)
    assert sum(2 * fit.num_components for fit in fits) > 3 * MOST_COMPONENTS
    starts = find_starts(ArrayRows(X), fits)
    iterations = Iterations(starts, fits, torch.device("cpu"), scores=True)
    rows = torch.from_numpy(np.tile(X, (10, 1)))
    while not iterations.is_finished:
        iterations.begin_e_step()
        iterations.add(rows)
        iterations.test(iterations.m_step())
    held = sum(buffer.nbytes for buffer in iterations._workspace._buffers.values())
    assert 0 < held <= chunk_bytes()


class Records:
    """A monitor that keeps what it is told."""

    def __init__(self):
        self.num_starts, self.found, self.reports, self.ends = [], 0, [], 0

    def starts(self, number):
        self.num_starts.append(number)

    def start_found(self):
        self.found += 1

    def pass_done(self, report):
        self.reports.append(report)

    def ended(self):
        self.ends += 1


@pytest.mark.parametrize("batch_size", [None, 100], ids=["plain", "trainer"])
def test_a_monitor_is_told_of_starts_and_passes(X, batch_size):
    monitor = Records()
    fits = fits_for(batch_size=batch_size)
    results = fit_sweep(ArrayRows(X), fits, monitor)
    # Fits that differ in their covariances share a start.
    sizes = {fit.num_components for fit in fits}
    assert monitor.num_starts == [len(sizes) * fits[0].num_init]
    assert monitor.found == monitor.num_starts[0]
    restarts = [restart for own in results for restart in own]
    first, *_, last = monitor.reports
    assert (first.iterations, first.num_fits, first.is_last) == (1, len(fits), False)
    assert first.fits_done < len(fits)
    assert last.iterations == max(len(restart.lower_bounds) for restart in restarts)
    best = max(restarts, key=lambda restart: restart.lower_bound)
    assert last.bound == best.lower_bound
    assert last.change == best.lower_bounds[-1] - best.lower_bounds[-2]
    assert np.isnan(first.change)
    assert (last.fits_done, last.is_last) == (len(fits), True)
    # An iteration each, some of them twice if a pass is repeated, and the scores.
    assert len(monitor.reports) >= last.iterations + 1
    assert monitor.ends == (0 if batch_size is None else 1)

"""Eight threads at once: each gets what it would get alone, and nothing global changes."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from sklearn_torch_gmm.core.inference import Inference
from sklearn_torch_gmm.em.threads import libraries
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn
from tests.estimators import MIXTURE_CLASSES, TYPES, make
from tests.training.test_quiet import global_state

THREADS = 8
QUESTIONS = ["predict", "predict_proba", "score_samples", "score", "bic"]


def at_once(tasks):
    """The results of callables that start together, each in a thread of its own."""
    barrier = Barrier(len(tasks))

    def run(task):
        barrier.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))


@pytest.fixture
def X(rng):
    return np.vstack([rng.normal(size=(500, 3)), rng.normal(size=(500, 3)) + 4.0])


@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
@pytest.mark.parametrize("covariance_type", TYPES)
def test_one_fitted_estimator_answers_eight_threads(cls, covariance_type, X):
    mixture = make(cls, 2, covariance_type=covariance_type, random_state=0).fit(X)
    expected = {question: getattr(mixture, question)(X) for question in QUESTIONS}
    before, attributes = global_state(), set(vars(mixture))

    def ask():
        return {question: getattr(mixture, question)(X) for question in QUESTIONS}

    for answers in at_once([ask] * THREADS):
        for question, answer in answers.items():
            np.testing.assert_array_equal(answer, expected[question])
    assert global_state() == before
    assert set(vars(mixture)) == attributes


@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
def test_eight_fits_beside_eight_predictions(cls, X):
    """A fitted estimator answers while others are fitted, some of them in batches."""
    shared = make(cls, 2, random_state=0).fit(X)
    expected = shared.predict(X)
    alone = [make(cls, 3, random_state=seed, start="random").fit(X) for seed in range(THREADS)]
    before = global_state()

    def fit(seed):
        batch_size = 100 if seed % 2 else None
        mixture = make(cls, 3, random_state=seed, start="random", batch_size=batch_size).fit(X)
        return mixture.means_, mixture.predict(X)

    tasks = [lambda seed=seed: fit(seed) for seed in range(THREADS)]
    tasks += [lambda: shared.predict(X)] * THREADS
    results = at_once(tasks)
    for (means, labels), mixture in zip(results[:THREADS], alone, strict=True):
        np.testing.assert_allclose(means, mixture.means_, rtol=1e-6)
        np.testing.assert_array_equal(labels, mixture.labels_)
    for labels in results[THREADS:]:
        np.testing.assert_array_equal(labels, expected)
    assert global_state() == before


def test_samples_of_one_estimator_in_eight_threads(X):
    """With a seed each call draws the same, in whichever thread."""
    mixture = DropIn(2, random_state=0).fit(X)
    expected, labels = mixture.sample(1000)
    for rows, own_labels in at_once([lambda: mixture.sample(1000)] * THREADS):
        np.testing.assert_array_equal(rows, expected)
        np.testing.assert_array_equal(own_labels, labels)


def test_a_fit_that_fails_does_not_disturb_the_others(X):
    good = DropIn(2, random_state=0).fit(X)
    before = global_state()

    def fail():
        with pytest.raises(ValueError, match="is sufficient"):
            DropIn(2, reg_covar=0.0, random_state=0).fit(np.repeat(X[:2], 10, axis=0))

    def succeed():
        return DropIn(2, random_state=0).fit(X).means_

    results = at_once([fail, succeed] * (THREADS // 2))
    for means in results[1::2]:
        np.testing.assert_array_equal(means, good.means_)
    assert global_state() == before


def most_threads(quantity, mixture, X, monkeypatch):
    """The largest number of OpenMP threads, in any library, while the rows are evaluated."""
    found = []
    evaluate = getattr(Inference, quantity)

    def watched(self, rows):
        found.append(max(one.get_num_threads() for one in libraries("openmp").lib_controllers))
        return evaluate(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Inference, quantity, watched)
        (mixture.predict if quantity == "labels" else mixture.score)(X)
    return max(found)


@pytest.mark.parametrize("quantity", ["labels", "log_densities"])
def test_few_rows_are_not_shared_out(quantity, X, monkeypatch):
    """torch would divide the maxima of three numbers among threads, and wait for a busy core."""
    mixture = DropIn(2, random_state=0).fit(X)
    with libraries("openmp").limit(limits=2):
        assert most_threads(quantity, mixture, X, monkeypatch) == 1
        assert most_threads(quantity, mixture, np.tile(X, (100, 1)), monkeypatch) == 2
        assert max(one.get_num_threads() for one in libraries("openmp").lib_controllers) == 2

"""Everything on a device: no operation mixes it with the host, and the host rarely waits for it."""

import os
import pickle
import warnings
from contextlib import nullcontext
from copy import copy, deepcopy

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from sklearn_torch_gmm import GaussianMixtureClassifier, GaussianMixtureIC
from sklearn_torch_gmm.core import inference, workspace
from sklearn_torch_gmm.em import strategies
from sklearn_torch_gmm.impute import GaussianMixtureImputer
from sklearn_torch_gmm.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn_torch_gmm.rows import source
from tests.estimators import TYPES
from tests.simulated_device import OnDevice, simulated_device

N, D, K, ITERATIONS = 600, 4, 3, 3
DEVICES = ["cuda", "mps"]
# Arithmetic and rows in float32: what its rounding makes of the iterations on these data.
TOLERANCES = {"cuda": 1e-9, "mps": 2e-3}

# From single rows, 'tied' stays near a saddle, where float32 does not tell restarts apart.
START_OF_RESTARTS = {
    "cpu": "random_from_data",
    "cuda": "random_from_data",
    "cpu32": "kmeans",
    "mps": "kmeans",
}


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    return np.vstack([rng.normal(size=(N // K, D)) + 4 * k for k in range(K)])


@pytest.fixture(scope="module", params=TYPES)
def of_cpu(X, request):
    """A mixture of each type, fitted on the CPU; tests change only copies of it."""
    return fit(mixture("cpu", request.param), X)


class Stream(IterableDataset):
    def __init__(self, X):
        self.X = X

    def __iter__(self):
        return iter(self.X)


def mixture(kind, covariance_type="full", **params):
    precision = {"precision": "32-true"} if kind == "cpu32" else {}
    trainer_params = {"accelerator": kind.removesuffix("32"), **precision}
    params = {"random_state": 0, "max_iter": ITERATIONS, "tol": 0.0, **params}
    return GaussianMixture(
        K, covariance_type=covariance_type, trainer_params=trainer_params, **params
    )


def fit(estimator, *arguments, **keywords):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*did not converge")
        return estimator.fit(*arguments, **keywords)


def with_gaps(X):
    return np.where(np.random.default_rng(1).random(X.shape) < 0.1, np.nan, X)


WAYS = {
    "array": lambda kind, name, X: fit(mixture(kind, name), X),
    "batches": lambda kind, name, X: fit(mixture(kind, name, batch_size=100), X),
    "weights": lambda kind, name, X: fit(
        mixture(kind, name), X, sample_weight=1.0 + np.arange(N) % 3
    ),
    "restarts": lambda kind, name, X: fit(
        mixture(kind, name, n_init=3, init_params=START_OF_RESTARTS[kind]), X
    ),
    "fixed": lambda kind, name, X: fit(
        mixture(kind, name, fixed=("means",), means_init=X[:: N // K]), X
    ),
    "one fixed": lambda kind, name, X: fit(
        mixture(kind, name, fixed={"means": [0]}, means_init=X[:: N // K]), X
    ),
    "stream": lambda kind, name, X: fit(mixture(kind, name, batch_size=100), Stream(X)),
    "loader": lambda kind, name, X: fit(
        mixture(kind, name), DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=100)
    ),
    # Regularized far from zero, where float32 keeps few digits of a variance.
    "far": lambda kind, name, X: fit(mixture(kind, name, reg_covar=0.1), X + 1e3),
    "gaps": lambda kind, name, X: fit(mixture(kind, name, missing="em"), with_gaps(X)),
    "gaps in batches": lambda kind, name, X: fit(
        mixture(kind, name, missing="em", batch_size=100), with_gaps(X)
    ),
    "extrapolated": lambda kind, name, X: fit(mixture(kind, name, acceleration="squarem"), X),
    "Bayesian": lambda kind, name, X: fit(
        BayesianGaussianMixture(
            n_components=K,
            covariance_type=name,
            random_state=0,
            max_iter=ITERATIONS,
            tol=0.0,
            trainer_params=mixture(kind).trainer_params,
        ),
        X,
    ),
}


def cases():
    """Each way with the types of which it has operations of its own; on MPS, with one of them."""
    for way in WAYS:
        of_structures = way in ("array", "far", "fixed", "one fixed", "gaps", "Bayesian")
        for covariance_type in TYPES if of_structures else ["full", "tied"]:
            yield "cuda", way, covariance_type
        for covariance_type in TYPES if way in ("array", "far") else ["tied"]:
            yield "mps", way, covariance_type


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")
@pytest.mark.parametrize(("kind", "way", "covariance_type"), list(cases()))
def test_fits_give_what_the_cpu_gives(X, kind, way, covariance_type):
    on_cpu = WAYS[way]("cpu" if kind == "cuda" else "cpu32", covariance_type, X)
    with simulated_device(kind) as device:
        on_device = WAYS[way](kind, covariance_type, X)
    tolerance = TOLERANCES[kind] * (10 if way == "far" else 1)
    for name in ("weights_", "means_", "covariances_", "lower_bound_"):
        actual, expected = (getattr(fitted, name) for fitted in (on_device, on_cpu))
        if kind == "mps" and way == "restarts":
            actual, expected = (of_sorted(fitted, name) for fitted in (on_device, on_cpu))
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, err_msg=name)
    assert device.count("send", of_at_least=N * D // 6) > 0


def of_sorted(mixture, name):
    """An attribute, with components in the order of their means.

    Restarts end in the same mixture with components in other orders, and in float32 with the same
    likelihood. Rounding decides which of them is the best.
    """
    values = np.asarray(getattr(mixture, name))
    return values[mixture.means_[:, 0].argsort()] if values.shape[:1] == (K,) else values


@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_fit_reads_one_vector_an_iteration(X, covariance_type):
    reads = []
    for iterations in (ITERATIONS, 2 * ITERATIONS):
        with simulated_device() as device:
            fit(mixture("cuda", covariance_type, max_iter=iterations), X)
        assert device.count("wait") == 0
        reads.append(device.count("read"))
    assert reads[1] - reads[0] == ITERATIONS


@pytest.mark.parametrize("ways", [{}, {"n_init": 3, "verbose": 1}], ids=["one", "one by one"])
@pytest.mark.parametrize("kind", DEVICES)
def test_rows_are_sent_once_for_all_restarts_and_the_labels(X, kind, ways):
    with simulated_device(kind) as device:
        fitted = fit(mixture(kind, **ways), X)
    assert device.count("send", of_at_least=N * D) == 1
    np.testing.assert_array_equal(fitted.labels_, fit(mixture("cpu", **ways), X).labels_)


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")
@pytest.mark.parametrize("way", ["batches", "stream", "loader"])
def test_rows_that_are_not_resident_are_copied_beside_the_computation(X, way):
    """Each batch on a stream of its own, which the computation waits for."""
    with simulated_device(free_bytes=X.nbytes) as device:
        WAYS[way]("cuda", "full", X)
    sent = [transfer for transfer in device.transfers if transfer.num_values == 100 * D]
    assert len(sent) >= ITERATIONS * N // 100
    assert all(transfer.is_aside for transfer in sent if transfer.kind == "send")


def test_the_start_on_a_device_is_taken_from_a_sample(X, monkeypatch):
    """Wherever the rows are: K-means on all of them would keep the device waiting."""
    monkeypatch.setattr(source, "sample_size", lambda num_components: 100)
    sizes = []

    kmeans = strategies.STRATEGIES["kmeans"]
    monkeypatch.setitem(
        strategies.STRATEGIES,
        "kmeans",
        lambda data, *more: sizes.append(len(data.rows)) or kmeans(data, *more),
    )
    with simulated_device() as device:
        fits = [fit(mixture("cuda"), X), fit(mixture("cuda"), device.tensor(X))]
    fit(mixture("cpu"), X)
    assert sizes == [100, 100, N]
    np.testing.assert_allclose(fits[0].means_, fits[1].means_, rtol=1e-12)


def test_labels_of_weightless_rows_are_found_among_all_rows(X):
    weights = (np.arange(N) % 3 > 0).astype(float)
    on_cpu = fit(mixture("cpu"), X, sample_weight=weights)
    with simulated_device():
        on_device = fit(mixture("cuda"), X, sample_weight=weights)
    np.testing.assert_array_equal(on_device.labels_, on_cpu.labels_)


@pytest.mark.parametrize("devices", [1, [3], "3,"])
def test_the_current_device_and_the_order_of_devices_stay(X, devices, monkeypatch):
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    estimator = mixture("cuda")
    estimator.trainer_params["devices"] = devices
    with simulated_device(index=0 if devices == 1 else 3) as device:
        device.current = 2
        fit(estimator, X)
        assert device.current == 2
        assert "CUDA_DEVICE_ORDER" not in os.environ
        assert device.count("send", of_at_least=N * D) > 0


@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_pass_that_repeats_reads_no_more(X, covariance_type):
    """Far from zero the exact E-step computes."""
    reads = []
    for iterations in (ITERATIONS, 2 * ITERATIONS):
        with simulated_device(capability=(8, 6)) as device:
            fit(mixture("cuda", covariance_type, max_iter=iterations, reg_covar=0.1), 1e3 + X)
        reads.append(device.count("read"))
    assert reads[1] - reads[0] == ITERATIONS


@pytest.mark.parametrize("kind", DEVICES)
@pytest.mark.parametrize("method", ["predict", "predict_proba", "score_samples", "score", "bic"])
def test_predictions_give_what_the_cpu_gives(X, method, of_cpu, kind):
    expected = getattr(of_cpu, method)(X)
    fitted = copy(of_cpu)
    fitted.trainer_params = {"accelerator": kind}
    with simulated_device(kind):
        found = getattr(fitted, method)(X)
    # Σ log p of 600 samples.
    tolerance = TOLERANCES[kind] * (N if method == "bic" else 1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=tolerance)


def test_tensors_are_answered_on_their_device(X, of_cpu):
    fitted, expected = of_cpu, of_cpu.predict_proba(X)
    with simulated_device() as device:
        rows = device.tensor(X)
        again = fit(mixture("cuda", of_cpu.covariance_type), rows)
        answers = [again.predict(rows), again.predict_proba(rows), again.score_samples(rows)]
        assert all(isinstance(answer, OnDevice) for answer in answers)
        np.testing.assert_allclose(answers[1].held, expected, atol=1e-9)
        np.testing.assert_array_equal(again.labels_, fitted.labels_)


METHODS = ["predict", "predict_proba", "score_samples", "component_log_densities"]


def far(X):
    """The same, with a row for which the product with T(x) is not exact, and one of no density."""
    X = X.copy()
    X[[5, -5]] = [[1e9], [1e200]]
    return X


@pytest.mark.parametrize("change", [np.array, far], ids=["near", "far"])
@pytest.mark.parametrize("method", METHODS)
def test_a_prediction_reads_once_for_all_chunks(X, of_cpu, method, change, monkeypatch):
    """More reads only for the chunks that are not exact by the product."""
    fitted, rows = of_cpu, change(X)
    expected = getattr(fitted, method)(rows)
    reads = []
    with simulated_device() as device:
        on_device = device.tensor(rows)
        for chunk_bytes in (2**15, 2**14):
            monkeypatch.setattr(workspace, "ACCELERATOR_CHUNK_BYTES", chunk_bytes)
            monkeypatch.setattr(inference, "FEW_DIFFERENCES", 0)
            device.transfers.clear()
            found = getattr(fitted, method)(on_device)
            reads.append(device.count("read"))
            np.testing.assert_allclose(found.held, expected, atol=1e-9, rtol=1e-12)
    # One is the check of the rows.
    assert reads[0] == reads[1]
    if change is np.array:
        assert reads[0] == 2


@pytest.mark.parametrize("covariance_type", TYPES)
def test_stepwise_updates_give_what_the_cpu_gives(X, covariance_type):
    def updated(make, convert):
        estimator = make
        for start in range(3):
            estimator.partial_fit(convert(X[start::3]))
        return estimator

    on_cpu = updated(mixture("cpu", covariance_type), np.array)
    with simulated_device() as device:
        on_device = updated(mixture("cuda", covariance_type), device.tensor)
        # One for the check of the rows, and one for the parameters.
        device.transfers.clear()
        on_device.partial_fit(device.tensor(X))
        assert (device.count("read"), device.count("wait")) == (2, 0)
    on_cpu.partial_fit(X)
    np.testing.assert_allclose(on_device.means_, on_cpu.means_, atol=1e-9)
    np.testing.assert_allclose(on_device.covariances_, on_cpu.covariances_, atol=1e-9)


@pytest.mark.parametrize("kind", DEVICES)
def test_a_classifier_gives_what_the_cpu_gives(X, kind):
    y = np.repeat(np.arange(K), N // K)
    y[::2] = -1
    proba = []
    for own in ("cpu" if kind == "cuda" else "cpu32", kind):
        params = {"covariance_type": "full", "trainer_params": mixture(own).trainer_params}
        with simulated_device(kind) if own == kind else nullcontext():
            fitted = GaussianMixtureClassifier(random_state=0, **params).fit(X, y)
            proba.append(fitted.predict_proba(X))
    np.testing.assert_allclose(*proba, atol=TOLERANCES[kind])


def test_a_classifier_scores_tensors_on_a_device(X):
    y = np.repeat(np.arange(K), N // K)
    expected = GaussianMixtureClassifier().fit(X, y).score(X, y)
    with simulated_device("cuda"):
        rows, labels = (torch.tensor(values, device="cuda:0") for values in (X, y))
        classifier = GaussianMixtureClassifier().fit(rows, labels)
        assert classifier.score(rows, labels, torch.ones(N, device="cuda:0")) == expected


@pytest.mark.parametrize("covariance_type", TYPES)
def test_gaps_are_filled_with_what_the_cpu_gives(X, covariance_type):
    filled = []
    for own in ("cpu", "cuda"):
        trainer_params = {"accelerator": own}
        imputer = GaussianMixtureImputer(
            K, covariance_type=covariance_type, random_state=0, trainer_params=trainer_params
        )
        with simulated_device() if own == "cuda" else nullcontext():
            filled.append(imputer.fit_transform(with_gaps(X)))
    np.testing.assert_allclose(*filled, rtol=1e-9)


def test_a_mixture_fitted_on_a_device_is_kept_without_it(X, of_cpu, tmp_path):
    with simulated_device():
        fitted = fit(mixture("cuda", of_cpu.covariance_type), X)
        pickled = pickle.dumps(fitted)
        fitted.save(tmp_path)
    for kept in (pickle.loads(pickled), GaussianMixture.load(tmp_path)):
        np.testing.assert_array_equal(kept.predict(X), of_cpu.predict(X))


def test_a_search_gives_what_the_cpu_gives(X):
    params = {"random_state": 0, "covariance_type": ["full", "diag", "tied"]}
    on_cpu = GaussianMixtureIC(2, 4, trainer_params={"accelerator": "cpu"}, **params).fit(X)
    with simulated_device():
        on_device = GaussianMixtureIC(2, 4, trainer_params={"accelerator": "cuda"}, **params)
        on_device.fit(X)
    np.testing.assert_allclose(on_device.results_["bic"], on_cpu.results_["bic"], rtol=1e-9)


def test_sampling_stays_on_the_device(X, of_cpu):
    model = deepcopy(of_cpu.model_)
    with simulated_device() as device:
        model.to("cuda:0")
        device.transfers.clear()
        samples = model.sample(20_000)
        assert isinstance(samples, OnDevice)
        mean = samples.held.mean(0)
    # Where the samples of each component end, if each has a matrix of its own.
    assert device.count("read") == (of_cpu.covariance_type == "full")
    assert device.count("send") == device.count("wait") == 0
    # Of standard deviation 4 about the mean of three components.
    np.testing.assert_allclose(mean, X.mean(0), atol=5 * 4 / 20_000**0.5)

import threading

import numpy as np
import pytest
import torch

from sklearn_torch_gmm import GaussianMixtureIC
from sklearn_torch_gmm.core.e_step import EStep
from sklearn_torch_gmm.core.inference import Inference
from sklearn_torch_gmm.core.matmul_precision import full_precision_products, precision
from tests.estimators import MIXTURE_CLASSES, make

BACKENDS = (torch.backends.cuda, torch.backends.mkldnn)
HAS_SETTINGS_OF_BACKENDS = hasattr(torch.backends, "fp32_precision")
needs_settings_of_backends = pytest.mark.skipif(
    not HAS_SETTINGS_OF_BACKENDS, reason="this torch has one setting for all backends"
)


def settings():
    if not HAS_SETTINGS_OF_BACKENDS:
        return [precision()]
    each = [backend.matmul.fp32_precision for backend in BACKENDS]
    return [precision(), torch.backends.fp32_precision, *each]


@pytest.fixture(autouse=True)
def _as_before():
    yield
    torch.set_float32_matmul_precision("highest")
    if HAS_SETTINGS_OF_BACKENDS:
        torch.backends.fp32_precision = "none"
        for backend in BACKENDS:
            backend.matmul.fp32_precision = "none"


def set_for_all(value):
    torch.backends.fp32_precision = value


def set_for_cuda(value):
    torch.backends.cuda.matmul.fp32_precision = value


WAYS = [
    pytest.param(torch.set_float32_matmul_precision, "medium", id="medium"),
    pytest.param(torch.set_float32_matmul_precision, "high", id="high"),
    pytest.param(set_for_all, "tf32", id="all", marks=needs_settings_of_backends),
    pytest.param(set_for_all, "bf16", id="all, bf16", marks=needs_settings_of_backends),
    pytest.param(set_for_cuda, "tf32", id="CUDA", marks=needs_settings_of_backends),
]
any_way = pytest.mark.parametrize(("change", "value"), WAYS)


@any_way
def test_products_are_in_full_precision_for_a_while(change, value):
    change(value)
    before = settings()
    with full_precision_products():
        assert precision() == "highest"
        assert not {"tf32", "bf16"} & set(settings()[2:])
    assert settings() == before


@needs_settings_of_backends
def test_a_backend_that_followed_the_others_goes_on_following_them():
    torch.backends.fp32_precision = "bf16"
    with full_precision_products():
        pass
    torch.backends.fp32_precision = "ieee"
    assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"


def test_the_last_of_several_threads_restores_the_setting():
    torch.set_float32_matmul_precision("medium")
    entered, may_leave = threading.Event(), threading.Event()

    def other():
        with full_precision_products():
            entered.set()
            may_leave.wait(60)

    thread = threading.Thread(target=other)
    with full_precision_products():
        thread.start()
        assert entered.wait(60)
    assert precision() == "highest"
    may_leave.set()
    thread.join()
    assert precision() == "medium"


def test_what_the_program_sets_meanwhile_stays():
    torch.set_float32_matmul_precision("medium")
    with full_precision_products():
        torch.set_float32_matmul_precision("high")
    assert precision() == "high"


def test_an_error_restores_the_setting():
    torch.set_float32_matmul_precision("medium")
    with pytest.raises(KeyError), full_precision_products():
        raise KeyError
    assert precision() == "medium"


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return np.vstack([rng.normal(size=(300, 8)), rng.normal(size=(300, 8)) + 4]).astype("float32")


@pytest.fixture
def seen(monkeypatch):
    """The precisions in which passes over the rows, and predictions, have run."""
    found = []
    weigh, chunks = EStep.weigh, Inference._chunks

    def spied(wrapped):
        def spy(*args, **kwargs):
            found.append(precision())
            return wrapped(*args, **kwargs)

        return spy

    monkeypatch.setattr(EStep, "weigh", spied(weigh))
    monkeypatch.setattr(Inference, "_chunks", spied(chunks))
    return found


CALLS = {
    "fit": lambda mixture, X: mixture.fit(X),
    "predict": lambda mixture, X: mixture.predict(X),
    "predict_proba": lambda mixture, X: mixture.predict_proba(X),
    "score_samples": lambda mixture, X: mixture.score_samples(X),
    "partial_fit": lambda mixture, X: mixture.partial_fit(X),
    "search": lambda mixture, X: GaussianMixtureIC(1, 2, random_state=0).fit(X),
}


@any_way
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
def test_fits_and_predictions_are_in_full_precision(cls, X, seen, call, change, value):
    params = {"precision": "32-true", "accelerator": "cpu"}
    mixture = make(cls, 2, random_state=0, trainer_params=params).fit(X)
    change(value)
    before = settings()
    seen.clear()
    CALLS[call](mixture, X)
    assert set(seen) == {"highest"}
    assert settings() == before


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_results_in_float32_do_not_depend_on_the_setting(X, covariance_type):
    """On processors with products in bfloat16 they would."""
    found = []
    for value in ("highest", "medium"):
        torch.set_float32_matmul_precision(value)
        mixture = make(
            MIXTURE_CLASSES[0], 2, random_state=0, covariance_type=covariance_type,
            trainer_params={"precision": "32-true", "accelerator": "cpu"},
        ).fit(X)  # fmt: skip
        found.append([mixture.means_, mixture.score_samples(X), mixture.predict_proba(X)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)

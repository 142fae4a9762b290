from types import SimpleNamespace

import pytest
import torch

from sklearn_torch_gmm.core.device import arithmetic_dtype, automatic_accelerator, device_for

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)


@pytest.fixture
def with_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


@pytest.fixture
def without_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_automatic_accelerator_is_cuda_where_it_is_available(with_cuda):
    assert automatic_accelerator() == "cuda"


def test_automatic_accelerator_is_never_mps(without_cuda, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert automatic_accelerator() == "cpu"


@pytest.mark.parametrize(
    ("trainer_params", "expected"),
    [
        ({}, "cuda:0"),
        ({"accelerator": "auto"}, "cuda:0"),
        ({"accelerator": "gpu"}, "cuda:0"),
        ({"accelerator": "gpu", "devices": 2}, "cuda:0"),
        ({"accelerator": "cuda", "devices": [3]}, "cuda:3"),
        ({"accelerator": "cuda", "devices": [4]}, "cuda:0"),
        ({"accelerator": "cuda", "devices": []}, "cuda:0"),
        ({"accelerator": "cuda", "devices": "3,"}, "cuda:3"),
        ({"accelerator": "cuda", "devices": "2, 3"}, "cuda:2"),
        ({"accelerator": "cuda", "devices": "3"}, "cuda:0"),
        ({"accelerator": "cuda", "devices": "auto"}, "cuda:0"),
        ({"accelerator": "cuda", "devices": "-1"}, "cuda:0"),
        ({"accelerator": "cpu", "devices": 4}, "cpu"),
        ({"accelerator": "mps"}, "mps:0"),
    ],
    ids=str,
)
def test_device_is_that_of_the_trainer(with_cuda, trainer_params, expected):
    assert device_for(trainer_params) == torch.device(expected)


@pytest.mark.parametrize("accelerator", ["auto", "gpu", "cuda", "cpu"])
def test_device_is_the_cpu_where_there_is_no_other(without_cuda, accelerator):
    assert device_for({"accelerator": accelerator, "devices": [1]}) == CPU


def test_cpu_computes_in_float64():
    assert arithmetic_dtype(CPU) == torch.float64


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((6, 0), torch.float64),  # P100
        ((6, 1), torch.float32),  # GTX 1080
        ((7, 0), torch.float64),  # V100
        ((7, 5), torch.float32),  # T4
        ((8, 0), torch.float64),  # A100
        ((8, 6), torch.float32),  # RTX 3090
        ((8, 9), torch.float32),  # L4
        ((9, 0), torch.float64),  # H100
        ((10, 0), torch.float64),  # B200
        ((12, 0), torch.float32),  # RTX 5090: a capability of x.0, and 1/64 of float32's rate
    ],
)
def test_gpus_compute_in_float64_where_it_is_fast(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert arithmetic_dtype(CUDA) == expected


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("gfx900", torch.float32),  # Vega 64
        ("gfx906:sramecc+:xnack-", torch.float64),  # MI50
        ("gfx90a:sramecc+:xnack-", torch.float64),  # MI250
        ("gfx942:sramecc+:xnack-", torch.float64),  # MI300
        ("gfx1030", torch.float32),  # RX 6800
        ("gfx1100", torch.float32),  # RX 7900
    ],
)
def test_gpus_of_amd_are_known_by_their_architecture(monkeypatch, architecture, expected):
    """All that begin with gfx90 have the capability 9.0, which is that of an H100."""
    properties = SimpleNamespace(gcnArchName=architecture)
    monkeypatch.setattr(torch.version, "hip", "6.2")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert arithmetic_dtype(CUDA) == expected


def test_mps_computes_in_float32():
    assert arithmetic_dtype(torch.device("mps")) == torch.float32


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("64-true", torch.float64),
        ("64", torch.float64),
        (64, torch.float64),
        ("32-true", torch.float32),
        ("32", torch.float32),
        (32, torch.float32),
    ],
)
@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_precision_overrides_the_device(device, precision, expected):
    assert arithmetic_dtype(device, precision) == expected


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-true", 16, "double"])
def test_error_for_another_precision_says_what_would_do(precision):
    with pytest.raises(ValueError, match=f"'64-true' or '32-true' for EM, got {precision!r}"):
        arithmetic_dtype(CPU, precision)

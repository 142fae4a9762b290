import pytest
import torch

from sklearn_torch_gmm.core import processor

MIB = 2**20


@pytest.fixture
def capabilities(monkeypatch):
    known = {}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    return known


@pytest.mark.parametrize(
    ("cache", "expected"),
    [
        (2 * MIB, 16 * MIB),  # Intel Xeon, fourth generation
        (MIB, 8 * MIB),  # AMD EPYC, fourth generation
        (MIB // 2, 8 * MIB),  # AMD EPYC, third generation
        (16 * MIB, 16 * MIB),  # a cache that several cores share
        (0, 16 * MIB),
    ],
)
def test_chunks_take_what_caches_hold(cache, expected, capabilities):
    capabilities["l2_cache_size"] = cache
    assert processor.chunk_bytes() == expected


def test_sums_lie_by_component_on_processors_of_amd_alone(capabilities):
    capabilities["sse4a"] = True
    assert processor.sums_by_component()
    capabilities["sse4a"] = False
    assert not processor.sums_by_component()


def test_nothing_is_asked_of_a_torch_that_cannot_tell(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert processor.chunk_bytes() == processor.MOST_CHUNK_BYTES
    assert not processor.sums_by_component()


def test_names_of_capabilities_are_those_of_torch():
    if not hasattr(torch.cpu, "get_capabilities"):
        pytest.skip("this torch cannot tell")
    known = processor.capabilities()
    if known["architecture"] == "x86_64":
        assert {"l2_cache_size", "sse4a"} <= set(known)


@pytest.mark.parametrize(
    ("length", "num_components", "expected"),
    [
        (34, 16, 36),  # spherical, 32 features
        (65, 16, 72),  # diag, 32 features
        (129, 64, 132),
        (40, 16, 40),  # a rest of four is as fast as twelve
        (36, 16, 36),
        (6, 10, 6),  # half of twelve or less costs less than twelve
        (9, 10, 12),
        (34, 7, 34),
        (34, 8, 36),
    ],
)
def test_rests_of_more_than_four_moments_become_twelve(length, num_components, expected):
    assert processor.fast_length(length, num_components) == expected

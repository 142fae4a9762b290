import json
import os
import tracemalloc

import numpy as np
import pytest
import safetensors.torch
import torch

from sklearn_torch_gmm.core.serialization import (
    FORMAT_VERSION,
    dump_tensors,
    is_storable,
    parse_tensors,
    read_tensors,
)

GENERATOR = np.random.default_rng(7)

ARRAYS = {
    "float64": GENERATOR.normal(size=(3, 2)),
    "float32": GENERATOR.normal(size=5).astype(np.float32),
    "float16": GENERATOR.normal(size=(2, 1, 2)).astype(np.float16),
    "int64": np.array([-(2**63), 2**63 - 1]),
    "int32": np.array([[-(2**31)], [2**31 - 1]], dtype=np.int32),
    "int16": np.array([-(2**15), 2**15 - 1], dtype=np.int16),
    "int8": np.array([-128, 127, 0], dtype=np.int8),
    "uint8": np.array([0, 255, 1], dtype=np.uint8),
    "bool": np.array([True, False, True]),
    "number": np.array(1.5),
    "empty": np.zeros((0, 3)),
    "not finite": np.array([np.nan, np.inf, -np.inf, -0.0]),
}

# The element types of the safetensors specification, as NumPy writes them.
SPECIFICATION = {
    "BOOL": "?",
    "U8": "<u1",
    "I8": "<i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}


def dumped(arrays=None, document=None):
    arrays = ARRAYS if arrays is None else arrays
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return dump_tensors(tensors, document or {})


def read_by_specification(content):
    """Read a file by safetensors' specification, with nothing of ours."""
    length = int(np.frombuffer(content[:8], "<u8")[0])
    header = json.loads(content[8 : 8 + length])
    (text,) = header.pop("__metadata__").values()
    arrays = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        octets = content[8 + length + start : 8 + length + end]
        arrays[name] = np.frombuffer(octets, SPECIFICATION[entry["dtype"]]).reshape(entry["shape"])
    return arrays, json.loads(text)


def with_header(header, body, **document):
    """Return a hand-made file."""
    metadata = {"sklearn_torch_gmm": json.dumps({"format_version": 1, **document})}
    encoded = json.dumps({"__metadata__": metadata, **header}).encode()
    return len(encoded).to_bytes(8, "little") + encoded + body


def entry(shape, offsets, dtype="F64"):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_file_follows_the_specification_of_safetensors():
    arrays, metadata = read_by_specification(dumped(document={"made by": "a test"}))
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
    assert metadata["made by"] == "a test"
    assert metadata["format_version"] == FORMAT_VERSION


def test_safetensors_reads_the_file():
    tensors = {name: torch.from_numpy(array) for name, array in ARRAYS.items()}
    tensors["bfloat16"] = torch.randn(3, generator=torch.manual_seed(0)).bfloat16()
    found = safetensors.torch.load(dump_tensors(tensors, {}))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0, equal_nan=True)


def test_round_trip_changes_nothing():
    found, metadata = parse_tensors(dumped(document={"a": "b"}), "file")
    assert metadata["a"] == "b"
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name].numpy(), array)
        assert found[name].numpy().dtype == array.dtype
    assert found["not finite"].signbit().tolist()[3]


def test_round_trip_of_views():
    whole = torch.arange(24.0).reshape(4, 6)
    views = {"columns": whole.T, "every second": whole[::2, 1::2], "expanded": whole[:1, 0]}
    views["expanded"] = views["expanded"].expand(5)
    found, _ = parse_tensors(dump_tensors(views, {}), "file")
    for name, view in views.items():
        torch.testing.assert_close(found[name], view, rtol=0, atol=0)


def test_gradients_are_left_behind():
    tensor = torch.ones(2, requires_grad=True)
    found, _ = parse_tensors(dump_tensors({"a": tensor}, {}), "file")
    assert not found["a"].requires_grad


def test_same_tensors_give_the_same_file():
    backwards = dict(reversed(ARRAYS.items()))
    assert dumped() == dumped(backwards)


def test_numbers_begin_at_multiples_of_their_width():
    content = dumped()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    del header["__metadata__"]
    for name, description in header.items():
        start = 8 + length + description["data_offsets"][0]
        assert start % ARRAYS[name].dtype.itemsize == 0


def test_loaded_memory_is_writable_and_their_own():
    content = dumped({"a": np.ones(2), "b": np.ones(2)})
    found, _ = parse_tensors(content, "file")
    found["a"].zero_()
    assert found["b"].tolist() == [1.0, 1.0]
    assert content == dumped({"a": np.ones(2), "b": np.ones(2)})


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(2, dtype=torch.complex64),
        torch.zeros(2, 2).to_sparse(),
        torch.zeros(2, device="meta"),
    ],
    ids=["complex", "sparse", "meta"],
)
def test_tensors_that_are_not_storable(tensor):
    assert not is_storable(tensor)


def test_every_truncation_is_refused():
    content = dumped({"a": np.arange(3.0)})
    for size in range(len(content)):
        with pytest.raises(ValueError, match=r"^the/file "):
            parse_tensors(content[:size], "the/file")


@pytest.mark.parametrize("mask", [0x01, 0x20, 0xFF])
def test_every_altered_byte_is_refused(mask):
    content = dumped({"a": np.arange(3.0), "b": np.array([True])}, {"config": "x"})
    for position in range(len(content)):
        altered = bytearray(content)
        altered[position] ^= mask
        with pytest.raises(ValueError, match=r"^the/file "):
            parse_tensors(bytes(altered), "the/file")


def test_appended_bytes_are_refused():
    with pytest.raises(ValueError, match=r"^the/file is damaged"):
        parse_tensors(dumped() + b"\0", "the/file")


@pytest.mark.parametrize(
    "header",
    [
        {"a": entry([10**12], [0, 16])},
        {"a": entry([10**12], [0, 8 * 10**12])},
        {"a": entry([2**62, 4], [0, 16])},
        {"a": entry([-2], [0, 16])},
        {"a": entry([-1, -2], [0, 16])},
        {"a": entry([2.0], [0, 16])},
        {"a": entry([True, 2], [0, 16])},
        {"a": entry(2, [0, 16])},
        {"a": entry([2], [0, 16, 16])},
        {"a": entry([2], [-16, 0])},
        {"a": entry([2], [16, 0])},
        {"a": entry([1], [8, 16])},
        {"a": entry([1], [0, 8])},
        {"a": entry([2], [0, 16]), "b": entry([2], [0, 16])},
        {"a": entry([2], [0, 16]), "b": entry([1], [8, 16])},
        {"a": entry([2], [0, 16], "F65")},
        {"a": entry([2], [0, 16], None)},
        {"a": entry([2], [0, 16], ["F64"])},
        {"a": entry([2], [0, 16]), "b": entry([0, 2**62, 2**62, 2**62], [16, 16])},
        {"a": entry([2], [0, 16]), "b": entry([0, 10**30], [16, 16])},
        {"a": {"dtype": "F64", "shape": [2]}},
        {"a": [1, 2]},
        {},
    ],
)
def test_false_claims_are_refused_before_memory_is_taken(header):
    content = with_header(header, np.array([1.0, 2.0]).tobytes())
    tracemalloc.start()
    try:
        # Refused by the package, not by a checksum that does not hold.
        with pytest.raises(ValueError, match=r"^the/file is damaged.*(while deserializ|Stride)"):
            parse_tensors(content, "the/file")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        (2**63).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"{}",
        (4).to_bytes(8, "little") + b"NaN ",
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
        b"PK\x03\x04" + b"\0" * 100,
        with_header({"a": entry([2], [0, 16])}, b"\0" * 16),
        with_header({"a": entry([2], [0, 16])}, b"\0" * 16, sha256=""),
        with_header({}, b""),
        with_header({}, b"", format_version="one"),
        with_header({}, b"", format_version=0),
        with_header({}, b"", format_version=True),
        with_header({}, b"", format_version=[1]),
        with_header({"__metadata__": {"sklearn_torch_gmm": "[1]"}}, b""),
        with_header({"__metadata__": {"sklearn_torch_gmm": '{"format_version": NaN}'}}, b""),
        with_header({"__metadata__": {"sklearn_torch_gmm": "[" * 10**5}}, b""),
        with_header({"__metadata__": {"theirs": "{}"}}, b""),
    ],
)
def test_what_is_no_file_of_ours_is_refused(content):
    with pytest.raises(ValueError, match=r"^the/file "):
        parse_tensors(content, "the/file")


def test_newer_format_is_refused_with_what_to_do():
    content = with_header({}, b"", format_version=FORMAT_VERSION + 1)
    with pytest.raises(ValueError, match=rf"has format version {FORMAT_VERSION + 1}.*update"):
        parse_tensors(content, "the/file")


def test_a_file_is_not_read_before_its_sizes_agree(tmp_path):
    """Extended as a sparse file, which takes no room on the disk."""
    (tmp_path / "file").write_bytes(dumped())
    os.truncate(tmp_path / "file", 2**40)
    with pytest.raises(ValueError, match="file is damaged"):
        read_tensors(tmp_path / "file")

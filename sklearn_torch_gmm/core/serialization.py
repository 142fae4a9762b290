"""Tensors as bytes that cannot run code when they are read.

The layout is that of safetensors: eight bytes with the length of a JSON header, the header, then
the numbers as they lie in memory, little-endian. It is written here, rather than taken from that
package, since it is short. torch's own files are pickles, which a restricted reader guards; such a
guard has been got round before (CVE-2025-32434, up to torch 2.5). NumPy's may be compressed, so
that a small file asks for any amount of memory. Here a tensor is never larger than its file.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor

FORMAT_VERSION = 1
"""Version of the files of saved models and of the directories they stand in.

To change what is written:

1. Decide whether an older reader would go wrong. One that only ignores what is new (a further file,
   a further parameter with a default) does not: leave the number alone, and go on at 4.
2. Raise the number by one. Files with a larger number than the reader's are refused.
3. Let the reader turn the older form into the new one, next to where it reads it. Every version
   that was ever released is read.
4. Run ``python -m tests.make_saved_models``, which adds models written by this version to
   ``tests/data/models``, and commit them; those of earlier versions stay as they are.
5. Describe the change in ``docs/persistence.md`` and in the changelog.
"""

_CODES: dict[torch.dtype, str] = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}
_DTYPES = {code: dtype for dtype, code in _CODES.items()}

_LENGTH_BYTES = 8
_METADATA = "__metadata__"
_MAX_DIMENSIONS = 32


def is_storable(tensor: Tensor) -> bool:
    """Whether :func:`dump_tensors` knows the tensor's type and layout."""
    is_dense = tensor.layout == torch.strided and not tensor.is_meta
    return is_dense and tensor.dtype in _CODES and tensor.dim() <= _MAX_DIMENSIONS


def dump_json(content: object) -> bytes:
    """Return lists, dictionaries and plain values as strict JSON that people can read."""
    return json.dumps(content, indent=2, allow_nan=False).encode() + b"\n"


def parse_json(content: bytes | str, origin: str) -> Any:
    """Parse strict JSON.

    Parameters
    ----------
    content : bytes or str
    origin : str
        The file, for messages.

    Raises
    ------
    ValueError
        If it is none.
    """
    try:
        return json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        msg = f"{origin} is damaged: it holds no valid JSON ({error})."
        raise ValueError(msg) from error


def _refuse_constant(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def check_format_version(version: object, origin: str) -> None:
    """Raise ValueError unless files of that version can be read."""
    if isinstance(version, int) and version > FORMAT_VERSION:
        msg = (
            f"{origin} has format version {version}, and this version of sklearn_torch_gmm reads "
            f"versions up to {FORMAT_VERSION}: update the package."
        )
        raise ValueError(msg)
    if type(version) is not int or version < 1:
        _raise_damaged(origin, f"its format version is {version!r}")


def dump_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return tensors, by name, as the content of a file.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Such that :func:`is_storable` holds.
    metadata : mapping of str to str
        Kept beside them.
    """
    # The widest numbers first: then each tensor starts at a multiple of its own width.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {
        _METADATA: {**metadata, "format_version": str(FORMAT_VERSION)},
    }
    chunks = []
    end = 0
    for name in names:
        tensor = tensors[name]
        chunks.append(_to_bytes(tensor))
        start, end = end, end + len(chunks[-1])
        header[name] = {
            "dtype": _CODES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    body = b"".join(chunks)
    header[_METADATA]["sha256"] = _checksum(header, body)
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % _LENGTH_BYTES)
    return len(encoded).to_bytes(_LENGTH_BYTES, "little") + encoded + body


def parse_tensors(content: bytes, origin: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a file that :func:`dump_tensors` made.

    Parameters
    ----------
    content : bytes
    origin : str
        The file, for messages.

    Raises
    ------
    ValueError
        If the content is of a newer format, incomplete or altered. No memory is taken before the
        sizes have been compared with the content's own.
    """
    if content[_LENGTH_BYTES : _LENGTH_BYTES + 1] != b"{":
        msg = (
            f"{origin} is damaged, or was not written by sklearn_torch_gmm: it does not begin as "
            "files in safetensors' format do. Those of torch.save are read by torch.load."
        )
        raise ValueError(msg)
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    if len(content) < _LENGTH_BYTES or length > len(content) - _LENGTH_BYTES:
        _raise_damaged(origin, "it ends before its header does")
    start = _LENGTH_BYTES + length
    header = parse_json(content[_LENGTH_BYTES:start], origin)
    body = memoryview(content)[start:]
    if not isinstance(header, dict) or not _is_metadata(header.get(_METADATA)):
        msg = f"{origin} was not written by sklearn_torch_gmm: its header has no checksum."
        raise ValueError(msg)
    metadata: dict[str, str] = header[_METADATA]
    version = metadata["format_version"]
    check_format_version(
        int(version) if version.isdecimal() and len(version) < 9 else version, origin
    )
    entries = {name: entry for name, entry in header.items() if name != _METADATA}
    if not all(_is_entry(entry) for entry in entries.values()):
        _raise_damaged(origin, "its header does not describe tensors")
    if metadata["sha256"] != _checksum(header, body):
        _raise_damaged(origin, "its checksum does not hold")
    _check_places(entries, len(body), origin)
    tensors = {}
    for name, entry in entries.items():
        start, end = entry["data_offsets"]
        try:
            tensors[name] = _from_bytes(body[start:end], entry["dtype"], entry["shape"])
        except (RuntimeError, TypeError, OverflowError):
            _raise_damaged(origin, f"the tensor {name!r} cannot have the shape {entry['shape']}")
    return tensors, metadata


def _raise_damaged(origin: str, reason: str) -> NoReturn:
    msg = f"{origin} is damaged: {reason}. Save the model again, or take the file from a backup."
    raise ValueError(msg)


def _is_metadata(value: object) -> bool:
    return (
        isinstance(value, dict)
        and {"format_version", "sha256"} <= value.keys()
        and all(isinstance(text, str) for text in value.values())
    )


def _checksum(header: Mapping[str, Any], body: bytes | memoryview) -> str:
    """SHA-256 of everything but itself."""
    metadata = {key: text for key, text in header[_METADATA].items() if key != "sha256"}
    rest = {**header, _METADATA: metadata}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())
    digest.update(body)
    return digest.hexdigest()


def _check_places(entries: Mapping[str, Any], size: int, origin: str) -> None:
    """Raise ValueError unless the tensors fill the ``size`` bytes without gap or overlap.

    Tensors that overlapped could together be larger than their file.
    """
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        start, end = entry["data_offsets"]
        width = _DTYPES[entry["dtype"]].itemsize
        if start != position or end - start != math.prod(entry["shape"]) * width:
            _raise_damaged(origin, f"the place of the tensor {name!r} does not fit its shape")
        position = end
    if position != size:
        _raise_damaged(origin, f"its tensors take {position} bytes, and it has {size}")


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        return False
    shape, offsets = entry["shape"], entry["data_offsets"]
    return (
        isinstance(entry["dtype"], str)
        and entry["dtype"] in _DTYPES
        and _are_sizes(shape)
        and len(shape) <= _MAX_DIMENSIONS
        and _are_sizes(offsets)
        and len(offsets) == 2
    )


def _are_sizes(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _to_bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().flatten()
    return bytes(_in_little_endian(flat.view(torch.uint8), flat.element_size()).numpy().data)


def _from_bytes(content: memoryview, code: str, shape: list[int]) -> Tensor:
    dtype = _DTYPES[code]
    if not content:
        return torch.empty(shape, dtype=dtype, device="cpu")
    octets = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    if dtype is torch.bool:
        return octets.ne(0).reshape(shape)
    return _in_little_endian(octets, dtype.itemsize).view(dtype).reshape(shape)


def _in_little_endian(octets: Tensor, width: int) -> Tensor:
    if sys.byteorder == "little":
        return octets
    return octets.reshape(-1, width).flip(1).flatten()

"""Tensors and JSON in one file that cannot run code when it is read.

The format is that of safetensors, whose package checks every size that a file claims against the
file's own. torch's files are pickles with restrictions, which have been bypassed before
(CVE-2025-32434, up to torch 2.5). NumPy's may be compressed, so that a small file may request any
amount of memory. Here everything except the tensors is one JSON document in the header, with a
checksum of both.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from sklearn_torch_gmm.core.files import check_regular_file

FORMAT_VERSION = 2
"""Version of the files of saved models.

To change the content of the files:

1. Decide whether an older reader would fail. If it only ignores an addition (a parameter with a
   default), it would not: keep the number, and continue with step 4.
2. Raise the number by one. Files with a larger number than the reader's are refused.
3. Let the reader convert the older form to the new one, where it reads it. Every version that was
   ever released can be read.
4. Run ``python -m tests.make_saved_models``, which adds models written by this version to
   ``tests/data/models``, and commit them; models of earlier versions stay unchanged.
5. Describe the change in ``docs/saving.md`` and in the changelog.
"""

_DOCUMENT = "sklearn_torch_gmm"
"""The one key of the header's metadata; with more, their order would differ from run to run."""

_LENGTH_BYTES = 8
_MOST_HEADER_BYTES = 100_000_000
"""Maximum size of a header that the package accepts."""

_STORABLE = frozenset(
    {
        torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
        torch.float16, torch.bfloat16, torch.float32, torch.float64,
    }
)  # fmt: skip


def is_storable(tensor: Tensor) -> bool:
    """Whether :func:`dump_tensors` knows the tensor's type and layout."""
    is_dense = tensor.layout == torch.strided and not tensor.is_meta
    return is_dense and tensor.dtype in _STORABLE


def dump_tensors(tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> bytes:
    """Return tensors for which :func:`is_storable` holds, and JSON, as the content of a file.

    Raises
    ------
    ValueError
        If a file of this format cannot hold the document.
    """
    # The package rejects tensors that share memory, and its layout does not allow views.
    own = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in sorted(tensors.items())
    }
    whole = {**document, "format_version": FORMAT_VERSION}
    whole["sha256"] = _checksum(own, whole)
    text = json.dumps(whole, allow_nan=False)
    try:
        return bytes(safetensors.torch.save(own, {_DOCUMENT: text}))
    except SafetensorError as error:
        msg = f"Lists and texts of {len(text):,} bytes cannot be stored: use arrays ({error})."
        raise ValueError(msg) from error


def read_tensors(
    path: Path, *, follow_links: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the document of a file, without allocations before its sizes agree.

    Raises
    ------
    OSError
        If the file does not exist, or is not a regular file.
    ValueError
        In the same cases as :func:`parse_tensors`.
    """
    check_regular_file(path, follow_links=follow_links)
    # Opened once, since another process may replace the file at any time.
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(_LENGTH_BYTES)
        length = int.from_bytes(start, "little")
        header = file.read(length) if length <= min(size, _MOST_HEADER_BYTES) else b""
        wanted = _LENGTH_BYTES + length + _bytes_of_tensors(header)
        if size != wanted:
            _raise_foreign(str(path), ValueError(f"it has {size} bytes, but claims {wanted}"))
        content = start + header + file.read()
    return parse_tensors(content, str(path))


def _bytes_of_tensors(header: bytes) -> int:
    """Return the end of the last tensor according to the header, or 0 if it is invalid."""
    try:
        entries = json.loads(header).items()
        ends = [entry["data_offsets"][1] for name, entry in entries if name != "__metadata__"]
        return int(max(ends, default=0))
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return 0


def parse_tensors(content: bytes, origin: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return what :func:`dump_tensors` was given; ``origin`` is the file, for messages.

    Raises
    ------
    ValueError
        If the content has a newer format, is incomplete or altered, or was not written by it.
    """
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(content)
    except (SafetensorError, RuntimeError) as error:
        _raise_foreign(origin, error)
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    metadata = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length]).get("__metadata__", {})
    if _DOCUMENT not in metadata:
        msg = f"{origin} was not written by sklearn_torch_gmm: remove it, or give another path."
        raise ValueError(msg)
    document = _parse_json(metadata[_DOCUMENT], origin)
    version = document.get("format_version") if isinstance(document, dict) else None
    if type(version) is int and version > FORMAT_VERSION:
        msg = (
            f"{origin} has format version {version}, but this version of sklearn_torch_gmm reads "
            f"versions up to {FORMAT_VERSION}: update the package."
        )
        raise ValueError(msg)
    if type(version) is not int or version < 1:
        _raise_damaged(origin, f"its format version is {version!r}")
    if document.pop("sha256", None) != _checksum(tensors, document):
        _raise_damaged(origin, "its checksum is wrong")
    return tensors, document


def _checksum(tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of everything except the checksum."""
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _parse_json(text: str, origin: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        _raise_damaged(origin, f"it does not contain valid JSON ({error})")


def _refuse_constant(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def _raise_damaged(origin: str, reason: str) -> NoReturn:
    msg = f"{origin} is damaged: {reason}. Remove it and save again, or take it from a backup."
    raise ValueError(msg)


def _raise_foreign(origin: str, error: Exception) -> NoReturn:
    msg = (
        f"{origin} is damaged, or was not written by sklearn_torch_gmm: {error}. If it is a model "
        "of this package, remove it and save again. torch.load reads the files of torch.save, and "
        "ckpt_path of fit takes Lightning's checkpoints."
    )
    raise ValueError(msg) from error

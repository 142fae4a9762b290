"""The directory of a saved estimator: written and replaced in one step, checked when read.

A file system renames one file in one step, and a model is several. So ``manifest.json`` says which
files belong to the model, with their sizes and checksums, and a save goes like this:

1. each new file is written as ``NAME.new``;
2. the new manifest replaces the old one: from here on the model is the new one;
3. each ``NAME.new`` is renamed to ``NAME``, and files of the old model alone are removed.

Whoever reads takes of ``NAME`` and ``NAME.new`` the one that the manifest means. After a crash
before step 2 that is the old model throughout, after it the new one. The next save tidies up.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn

import sklearn
import torch

import sklearn_torch_gmm
from sklearn_torch_gmm.core.files import read_file, sync_directory, write_file
from sklearn_torch_gmm.core.model import MODEL_FILE
from sklearn_torch_gmm.core.serialization import (
    FORMAT_VERSION,
    check_format_version,
    dump_json,
    parse_json,
)

MANIFEST = "manifest.json"
PARAMETER_FILES = ("params.json", "params.safetensors")
ATTRIBUTE_FILES = ("attributes.json", MODEL_FILE)
_FILES = (*PARAMETER_FILES, *ATTRIBUTE_FILES)

_ATTEMPTS = 4


def write_model(
    directory: Path, class_name: str, files: Mapping[str, bytes], *, replaced: Collection[str]
) -> None:
    """Write files of a model, so that a crash leaves those that were there or the new ones.

    Parameters
    ----------
    directory : Path
        Made if it is not there. One process at a time may write to it.
    class_name : str
        Of the estimator.
    files : mapping of str to bytes
        Contents of files named in ``replaced``.
    replaced : collection of str
        The files that this is about; those not in ``files`` are removed. Others are kept.

    Raises
    ------
    OSError
        If the path is one of a file, or the directory holds files of these names that are not ours.
    ValueError
        If files are to be kept that belong to another class.
    """
    if directory.exists() and not directory.is_dir():
        msg = "A model is saved to a directory, and this is a file: give another path"
        raise NotADirectoryError(errno.ENOTDIR, msg, str(directory))
    old = _read_manifest(directory) if (directory / MANIFEST).exists() else None
    if old is None:
        _refuse_strangers(directory)
    kept = {name: seal for name, seal in _seals(old).items() if name not in replaced}
    if old is not None and kept:
        _check_class(old, class_name, directory)
    if old is not None:
        _settle(directory, _seals(old))

    if not directory.exists():
        directory.mkdir(parents=True, exist_ok=True)
        sync_directory(directory.parent)
    seals = {**kept, **{name: _seal(content) for name, content in files.items()}}
    pending = {
        directory / _pending(name): content
        for name, content in {**files, MANIFEST: _manifest(class_name, seals)}.items()
    }
    try:
        for path, content in pending.items():
            write_file(path, content)
        sync_directory(directory)
    except BaseException:
        for path in pending:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        raise
    # From here on the new files belong to a model, and nothing may take them away.
    (directory / _pending(MANIFEST)).replace(directory / MANIFEST)
    sync_directory(directory)
    _settle(directory, seals)


def read_model(directory: Path, class_name: str, wanted: Collection[str]) -> dict[str, bytes]:
    """Return those of the wanted files that the model has.

    Parameters
    ----------
    directory : Path
    class_name : str
        Of the estimator that is to be loaded.
    wanted : collection of str

    Raises
    ------
    OSError
        If there is no model, or a file of it is missing.
    ValueError
        If it is of a newer format, of another class, or altered.
    """
    if not directory.exists():
        msg = "There is no such directory: give the path that was saved to"
        raise FileNotFoundError(errno.ENOENT, msg, str(directory))
    if not directory.is_dir():
        msg = "A saved estimator is a directory, and this is a file: give the directory"
        raise NotADirectoryError(errno.ENOTDIR, msg, str(directory))
    for attempt in range(1, _ATTEMPTS + 1):
        manifest = _read_manifest(directory)
        _check_class(manifest, class_name, directory)
        chosen = {name: seal for name, seal in _seals(manifest).items() if name in wanted}
        try:
            return {name: _read_sealed(directory, name, seal) for name, seal in chosen.items()}
        except (OSError, ValueError):
            # Another process may be saving: files were renamed since the manifest was read.
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError


# -- the manifest ---------------------------------------------------------------------------------


def _manifest(class_name: str, seals: Mapping[str, Mapping[str, Any]]) -> bytes:
    content: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "class": class_name,
        "versions": {
            "sklearn_torch_gmm": sklearn_torch_gmm.__version__,
            "scikit-learn": sklearn.__version__,
            "torch": str(torch.__version__),
        },
        "files": seals,
    }
    return dump_json({**content, "sha256": _checksum(content)})


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    try:
        content = read_file(path)
    except FileNotFoundError:
        msg = (
            "There is no saved estimator: either nothing was saved here, or its first save was "
            "interrupted. Save it again. The missing file"
        )
        raise FileNotFoundError(errno.ENOENT, msg, str(path)) from None
    manifest = parse_json(content, str(path))
    if not isinstance(manifest, dict) or "format_version" not in manifest:
        msg = f"{path} was not written by sklearn_torch_gmm: give another directory."
        raise ValueError(msg)
    check_format_version(manifest["format_version"], str(path))
    checksum = manifest.pop("sha256", None)
    try:
        is_whole = checksum == _checksum(manifest)
    except RecursionError:
        is_whole = False
    seals = manifest.get("files")
    has_seals = isinstance(seals, dict) and all(map(_is_seal, seals.values()))
    if not (is_whole and has_seals and isinstance(manifest.get("class"), str)):
        _raise_altered(path)
    if not set(manifest["files"]) <= set(_FILES):
        strange = sorted(set(manifest["files"]) - set(_FILES))
        msg = f"{path} names files that no model has: {strange}. Save the model again."
        raise ValueError(msg)
    return manifest


def _seals(manifest: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    return {} if manifest is None else manifest["files"]


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_class(manifest: Mapping[str, Any], class_name: str, directory: Path) -> None:
    if manifest["class"] != class_name:
        msg = (
            f"{directory} holds a {manifest['class']}, not a {class_name}: load it with its own "
            "class, or give another directory."
        )
        raise ValueError(msg)


# -- the other files ------------------------------------------------------------------------------


def _seal(content: bytes) -> dict[str, Any]:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _is_seal(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"size", "sha256"}
        and type(value["size"]) is int
        and isinstance(value["sha256"], str)
    )


def _read_sealed(directory: Path, name: str, seal: Mapping[str, Any]) -> bytes:
    """Return the content that the manifest means, be it renamed already or not."""
    path = directory / name
    found = None
    for candidate in (path, directory / _pending(name)):
        with contextlib.suppress(FileNotFoundError):
            content = read_file(candidate)
            if _seal(content) == seal:
                return content
            found = content if found is None else found
    if found is None:
        msg = (
            f"A file of the model is missing, though {MANIFEST} lists it. Save the model to "
            "another directory, or take this one from a backup"
        )
        raise FileNotFoundError(errno.ENOENT, msg, str(path))
    if len(found) == seal["size"]:
        return _raise_altered(path)
    return _raise_altered(path, f"it has {len(found)} bytes in place of {seal['size']}")


def _raise_altered(path: Path, reason: str = "its checksum does not hold") -> NoReturn:
    msg = (
        f"{path} is damaged, or was altered after it was saved: {reason}. Save the model to "
        "another directory, or take this one from a backup."
    )
    raise ValueError(msg)


def _pending(name: str) -> str:
    return f"{name}.new"


def _settle(directory: Path, seals: Mapping[str, Mapping[str, Any]]) -> None:
    """Finish a save after its manifest is in place, or undo what is left of one before that."""
    for name in _FILES:
        new = directory / _pending(name)
        if name not in seals:
            (directory / name).unlink(missing_ok=True)
            new.unlink(missing_ok=True)
        elif new.exists():
            if _seal(read_file(new)) == seals[name]:
                new.replace(directory / name)
            else:
                new.unlink()
    (directory / _pending(MANIFEST)).unlink(missing_ok=True)
    sync_directory(directory)


def _refuse_strangers(directory: Path) -> None:
    for name in _FILES:
        if (directory / name).exists():
            msg = f"There is a file of this name without {MANIFEST}: it is not ours to replace"
            raise FileExistsError(errno.EEXIST, msg, str(directory / name))

"""Parameters and attributes as JSON, with arrays stored separately as tensors.

A value that JSON cannot express is an object with one key that begins with ``$``, as listed in the
table at the end. Reading creates only numbers, strings, lists, dictionaries, arrays and random
states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from sklearn_torch_gmm.core.serialization import is_storable
from sklearn_torch_gmm.exceptions import UnstorableParameterError
from sklearn_torch_gmm.rows.tensors import as_tensor

_MAX_DEPTH = 50
_RANDOM_WORDS = 624


def encode(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Encode a value as JSON, and put its arrays, which may share its memory, into ``tensors``.

    ``name`` is the name of the value in messages and among the tensors.

    Raises
    ------
    UnstorableParameterError
        If the value, or one inside it, can be expressed neither in JSON nor as an array.
    """
    return _encode(value, name, tensors, depth=0)


def _encode(value: Any, name: str, tensors: dict[str, Tensor], depth: int) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    # Subclasses are refused, since they would be loaded as their base class.
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind in (np.ndarray, np.memmap):
        return _encode_array(value, name, tensors)
    if kind is Tensor and is_storable(value):
        tensors[name] = value
        return {"$tensor": name}
    if kind is np.random.RandomState:
        return _encode_random_state(value, name, tensors)
    if depth >= _MAX_DEPTH:
        _refuse(name, "is nested too deeply")
    if kind in (list, tuple):
        items = [
            _encode(item, f"{name}[{index}]", tensors, depth + 1)
            for index, item in enumerate(value)
        ]
        return items if kind is list else {"$tuple": items}
    if kind is dict:
        pairs = [
            (
                _encode(key, f"a key of {name}", tensors, depth + 1),
                _encode(item, f"{name}[{key!r}]", tensors, depth + 1),
            )
            for key, item in value.items()
        ]
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return dict(pairs)
        return {"$dict": pairs}
    return _refuse(name, f"is a {kind.__module__}.{kind.__qualname__}")


def _refuse(name: str, reason: str) -> NoReturn:
    msg = (
        f"{name} {reason}, which is stored neither as JSON nor as an array, and nothing was "
        "written. Set it to something else before saving, and again after loading."
    )
    raise UnstorableParameterError(msg)


def _encode_array(array: np.ndarray[Any, Any], name: str, tensors: dict[str, Tensor]) -> Any:
    if array.dtype == object and array.ndim == 1 and all(type(item) is str for item in array):
        return {"$strings": array.tolist()}
    try:
        tensor = as_tensor(array)
    except (TypeError, ValueError):
        _refuse(name, f"is an array of {array.dtype}")
    if not is_storable(tensor):
        _refuse(name, f"is an array of {array.dtype}")
    tensors[name] = tensor
    return {"$array": name}


def _encode_random_state(
    random_state: np.random.RandomState, name: str, tensors: dict[str, Tensor]
) -> Any:
    state = random_state.get_state(legacy=False)
    assert isinstance(state, dict)
    if state["bit_generator"] != "MT19937":
        _refuse(name, f"is a RandomState of {state['bit_generator']}")
    tensors[name] = torch.from_numpy(state["state"]["key"].astype(np.int64))
    rest = {
        "position": int(state["state"]["pos"]),
        "has_gauss": int(state["has_gauss"]),
        "gauss": float(state["gauss"]),
    }
    return {"$random_state": {"words": name, **rest}}


def decode(content: Any, tensors: Mapping[str, Tensor], origin: str) -> Any:
    """Return the value that :func:`encode` expressed as parsed JSON, which names ``tensors``.

    ``origin`` is the file, for messages.

    Raises
    ------
    ValueError
        If the content is not a result of :func:`encode`.
    """
    try:
        _check_depth(content, 4 * _MAX_DEPTH)
        return _decode(content, tensors)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        msg = f"{origin} contains a value that cannot be read ({error!r}): save the model again."
        raise ValueError(msg) from error


def _check_depth(content: Any, left: int) -> None:
    """Raise ValueError for JSON nested more deeply than :func:`encode` produces.

    A level of a value takes up to three levels of JSON: a tagged list of pairs.
    """
    if left == 0:
        msg = "it is nested too deeply"
        raise ValueError(msg)
    parts = content.values() if isinstance(content, dict) else content
    if isinstance(content, (dict, list)):
        for part in parts:
            _check_depth(part, left - 1)


def _decode(content: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(content, list):
        return [_decode(item, tensors) for item in content]
    if not isinstance(content, dict):
        return content
    if not any(key.startswith("$") for key in content):
        return {key: _decode(item, tensors) for key, item in content.items()}
    (tag,) = content
    return _DECODERS[tag](content[tag], tensors)


def _decode_pairs(content: Any, tensors: Mapping[str, Tensor]) -> dict[Any, Any]:
    return {_decode(key, tensors): _decode(item, tensors) for key, item in list(content)}


def _decode_strings(content: Any, tensors: Mapping[str, Tensor]) -> np.ndarray[Any, Any]:
    if not isinstance(content, list) or not all(isinstance(item, str) for item in content):
        msg = "the values are not strings"
        raise ValueError(msg)
    return np.array(content, dtype=object)


def _decode_float(content: Any, tensors: Mapping[str, Tensor]) -> float:
    return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[content]


def _decode_random_state(content: Any, tensors: Mapping[str, Tensor]) -> np.random.RandomState:
    words = tensors[content["words"]]
    position, has_gauss = content["position"], content["has_gauss"]
    is_possible = (
        words.shape == (_RANDOM_WORDS,)
        and words.dtype is torch.int64
        and bool(((words >= 0) & (words < 2**32)).all())
        and position in range(_RANDOM_WORDS + 1)
        and has_gauss in (0, 1)
    )
    if not is_possible:
        msg = "this is not a state of a Mersenne twister"
        raise ValueError(msg)
    random_state = np.random.RandomState()
    key = words.numpy().astype(np.uint32)
    random_state.set_state(("MT19937", key, position, has_gauss, float(content["gauss"])))
    return random_state


_DECODERS: dict[str, Callable[[Any, Mapping[str, Tensor]], Any]] = {
    "$float": _decode_float,
    "$tuple": lambda content, tensors: tuple(_decode(item, tensors) for item in list(content)),
    "$dict": _decode_pairs,
    "$strings": _decode_strings,
    "$array": lambda content, tensors: tensors[content].numpy(),
    "$tensor": lambda content, tensors: tensors[content],
    "$random_state": _decode_random_state,
}

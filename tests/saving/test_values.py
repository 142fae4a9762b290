import json
import math
import pathlib
from collections import OrderedDict

import numpy as np
import pytest
import torch

from sklearn_torch_gmm._saving.values import decode, encode
from sklearn_torch_gmm.core.serialization import dump_tensors, parse_tensors
from sklearn_torch_gmm.exceptions import UnstorableParameterError


def through_files(value):
    tensors = {}
    document = {"value": encode(value, "value", tensors)}
    loaded, document = parse_tensors(dump_tensors(tensors, document), "file")
    return decode(document["value"], loaded, "file")


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(2**70),
        0.1,
        1e-300,
        -0.0,
        math.inf,
        -math.inf,
        "",
        "full",
        "Ä\ud800\0",
        [],
        [1, [2.5, "a"], None],
        (),
        (1, (2,)),
        [(1, 2), {"a": (3,)}],
        {},
        {"max_epochs": 100, "devices": (0, 1), "limit": None},
        {"$array": "../../etc/passwd"},
        {1: "one", None: 2, (3, 4): [5]},
        {"a": {"$dict": [[1, 2]]}},
    ],
    ids=repr,
)
def test_plain_values_come_back_equal_and_of_their_type(value):
    found = through_files(value)
    assert found == value
    assert type(found) is type(value)
    # Equality does not tell 1 from True, nor a tuple's inside from a list's.
    assert repr(found) == repr(value)


def test_nan_comes_back():
    assert math.isnan(through_files(math.nan))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(3), 3),
        (np.uint8(3), 3),
        (np.bool_(True), True),
        (np.float64(0.1), 0.1),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.str_("diag"), "diag"),
    ],
)
def test_numpys_numbers_become_pythons(value, expected):
    found = through_files(value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(6)[::-2],
        np.array(1.5),
        np.zeros((0, 2)),
        np.array([np.nan, np.inf], dtype=np.float32),
        np.arange(3, dtype=">f8"),
        np.array([True, False]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("is_writable", [True, False])
def test_arrays_come_back(array, is_writable):
    array.flags.writeable = is_writable
    found = through_files({"means": array})["means"]
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype.newbyteorder("=")
    assert found.flags.writeable


def test_memory_maps_come_back_as_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3.0))
    found = through_files(np.load(tmp_path / "a.npy", mmap_mode="r"))
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, np.arange(3.0))


def test_tensors_come_back_as_tensors():
    tensor = torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16)
    found = through_files([tensor])[0]
    torch.testing.assert_close(found, tensor, rtol=0, atol=0)


def test_arrays_of_strings_come_back():
    names = np.array(["width", "height"], dtype=object)
    found = through_files(names)
    assert found.dtype == object
    assert found.tolist() == ["width", "height"]


def test_random_state_goes_on_where_it_was():
    random_state = np.random.RandomState(3)
    # An odd number of normal draws leaves one in store.
    random_state.standard_normal(5)
    found = through_files(random_state)
    np.testing.assert_array_equal(found.standard_normal(700), random_state.standard_normal(700))


class Callback:
    pass


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Callback(), "value is a tests.saving.test_values.Callback"),
        ({"callbacks": [None, Callback()]}, "value['callbacks'][1] is a"),
        ({"plugins": (Callback(),)}, "value['plugins'][0] is a"),
        ({Callback(): 1}, "a key of value is a"),
        (len, "value is a builtins.builtin_function_or_method"),
        (np.random, "value is a builtins.module"),
        (np.random.default_rng(0), "value is a numpy.random._generator.Generator"),
        (np.random.RandomState(np.random.PCG64(0)), "value is a RandomState of PCG64"),
        (pathlib.PurePosixPath("/tmp"), "value is a pathlib."),
        (b"bytes", "value is a builtins.bytes"),
        ({1, 2}, "value is a builtins.set"),
        (1j, "value is a builtins.complex"),
        (OrderedDict(), "value is a collections.OrderedDict"),
        (np.ma.masked_array([1.0], [True]), "value is a numpy.ma"),
        (np.array([1j]), "value is an array of complex128"),
        (np.array([None]), "value is an array of object"),
        (np.array(["a"]), "value is an array of <U1"),
        (np.array([(1, 2.0)], dtype="i4,f4"), "value is an array of [("),
        (np.array(["2020"], dtype="M8[D]"), "value is an array of datetime64[D]"),
        (torch.zeros(2, 2).to_sparse(), "value is a torch.Tensor"),
        (torch.device("cpu"), "value is a torch.device"),
        (torch.float32, "value is a torch.dtype"),
        (nested(60), "is nested too deeply"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_stored_is_refused_by_name(value, name):
    with pytest.raises(UnstorableParameterError) as caught:
        encode(value, "value", {})
    assert name in str(caught.value)
    assert "Set it to something else before saving" in str(caught.value)


def test_value_that_holds_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(UnstorableParameterError, match="nested too deeply"):
        encode(value, "value", {})


def test_refusal_is_a_value_error_and_a_type_error():
    assert issubclass(UnstorableParameterError, ValueError)
    assert issubclass(UnstorableParameterError, TypeError)


STATE = {"words": "words", "position": 624, "has_gauss": 0, "gauss": 0.0}


@pytest.mark.parametrize(
    "content",
    [
        {"$unknown": 1},
        {"$eval": "__import__('os')"},
        {"$array": "missing"},
        {"$array": ["a"]},
        {"$array": {}},
        {"$tensor": None},
        {"$float": "1.0"},
        {"$float": 1},
        {"$tuple": 3},
        {"$dict": [1]},
        {"$dict": [[[], 1]]},
        {"$dict": [[1, 2, 3]]},
        {"$strings": "abc"},
        {"$strings": [1]},
        {"$tuple": [], "$array": "a"},
        {"$tuple": [], "a": 1},
        {"$random_state": {}},
        {"$random_state": [1]},
        {"$random_state": {**STATE, "words": "a"}},
        {"$random_state": {**STATE, "words": "too large"}},
        {"$random_state": {**STATE, "position": 625}},
        {"$random_state": {**STATE, "position": "1"}},
        {"$random_state": {**STATE, "has_gauss": 2}},
        {"$random_state": {**STATE, "gauss": None}},
        {"$random_state": {**STATE, "gauss": 10**400}},
        [{"a": [{"$unknown": 1}]}],
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_hand_made_content_is_refused_with_the_name_of_the_file(content):
    tensors = {
        "a": torch.zeros(2),
        "words": torch.zeros(624, dtype=torch.int64),
        "too large": torch.full((624,), 2**32),
    }
    with pytest.raises(ValueError, match=r"^the/file contains a value that cannot be read"):
        decode(content, tensors, "the/file")


def test_hand_made_depth_is_refused():
    content = []
    for _ in range(5000):
        content = [content]
    with pytest.raises(ValueError, match=r"^the/file contains a value that cannot be read"):
        decode(content, {}, "the/file")

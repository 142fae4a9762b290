"""What is said about objects that hold samples but are not a table of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris

from sklearn_torch_gmm import GaussianMixture
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn
from sklearn_torch_gmm.rows.not_tables import refuse_what_is_not_a_table

X = np.arange(40.0).reshape(20, 2)


class Group:
    """A group of zarr: keys, and neither a shape nor a mapping."""

    def keys(self):
        return iter(["raw", "scaled"])


@pytest.mark.parametrize("face", [GaussianMixture, DropIn])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("samples.npy", r"the path 'samples\.npy', .*: load or map the file"),
        (Path("samples.npy"), r"the path 'samples\.npy', .*: load or map the file"),
        (load_iris(), r"a Bunch with the keys 'data', .*, \.\.\.: pass one of its arrays"),
        ({"X": X}, r"a dict with the keys 'X': pass one of its arrays"),
        (Group(), r"a Group with the keys 'raw', 'scaled': pass one of its arrays"),
        ((X, X[:, 0]), r"a tuple of arrays, of shapes \(20, 2\), \(20,\): pass one .*concatenate"),
        ([torch.tensor(X)] * 6, r"a list of arrays, .*\(20, 2\), \.\.\.: pass one .*torch\.cat"),
        ((row for row in X), "a generator, which can be read only once, .*IterableDataset"),
    ],
)
def test_the_message_says_what_to_pass(face, given, message):
    with pytest.raises(TypeError, match=f"^X is {message}"):
        face(1).fit(given)


def test_an_open_file(tmp_path):
    np.save(tmp_path / "X.npy", X)
    message = r"X is an open file \(BufferedReader\)"
    with (tmp_path / "X.npy").open("rb") as file, pytest.raises(TypeError, match=message):
        GaussianMixture(1).fit(file)


def test_an_archive_of_arrays(tmp_path):
    np.savez(tmp_path / "X.npz", X=X, y=X[:, 0])
    message = "X is a NpzFile with the keys 'X', 'y'"
    with np.load(tmp_path / "X.npz") as archive, pytest.raises(TypeError, match=message):
        GaussianMixture(1).fit(archive)


@pytest.mark.parametrize("given", [X, X.tolist(), [], [X[0], X[1]], torch.tensor(X), None, 3.0])
def test_tables_and_other_mistakes_are_left_to_the_checks_that_follow(given):
    refuse_what_is_not_a_table(given)

import hashlib
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from sklearn_torch_gmm.core.model import (
    GaussianMixtureModel,
    GaussianMixtureModelConfig,
    model_from,
)
from sklearn_torch_gmm.core.serialization import dump_tensors, parse_tensors
from tests.conftest import SEED
from tests.core.oracle import Mixture, log_densities

TYPES = ["full", "tied", "diag", "spherical"]
COMPONENTS, FEATURES = 3, 2


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


def random_model(covariance_type, dtype=torch.float64):
    """Return a module with random parameters, and the same mixture for the oracle."""
    rng = np.random.default_rng(SEED)
    weights = rng.dirichlet(np.ones(COMPONENTS))
    means = rng.normal(size=(COMPONENTS, FEATURES)) * 3
    factors = np.triu(rng.normal(size=(COMPONENTS, FEATURES, FEATURES))) * 0.3 + np.eye(FEATURES)
    if covariance_type == "tied":
        factors[:] = factors[0]
    if covariance_type in ("diag", "spherical"):
        factors = factors * np.eye(FEATURES)
    if covariance_type == "spherical":
        factors = factors[:, :1, :1] * np.eye(FEATURES)
    stored = {
        "full": factors,
        "tied": factors[0],
        "diag": np.diagonal(factors, axis1=1, axis2=2),
        "spherical": factors[:, 0, 0],
    }[covariance_type]
    config = GaussianMixtureModelConfig(COMPONENTS, FEATURES, covariance_type)
    model = GaussianMixtureModel(config, dtype=dtype)
    model.component_probs.copy_(torch.tensor(weights))
    model.means.copy_(torch.tensor(means))
    model.precisions_cholesky.copy_(torch.tensor(stored))
    matrices = np.linalg.inv(factors @ factors.transpose(0, 2, 1))
    return model, Mixture(weights, means, matrices)


def rows(num_rows=20):
    return torch.randn(num_rows, FEATURES, dtype=torch.float64, generator=torch.manual_seed(SEED))


def assert_same(one, other):
    assert one.config == other.config
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, values in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], values, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_loaded_module_is_the_saved_one(tmp_path, covariance_type, dtype):
    model, _ = random_model(covariance_type, dtype)
    model.save(tmp_path / "mixture.safetensors")
    assert_same(model, GaussianMixtureModel.load(tmp_path / "mixture.safetensors"))
    assert names_in(tmp_path) == ["mixture.safetensors"]


@pytest.mark.parametrize("covariance_type", TYPES)
def test_loaded_module_gives_the_densities_of_the_mixture(tmp_path, covariance_type):
    model, mixture = random_model(covariance_type)
    model.save(tmp_path / "mixture")
    _, log_prob = GaussianMixtureModel.load(os.fspath(tmp_path / "mixture"))(rows())
    np.testing.assert_allclose(log_prob, log_densities(mixture, rows().numpy()), rtol=1e-12)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_state_dict_by_torchs_own_files(tmp_path, covariance_type):
    model, _ = random_model(covariance_type)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    other = GaussianMixtureModel(model.config)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert_same(model, other)


def test_loaded_module_is_of_the_class_that_loads(tmp_path):
    class Special(GaussianMixtureModel):
        pass

    random_model("diag")[0].save(tmp_path / "mixture")
    assert type(Special.load(tmp_path / "mixture")) is Special


def test_saving_replaces_the_file(tmp_path):
    path = tmp_path / "mixture"
    random_model("full")[0].save(path)
    random_model("diag")[0].save(path)
    assert_same(random_model("diag")[0], GaussianMixtureModel.load(path))


def test_a_directory_is_no_place_for_a_file(tmp_path):
    with pytest.raises(IsADirectoryError, match=r"is a directory.*mixture\.safetensors"):
        random_model("full")[0].save(tmp_path)


def test_a_file_of_another_kind_is_not_taken_for_a_damaged_one_alone(tmp_path):
    model = GaussianMixtureModel(GaussianMixtureModelConfig(2, 1))
    torch.save(model.state_dict(), tmp_path / "state.pt")
    (tmp_path / "notes.txt").write_text("Two components were enough.")
    for name in ("state.pt", "notes.txt"):
        with pytest.raises(
            ValueError, match=rf"{name} .* not written by sklearn_torch_gmm.*torch\.load"
        ):
            GaussianMixtureModel.load(tmp_path / name)


def test_missing_folder_is_named_with_the_file(tmp_path):
    path = tmp_path / "missing" / "model.safetensors"
    with pytest.raises(FileNotFoundError) as caught:
        GaussianMixtureModel(GaussianMixtureModelConfig(2, 1)).save(path)
    assert caught.value.filename == str(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        GaussianMixtureModel.load(tmp_path / "nowhere")


def good_tensors():
    return {
        "component_probs": torch.full((2,), 0.5),
        "means": torch.zeros(2, 3),
        "precisions_cholesky": torch.ones(2, 3),
    }


GOOD_CONFIG = {"num_components": 2, "num_features": 3, "covariance_type": "diag"}


def hand_made(changed_tensors=None, config=None):
    tensors = {**good_tensors(), **(changed_tensors or {})}
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    config = {**GOOD_CONFIG, **(config or {})} if isinstance(config, dict | None) else config
    return dump_tensors(tensors, {"config": config})


def test_hand_made_file_is_read():
    # So that the refusals below are for what is wrong.
    model_from(*parse_tensors(hand_made(), "file"), "file", GaussianMixtureModel)


@pytest.mark.parametrize(
    "content",
    [
        hand_made({"means": None}),
        hand_made({"means": torch.zeros(3, 2)}),
        hand_made({"component_probs": torch.full((3,), 0.5)}),
        hand_made({"precisions_cholesky": torch.ones(2)}),
        hand_made({"precisions_cholesky": torch.ones(2, 3, dtype=torch.float64)}),
        hand_made({name: tensor.long() for name, tensor in good_tensors().items()}),
        hand_made(config={"covariance_type": "full"}),
        hand_made(config={"covariance_type": "round"}),
        hand_made(config={"covariance_type": ["diag"]}),
        hand_made(config={"num_components": 10**12}),
        hand_made(config={"num_components": 10**12, "num_features": 10**12}),
        hand_made(config={"num_components": 0}),
        hand_made(config={"num_components": 2.0}),
        hand_made(config={"further": 1}),
        hand_made(config="{}"),
        hand_made(config="\ud800"),
        hand_made(config=[1]),
        dump_tensors(good_tensors(), {}),
    ],
)
def test_files_that_are_no_module_are_refused(content):
    start = time.perf_counter()
    with pytest.raises(ValueError, match=r"^the/file "):
        model_from(*parse_tensors(content, "the/file"), "the/file", GaussianMixtureModel)
    # Nothing of a claimed size is even begun.
    assert time.perf_counter() - start < 1.0


WITHOUT_SKLEARN = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("sklearn", "scipy", "pytorch_lightning", "joblib"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())

import torch
from sklearn_torch_gmm import GaussianMixtureModel

model = GaussianMixtureModel.load(sys.argv[1])
log_responsibilities, log_prob = model(torch.load(sys.argv[2], weights_only=True))
assert model.sample(3).shape == (3, 2)
model.save(sys.argv[1] + ".again")
torch.save((log_responsibilities, log_prob), sys.argv[3])
"""


def test_plain_torch_needs_no_scikit_learn(tmp_path):
    model, _ = random_model("full")
    model.save(tmp_path / "mixture")
    torch.save(rows(), tmp_path / "rows.pt")
    arguments = [tmp_path / "mixture", tmp_path / "rows.pt", tmp_path / "result.pt"]
    subprocess.run([sys.executable, "-c", WITHOUT_SKLEARN, *arguments], check=True, timeout=120)
    found = torch.load(tmp_path / "result.pt", weights_only=True)
    for one, other in zip(found, model(rows()), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    digests = {
        hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        for name in ("mixture", "mixture.again")
    }
    assert len(digests) == 1


@pytest.mark.parametrize("covariance_type", TYPES)
def test_exported_forward_is_the_eager_one_for_any_number_of_rows(covariance_type):
    model, mixture = random_model(covariance_type)
    exported = torch.export.export(
        model, (rows(7),), dynamic_shapes={"data": {0: torch.export.Dim("num_rows")}}
    ).module()
    for num_rows in (2, 7, 100):
        found = exported(rows(num_rows))
        for one, other in zip(found, model(rows(num_rows)), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
        expected = log_densities(mixture, rows(num_rows).numpy())
        np.testing.assert_allclose(found[1], expected, rtol=1e-12)

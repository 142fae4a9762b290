"""Models in directories that somebody has changed, and vouches for."""

import json
import shutil
import subprocess
import sys
import textwrap

import pytest
import torch

from sklearn_torch_gmm import GaussianMixture, GaussianMixtureModel
from sklearn_torch_gmm.core.serialization import dump_tensors
from tests.saving.test_directory import reseal, seal
from tests.saving.test_estimators import D, fit


def put(directory, name, content):
    """Replace a file of a model, with a manifest that vouches for it."""
    (directory / name).write_bytes(content)
    manifest = json.loads((directory / "manifest.json").read_text())
    reseal(directory, files={**manifest["files"], name: seal(content)})


def put_json(directory, name, **changes):
    content = {**json.loads((directory / name).read_text()), **changes}
    put(directory, name, json.dumps(content).encode())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model"
    fit(GaussianMixture, covariance_type="full").save(path)
    return path


@pytest.fixture
def directory(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


class TestHandMadeFiles:
    def test_honest_changes_are_read(self, directory):
        # So that the refusals below are for what they change.
        put_json(directory, "params.json", batch_size=4)
        put_json(directory, "attributes.json", n_iter_=4)
        loaded = GaussianMixture.load(directory)
        assert loaded.batch_size == loaded.n_iter_ == 4

    def test_missing_parameter_has_its_default(self, directory):
        content = json.loads((directory / "params.json").read_text())
        del content["num_init"]
        put(directory, "params.json", json.dumps(content).encode())
        assert GaussianMixture.load(directory).num_init == 1

    @pytest.mark.parametrize("content", [b"[]", b"1", b"", b"{", b'{"a": NaN}', b"[" * 10**5])
    @pytest.mark.parametrize("name", ["params.json", "attributes.json"])
    def test_no_values_by_name(self, directory, name, content):
        put(directory, name, content)
        with pytest.raises(ValueError, match=f"{name} is damaged"):
            GaussianMixture.load(directory)

    def test_unknown_parameter(self, directory):
        put_json(directory, "params.json", further=1)
        with pytest.raises(ValueError, match=r"params\.json names \['further'\].*update"):
            GaussianMixture.load(directory)

    @pytest.mark.parametrize("name", ["predict", "__class__", "model_", "num_components"])
    def test_unknown_attribute(self, directory, name):
        put_json(directory, "attributes.json", **{name: 1})
        with pytest.raises(ValueError, match=rf"attributes\.json names \['{name}'\]"):
            GaussianMixture.load(directory)

    def test_array_that_is_not_there(self, directory):
        put_json(directory, "params.json", init_means={"$array": "../model.safetensors"})
        with pytest.raises(ValueError, match=r"params\.json holds a value that cannot be read"):
            GaussianMixture.load(directory)

    @pytest.mark.parametrize(
        "changes",
        [
            {"covariances_": {"$array": "means"}},
            {"covariances_": [1.0]},
            {"weights_": {"$array": "means"}},
            {"weights_": None},
            {"means_": {"$array": "component_probs"}},
            {"means_": {"$array": "labels_"}},
            {"labels_": {"$array": "means"}},
            {"labels_": 1},
            {"known_parts_": "means"},
            {"known_parts_": ["mean", []]},
            {"n_features_in_": 3},
            {"n_features_in_": "2"},
            {"feature_names_in_": {"$strings": ["a"]}},
            {"feature_names_in_": 2},
            {"feature_names_in_": [[1], [2, 3]]},
        ],
    )
    def test_attributes_that_do_not_belong_together(self, directory, changes):
        put_json(directory, "attributes.json", **changes)
        with pytest.raises(ValueError, match=r"attributes\.json (has|names|holds)"):
            GaussianMixture.load(directory)

    @pytest.mark.parametrize("covariance_type", ["diag", "round", None, ["full"], {"$tuple": []}])
    def test_parameters_that_do_not_fit_the_attributes(self, directory, covariance_type):
        put_json(directory, "params.json", covariance_type=covariance_type)
        with pytest.raises(ValueError, match=r"attributes\.json .*covariance_type"):
            GaussianMixture.load(directory)

    def test_attributes_without_the_module(self, directory):
        manifest = json.loads((directory / "manifest.json").read_text())
        del manifest["files"]["model.safetensors"]
        reseal(directory, files=manifest["files"])
        with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
            GaussianMixture.load(directory)

    def test_tensors_of_something_else(self, directory):
        put(directory, "model.safetensors", dump_tensors({"a": torch.zeros(2)}, {}))
        with pytest.raises(ValueError, match=r"model\.safetensors is no file of a Gauss"):
            GaussianMixture.load(directory)

    @pytest.mark.skipif(sys.platform != "linux", reason="limits the process's memory")
    def test_no_claim_takes_memory(self, directory, tmp_path):
        """Each of these files claims a terabyte; the process that reads them may take 64 MB."""
        config = {"num_components": 10**12, "num_features": 1, "covariance_type": "full"}
        honest = (directory / "model.safetensors").read_bytes()
        length = int.from_bytes(honest[:8], "little")
        header = json.loads(honest[8 : 8 + length])
        header["means"]["shape"] = [10**12, D]
        longer = json.dumps(header).encode()
        claims = {
            "header": (10**12).to_bytes(8, "little") + honest[8:],
            "shape": len(longer).to_bytes(8, "little") + longer + honest[8 + length :],
            "config": dump_tensors(
                GaussianMixtureModel.load(directory).state_dict(), {"config": json.dumps(config)}
            ),
        }
        for name, content in claims.items():
            shutil.copytree(directory, tmp_path / name)
            put(tmp_path / name, "model.safetensors", content)
        shutil.copytree(directory, tmp_path / "size")
        files = json.loads((tmp_path / "size" / "manifest.json").read_text())["files"]
        files["model.safetensors"]["size"] = 10**12
        reseal(tmp_path / "size", files=files)
        program = textwrap.dedent(
            """
            import resource, sys
            from sklearn_torch_gmm import GaussianMixture

            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
            for path in sys.argv[1:]:
                try:
                    GaussianMixture.load(path)
                except ValueError as error:
                    print(error)
            """
        )
        paths = [tmp_path / name for name in (*claims, "size")]
        process = subprocess.run(
            [sys.executable, "-c", program, *paths],
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert process.stdout.count("model.safetensors") == len(paths)
        assert process.stderr == ""

"""Models in directories that somebody has changed, and vouches for."""

import json
import shutil
import subprocess
import sys
import textwrap

import pytest
import torch

from sklearn_torch_gmm import GaussianMixture
from sklearn_torch_gmm.core.model import MODEL_FILE
from sklearn_torch_gmm.core.serialization import dump_tensors, read_tensors
from tests.saving.test_estimators import D, fit


def put(directory, part, **changes):
    """Change values in a part of a model, in a file that vouches for them."""
    tensors, document = read_tensors(directory / MODEL_FILE)
    document[part] = {**document[part], **changes}
    (directory / MODEL_FILE).write_bytes(dump_tensors(tensors, document))


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
        put(directory, "parameters", batch_size=4)
        put(directory, "attributes", n_iter_=4)
        loaded = GaussianMixture.load(directory)
        assert loaded.batch_size == loaded.n_iter_ == 4

    def test_missing_parameter_has_its_default(self, directory):
        tensors, document = read_tensors(directory / MODEL_FILE)
        del document["parameters"]["num_init"]
        (directory / MODEL_FILE).write_bytes(dump_tensors(tensors, document))
        assert GaussianMixture.load(directory).num_init == 1

    @pytest.mark.parametrize("value", [3, [1], {"$tuple": []}, "cpu"])
    def test_trainer_params_that_are_no_dictionary(self, directory, value):
        put(directory, "parameters", trainer_params=value)
        with pytest.raises(ValueError, match=r"model\.safetensors has trainer_params that are no"):
            GaussianMixture.load(directory)

    def test_values_that_are_nested_deeply(self, directory):
        value = []
        for _ in range(400):
            value = [value]
        put(directory, "parameters", trainer_params={"a": value})
        with pytest.raises(ValueError, match="contains a value that cannot be read"):
            GaussianMixture.load(directory)

    def test_unknown_parameter(self, directory):
        put(directory, "parameters", further=1)
        with pytest.raises(ValueError, match=r"model\.safetensors names \['further'\].*update"):
            GaussianMixture.load(directory)

    @pytest.mark.parametrize("name", ["predict", "__class__", "model_", "num_components"])
    def test_unknown_attribute(self, directory, name):
        put(directory, "attributes", **{name: 1})
        with pytest.raises(ValueError, match=rf"model\.safetensors names \['{name}'\]"):
            GaussianMixture.load(directory)

    def test_array_that_is_not_there(self, directory):
        put(directory, "parameters", init_means={"$array": "../model.safetensors"})
        with pytest.raises(ValueError, match="contains a value that cannot be read"):
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
            {"known_parts_": {"mean": [0]}},
            {"known_parts_": {"means": []}},
            {"known_parts_": {"means": [True]}},
            {"known_parts_": {"means": [9]}},
            {"known_parts_": {"means": 0}},
            {"n_features_in_": 3},
            {"n_features_in_": "2"},
            {"n_features_in_": {"$array": "means"}},
            {"n_iter_": True},
            {"n_iter_": -1},
            {"n_iter_": 2.5},
            {"n_samples_seen_": {"$float": "nan"}},
            {"n_samples_seen_": "many"},
            {"lower_bound_": None},
            {"lower_bounds_": [0.5, "1"]},
            {"converged_": {"$array": "means"}},
            {"lower_bounds_": {"a": 1}},
            {"feature_names_in_": {"$strings": ["a"]}},
            {"feature_names_in_": 2},
            {"feature_names_in_": [[1], [2, 3]]},
        ],
    )
    def test_attributes_that_do_not_belong_together(self, directory, changes):
        put(directory, "attributes", **changes)
        with pytest.raises(ValueError, match=r"model\.safetensors (has|names|holds)"):
            GaussianMixture.load(directory)

    @pytest.mark.parametrize("covariance_type", ["diag", "round", None, ["full"], {"$tuple": []}])
    def test_parameters_that_do_not_fit_the_attributes(self, directory, covariance_type):
        put(directory, "parameters", covariance_type=covariance_type)
        with pytest.raises(ValueError, match=r"model\.safetensors .*covariance_type"):
            GaussianMixture.load(directory)

    def test_tensors_of_something_else(self, directory):
        _, document = read_tensors(directory / MODEL_FILE)
        content = dump_tensors({"means": torch.zeros(2)}, document)
        (directory / MODEL_FILE).write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.safetensors does not contain the tensors of"):
            GaussianMixture.load(directory)

    @pytest.mark.skipif(sys.platform != "linux", reason="limits the process's memory")
    def test_no_claim_takes_memory(self, directory, tmp_path):
        """Each of these files claims a terabyte; the process that reads them may take 64 MB."""
        honest = (directory / MODEL_FILE).read_bytes()
        length = int.from_bytes(honest[:8], "little")
        header = json.loads(honest[8 : 8 + length])
        header["means"]["shape"] = [10**12, D]
        longer = json.dumps(header).encode()
        tensors, document = read_tensors(directory / MODEL_FILE)
        document["config"] = {**document["config"], "num_components": 10**12}
        claims = {
            "header": (10**12).to_bytes(8, "little") + honest[8:],
            "shape": len(longer).to_bytes(8, "little") + longer + honest[8 + length :],
            "config": dump_tensors(tensors, document),
        }
        for name, content in claims.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / MODEL_FILE).write_bytes(content)
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
        paths = [tmp_path / name for name in claims]
        process = subprocess.run(
            [sys.executable, "-c", program, *paths],
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert process.stdout.count("model.safetensors") == len(paths)
        assert process.stderr == ""

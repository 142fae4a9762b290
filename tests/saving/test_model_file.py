"""The file of a saved estimator: replaced in one step, by any number of processes, and checked."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import sklearn
import torch
from safetensors import SafetensorError

import sklearn_torch_gmm
from sklearn_torch_gmm import (
    GaussianMixture,
    GaussianMixtureModel,
    GaussianMixtureModelConfig,
)
from sklearn_torch_gmm._saving.model_file import Part, read_model, write_model
from sklearn_torch_gmm.core import files
from sklearn_torch_gmm.core.model import MODEL_FILE
from sklearn_torch_gmm.core.serialization import FORMAT_VERSION, dump_tensors, read_tensors

CLASS = "some.Class"


def part(number):
    return Part({"number": number}, {"a": torch.full((1000,), float(number))})


FITTED = {"parameters": part(1), "attributes": part(2)}
UNFITTED = {"parameters": part(3)}


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


def write(directory, parts, *, keep_other=False, class_name=CLASS):
    write_model(directory, class_name, parts, keep_other=keep_other)


def read(directory, class_name=CLASS):
    """The number in each part, which its tensors have to agree with."""
    found = read_model(directory, class_name)
    for one in found.values():
        assert (one.tensors["a"] == one.values["number"]).all()
    return {name: one.values["number"] for name, one in found.items()}


@pytest.fixture
def model(tmp_path):
    write(tmp_path / "model", FITTED)
    return tmp_path / "model"


class TestWhatIsWrittenIsRead:
    def test_both_parts(self, model):
        assert read(model) == {"parameters": 1, "attributes": 2}
        assert names_in(model) == [MODEL_FILE]

    def test_directories_are_made(self, tmp_path):
        write(tmp_path / "a" / "b" / "c", FITTED)
        assert read(tmp_path / "a" / "b" / "c") == {"parameters": 1, "attributes": 2}

    def test_relative_path(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write(Path("model"), FITTED)
        assert read(Path("model")) == {"parameters": 1, "attributes": 2}

    def test_another_model_replaces_all(self, model):
        write(model, UNFITTED, class_name="other.Class")
        assert read(model, class_name="other.Class") == {"parameters": 3}

    def test_a_part_is_replaced(self, model):
        write(model, UNFITTED, keep_other=True)
        assert read(model) == {"parameters": 3, "attributes": 2}
        write(model, {"attributes": part(4)}, keep_other=True)
        assert read(model) == {"parameters": 3, "attributes": 4}

    def test_a_part_of_another_class_is_not_mixed_in(self, model):
        with pytest.raises(ValueError, match=r"contains a some\.Class, not a other\.Class"):
            write(model, UNFITTED, keep_other=True, class_name="other.Class")
        assert read(model) == {"parameters": 1, "attributes": 2}

    def test_files_of_others_stay(self, model):
        (model / "README.md").write_text("mine")
        write(model, UNFITTED)
        assert (model / "README.md").read_text() == "mine"

    def test_link_to_the_directory(self, model, tmp_path):
        (tmp_path / "link").symlink_to(model)
        write(tmp_path / "link", UNFITTED)
        assert read(model) == read(tmp_path / "link") == {"parameters": 3}

    def test_versions_are_inside(self, model):
        _, document = read_tensors(model / MODEL_FILE)
        assert document["format_version"] == FORMAT_VERSION
        assert document["class"] == CLASS
        assert document["versions"]["sklearn_torch_gmm"] == sklearn_torch_gmm.__version__
        assert document["versions"]["scikit-learn"] == sklearn.__version__


class TestWhatCannotBeWritten:
    def test_path_of_a_file(self, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(
            NotADirectoryError, match=r"this is a file: remove it, or give another path.*file'"
        ):
            write(tmp_path / "file", FITTED)
        assert (tmp_path / "file").read_text() == "mine"

    def test_path_through_a_file(self, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(NotADirectoryError, match=r"this is a file: remove it.*file'$"):
            write(tmp_path / "file" / "a" / "b", FITTED)
        assert names_in(tmp_path) == ["file"]

    def test_path_of_a_link_to_nothing(self, tmp_path):
        (tmp_path / "link").symlink_to(tmp_path / "nothing")
        with pytest.raises(NotADirectoryError, match=r"a broken link: remove it.*link'$"):
            write(tmp_path / "link", FITTED)
        assert names_in(tmp_path) == ["link"]

    def test_a_link_in_the_place_of_the_file(self, model):
        outside = model.parent / "outside"
        (model / MODEL_FILE).rename(outside)
        (model / MODEL_FILE).symlink_to(outside)
        for target in (outside, model / "nothing"):
            (model / MODEL_FILE).unlink()
            (model / MODEL_FILE).symlink_to(target)
            with pytest.raises(OSError, match=rf"This is a link.*remove it.*{MODEL_FILE}"):
                write(model, UNFITTED)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    def test_a_pipe_in_the_place_of_the_file(self, model):
        (model / MODEL_FILE).unlink()
        os.mkfifo(model / MODEL_FILE)
        with pytest.raises(OSError, match=rf"not a regular file: remove it.*{MODEL_FILE}"):
            write(model, UNFITTED)

    @pytest.mark.parametrize("content", [b"mine", b"", dump_tensors({}, {"theirs": 1})])
    def test_a_file_of_our_name_that_is_not_ours(self, tmp_path, content):
        (tmp_path / MODEL_FILE).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{MODEL_FILE} .*[Rr]emove it"):
            write(tmp_path, FITTED)
        assert (tmp_path / MODEL_FILE).read_bytes() == content
        assert names_in(tmp_path) == [MODEL_FILE]

    def test_too_long_a_document_makes_no_directory(self, tmp_path, monkeypatch):
        """The package takes a header of at most 100 MB; as much is not written here."""

        def save(tensors, metadata):
            raise SafetensorError("header too large")

        monkeypatch.setattr("safetensors.torch.save", save)
        with pytest.raises(ValueError, match=r"cannot be stored: use arrays \(header too large"):
            write(tmp_path / "model", FITTED)
        assert not (tmp_path / "model").exists()

    def test_a_directory_in_the_place_of_the_file(self, tmp_path):
        (tmp_path / MODEL_FILE).mkdir()
        with pytest.raises(OSError, match=rf"remove it.*{MODEL_FILE}"):
            write(tmp_path, FITTED)

    def test_full_disk_leaves_the_old_model(self, model, monkeypatch):
        def fail(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            write(model, UNFITTED)
        assert read(model) == {"parameters": 1, "attributes": 2}
        assert names_in(model) == [MODEL_FILE]

    def test_interrupt_once_the_model_is_new_takes_nothing_away(self, model, monkeypatch):
        replace = Path.replace

        def interrupt(path, target):
            replace(path, target)
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write(model, UNFITTED)
        assert read(model) == {"parameters": 3}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
class TestCrash:
    def test_killed_process_leaves_the_old_model_or_the_new_one(self, tmp_path):
        program = Path(__file__).parents[1] / "crashes.py"
        process = subprocess.run(
            [sys.executable, program, tmp_path], check=True, capture_output=True, timeout=240
        )
        for steps in json.loads(process.stdout).values():
            found = [step["found"] for step in steps]
            changes = found.index("new")
            assert found == ["old"] * changes + ["new"] * (len(found) - changes)
            assert 3 <= changes < len(found) - 1
            assert all(step["found at last"] for step in steps)

    def test_what_killed_processes_have_left_is_removed_an_hour_later(self, model):
        old, young = (model / f".{MODEL_FILE}.{name}.new" for name in ("old", "young"))
        for path in (old, young):
            path.write_text("half")
        an_hour_ago = time.time() - files.STALE_SECONDS - 1
        os.utime(old, (an_hour_ago, an_hour_ago))
        write(model, UNFITTED)
        assert names_in(model) == [young.name, MODEL_FILE]

    def test_everything_is_on_the_disk_before_the_model_is_new(self, model, monkeypatch):
        synced = []
        sync, replace = os.fsync, Path.replace

        def note_sync(descriptor):
            synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
            sync(descriptor)

        def note_replace(path, target):
            synced.append("the model is new")
            return replace(path, target)

        if not Path("/proc/self/fd").exists():
            pytest.skip("needs the names of open files")
        monkeypatch.setattr(os, "fsync", note_sync)
        monkeypatch.setattr(Path, "replace", note_replace)
        write(model, UNFITTED)
        file, new, directory = synced
        assert file.startswith(f".{MODEL_FILE}.")
        assert (new, directory) == ("the model is new", model.name)


def test_reading_while_others_save(tmp_path):
    """Two writers and a reader: each save succeeds, and each model that is read is whole."""
    directory = tmp_path / "model"
    write(directory, FITTED)
    errors = []

    def save_often(parts):
        try:
            for _ in range(40):
                write(directory, parts)
        except Exception as error:
            errors.append(error)

    writers = [threading.Thread(target=save_often, args=[parts]) for parts in (FITTED, UNFITTED)]
    for writer in writers:
        writer.start()
    found = []
    while any(writer.is_alive() for writer in writers):
        found.append(read(directory))
    assert errors == []
    assert all(one in ({"parameters": 1, "attributes": 2}, {"parameters": 3}) for one in found)
    assert names_in(directory) == [MODEL_FILE]


def test_parts_that_are_saved_at_the_same_time_are_both_kept(tmp_path):
    """Each writer replaces its own part of what it has read, never the other's new one."""
    write(tmp_path, FITTED)
    lost = []

    def count(name):
        for number in range(60):
            write(tmp_path, {name: part(number)}, keep_other=True)
            if read(tmp_path)[name] != number:
                lost.append((name, number))

    writers = [threading.Thread(target=count, args=[n]) for n in ("parameters", "attributes")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert lost == []
    assert names_in(tmp_path) == [MODEL_FILE]


SAVE_OFTEN = """
import sys
import numpy as np
from sklearn_torch_gmm import GaussianMixture

number, path = int(sys.argv[1]), sys.argv[2]
means = np.full((2, 1), float(number)) + np.array([[0.0], [1.0]])
mixture = GaussianMixture.from_parameters([0.5, 0.5], means, np.ones((2, 1, 1)))
print("ready", flush=True)
sys.stdin.readline()
for turn in range(30):
    mixture.save(f"{path}/{turn}")
    assert GaussianMixture.load(f"{path}/{turn}").means_.shape == (2, 1)
"""


def test_processes_that_save_to_one_new_path_at_the_same_time(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SAVE_OFTEN, str(number), str(tmp_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(2)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
    for turn in range(30):
        assert GaussianMixture.load(tmp_path / str(turn)).means_[0, 0] in (0.0, 1.0)
        assert names_in(tmp_path / str(turn)) == [MODEL_FILE]


class TestWhatCannotBeRead:
    def test_missing_directory(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"does not exist: give the path.*nowhere"):
            read(tmp_path / "nowhere")

    def test_path_of_a_file(self, model):
        with pytest.raises(NotADirectoryError, match=r"give the directory.*model\.safetensors"):
            read(model / MODEL_FILE)

    def test_a_torch_module(self, tmp_path):
        module = GaussianMixtureModel(GaussianMixtureModelConfig(2, 1))
        module.save(tmp_path / MODEL_FILE)
        for path, error in [(tmp_path, ValueError), (tmp_path / MODEL_FILE, NotADirectoryError)]:
            with pytest.raises(error, match=r"GaussianMixtureModel\.load"):
                GaussianMixture.load(path)

    def test_directory_without_a_model(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"Save it again.*model\.safetensors"):
            read(tmp_path)

    def test_another_class(self, model):
        with pytest.raises(ValueError, match=r"model contains a some\.Class.*load it with its own"):
            read(model, class_name="other.Class")

    def test_every_altered_byte(self, tmp_path):
        write(tmp_path, {"parameters": Part({"number": 1}, {"a": torch.ones(2)})})
        content = (tmp_path / MODEL_FILE).read_bytes()
        for position in range(len(content)):
            altered = bytearray(content)
            altered[position] ^= 1
            (tmp_path / MODEL_FILE).write_bytes(altered)
            with pytest.raises(ValueError, match=MODEL_FILE):
                read(tmp_path)

    @pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: b"", lambda c: c + b"\n"])
    def test_truncated_or_longer_file(self, model, change):
        content = (model / MODEL_FILE).read_bytes()
        (model / MODEL_FILE).write_bytes(change(content))
        with pytest.raises(ValueError, match=rf"{MODEL_FILE} is damaged"):
            read(model)

    @pytest.mark.parametrize(
        "document",
        [
            {"class": CLASS, "parameters": [1]},
            {"class": CLASS, "attributes": None},
            {"class": 3, "parameters": {}},
            {"parameters": {}},
        ],
    )
    def test_documents_of_another_form(self, model, document):
        (model / MODEL_FILE).write_bytes(dump_tensors({}, document))
        with pytest.raises(ValueError, match=rf"{MODEL_FILE} does not contain an estimator"):
            read(model)

    def test_links_lead_nowhere(self, model):
        outside = model.parent / "outside"
        (model / MODEL_FILE).rename(outside)
        (model / MODEL_FILE).symlink_to(outside)
        with pytest.raises(OSError, match=rf"This is a link.*{MODEL_FILE}"):
            read(model)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    def test_pipes_are_not_waited_for(self, model):
        (model / MODEL_FILE).unlink()
        os.mkfifo(model / MODEL_FILE)
        with pytest.raises(OSError, match=rf"not a regular file.*{MODEL_FILE}"):
            read(model)

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_a_file_that_is_longer_than_its_tensors_is_not_read(self, model):
        """Extended to three gigabytes without taking any, as a sparse file."""
        os.truncate(model / MODEL_FILE, 3 * 2**30)
        program = textwrap.dedent(
            f"""
            import re, sys
            from pathlib import Path
            from sklearn_torch_gmm._saving.model_file import read_model

            try:
                read_model(Path(sys.argv[1]), {CLASS!r})
            except ValueError as error:
                print(error)
            # Not ru_maxrss: it may be that of the process that started this one.
            status = Path("/proc/self/status").read_text()
            print(re.search(r"VmHWM:\\s*(\\d+)", status)[1])
            """
        )
        run = subprocess.run(
            [sys.executable, "-c", program, model], capture_output=True, text=True, check=True
        )
        message, kilobytes = run.stdout.splitlines()
        assert "is damaged" in message
        assert int(kilobytes) < 2**20

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sklearn_torch_gmm._saving import directory as _model_directory
from sklearn_torch_gmm._saving.directory import (
    ATTRIBUTE_FILES,
    MANIFEST,
    PARAMETER_FILES,
    read_model,
    write_model,
)
from sklearn_torch_gmm.core.serialization import FORMAT_VERSION

ALL_FILES = (*PARAMETER_FILES, *ATTRIBUTE_FILES)
FITTED = {"params.json": b"{1}", "attributes.json": b"{}", "model.safetensors": b"1" * 1000}
UNFITTED = {"params.json": b"{2}", "params.safetensors": b"2" * 100}


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


def write(directory, files, replaced=ALL_FILES, class_name="some.Class"):
    write_model(directory, class_name, files, replaced=replaced)


def read(directory, wanted=ALL_FILES, class_name="some.Class"):
    return read_model(directory, class_name, wanted)


@pytest.fixture
def model(tmp_path):
    write(tmp_path / "model", FITTED)
    return tmp_path / "model"


class TestWhatIsWrittenIsRead:
    def test_all_files(self, model):
        assert read(model) == FITTED
        assert names_in(model) == sorted([*FITTED, MANIFEST])

    def test_some_files(self, model):
        assert read(model, PARAMETER_FILES) == {"params.json": FITTED["params.json"]}

    def test_directories_are_made(self, tmp_path):
        write(tmp_path / "a" / "b" / "c", FITTED)
        assert read(tmp_path / "a" / "b" / "c") == FITTED

    def test_relative_path(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write(Path("model"), FITTED)
        assert read(Path("model")) == FITTED

    def test_another_model_replaces_all(self, model):
        write(model, UNFITTED, class_name="other.Class")
        assert read(model, class_name="other.Class") == UNFITTED
        assert names_in(model) == sorted([*UNFITTED, MANIFEST])

    def test_a_part_is_replaced(self, model):
        write(model, UNFITTED, PARAMETER_FILES)
        assert read(model) == {**FITTED, **UNFITTED}
        write(model, {"params.json": b"{3}"}, PARAMETER_FILES)
        assert read(model) == {**FITTED, "params.json": b"{3}"}
        assert names_in(model) == sorted([*FITTED, MANIFEST])

    def test_a_part_of_another_class_is_not_mixed_in(self, model):
        with pytest.raises(ValueError, match=r"holds a some\.Class, not a other\.Class"):
            write(model, UNFITTED, PARAMETER_FILES, class_name="other.Class")
        assert read(model) == FITTED

    def test_files_of_others_stay(self, model):
        (model / "README.md").write_text("mine")
        write(model, UNFITTED)
        assert (model / "README.md").read_text() == "mine"

    def test_link_to_the_directory(self, model, tmp_path):
        (tmp_path / "link").symlink_to(model)
        write(tmp_path / "link", UNFITTED)
        assert read(model) == read(tmp_path / "link") == UNFITTED

    def test_versions_are_inside(self, model):
        import sklearn

        import sklearn_torch_gmm

        manifest = json.loads((model / MANIFEST).read_text())
        assert manifest["format_version"] == FORMAT_VERSION
        assert manifest["class"] == "some.Class"
        assert manifest["versions"]["sklearn_torch_gmm"] == sklearn_torch_gmm.__version__
        assert manifest["versions"]["scikit-learn"] == sklearn.__version__


class TestWhatCannotBeWritten:
    def test_path_of_a_file(self, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(NotADirectoryError, match=r"this is a file: give another path.*file'"):
            write(tmp_path / "file", FITTED)
        assert (tmp_path / "file").read_text() == "mine"

    @pytest.mark.parametrize("name", FITTED)
    def test_files_of_our_names_that_are_not_ours(self, tmp_path, name):
        (tmp_path / name).write_text("mine")
        with pytest.raises(FileExistsError, match=f"not ours to replace.*{name}"):
            write(tmp_path, FITTED)
        assert names_in(tmp_path) == [name]
        assert (tmp_path / name).read_text() == "mine"

    @pytest.mark.parametrize("text", ["{}", "[]", "not JSON", '{"name": "app", "format": 2}'])
    def test_manifest_that_is_not_ours(self, tmp_path, text):
        (tmp_path / MANIFEST).write_text(text)
        with pytest.raises(ValueError, match=MANIFEST):
            write(tmp_path, FITTED)
        assert names_in(tmp_path) == [MANIFEST]
        assert (tmp_path / MANIFEST).read_text() == text

    def test_full_disk_leaves_the_old_model(self, model, monkeypatch):
        def fail(path, content):
            path.write_bytes(content[:1])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(_model_directory, "write_file", fail)
        with pytest.raises(OSError, match="No space left"):
            write(model, UNFITTED)
        assert read(model) == FITTED
        assert names_in(model) == sorted([*FITTED, MANIFEST])

    def test_interrupt_once_the_model_is_new_takes_nothing_away(self, model, monkeypatch):
        replace = Path.replace

        def interrupt(path, target):
            replace(path, target)
            if target.name == MANIFEST:
                raise KeyboardInterrupt

        monkeypatch.setattr(Path, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write(model, UNFITTED)
        assert read(model) == UNFITTED


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    program = Path(__file__).parents[1] / "crashes.py"
    place = tmp_path_factory.mktemp("crashes")
    process = subprocess.run(
        [sys.executable, program, place], check=True, capture_output=True, timeout=240
    )
    return json.loads(process.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
class TestCrash:
    @staticmethod
    def is_old_then_new(found):
        changes = found.index("new")
        return found == ["old"] * changes + ["new"] * (len(found) - changes)

    def test_killed_process_leaves_the_old_model_or_the_new_one(self, outcomes):
        assert len(outcomes["killed"]) > 10
        assert self.is_old_then_new(outcomes["killed"])

    def test_each_step_leaves_the_old_model_or_the_new_one(self, outcomes):
        for steps in outcomes["snapshots"].values():
            assert len(steps) > 10
            assert self.is_old_then_new([step["found"] for step in steps])

    def test_lost_power_before_the_new_model_leaves_the_old_one(self, outcomes):
        for steps in outcomes["snapshots"].values():
            assert {step.get("found after a cut", "old") for step in steps} == {"old"}

    def test_next_save_may_be_interrupted_in_turn(self, outcomes):
        all_steps = [step for steps in outcomes["snapshots"].values() for step in steps]
        again = [step["found after the next"] for step in all_steps if len(step) > 4]
        assert len(again) > 10
        assert all(self.is_old_then_new(found) for found in again)

    def test_next_save_tidies_up(self, outcomes):
        for steps in outcomes["snapshots"].values():
            for step in steps:
                assert step["found at last"] == "third"
                assert step["files at last"] == sorted([*FITTED, MANIFEST])

    def test_everything_is_on_the_disk_before_the_model_is_new(self, model, monkeypatch):
        synced = []
        sync, replace = os.fsync, Path.replace

        def note_sync(descriptor):
            synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
            sync(descriptor)

        def note_replace(path, target):
            if target.name == MANIFEST:
                synced.append("the model is new")
            return replace(path, target)

        if not Path("/proc/self/fd").exists():
            pytest.skip("needs the names of open files")
        monkeypatch.setattr(os, "fsync", note_sync)
        monkeypatch.setattr(Path, "replace", note_replace)
        write(model, UNFITTED)
        new = synced.index("the model is new")
        wanted = {f"{name}.new" for name in (*UNFITTED, MANIFEST)}
        assert wanted <= set(synced[:new])
        # The directory, which holds the names, comes after them, and again after the change.
        assert synced[new - 1] == model.name
        assert synced[new + 1] == model.name


def test_reading_while_another_saves(tmp_path):
    directory = tmp_path / "model"
    write(directory, FITTED)

    def save_often():
        for _ in range(15):
            write(directory, UNFITTED)
            write(directory, FITTED)

    writer = threading.Thread(target=save_often)
    writer.start()
    found = []
    while writer.is_alive():
        found.append(read(directory))
    writer.join()
    assert FITTED in found
    assert UNFITTED in found
    assert all(files in (FITTED, UNFITTED) for files in found)


def reseal(directory, **changes):
    """Change a manifest, and give it a checksum that holds, computed here."""
    path = directory / MANIFEST
    manifest = {**json.loads(path.read_text()), **changes}
    manifest.pop("sha256")
    text = json.dumps(manifest, sort_keys=True)
    manifest["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(manifest))


def seal(content):
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


class TestWhatCannotBeRead:
    def test_missing_directory(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no such directory: give the path.*nowhere"):
            read(tmp_path / "nowhere")

    def test_path_of_a_file(self, model):
        with pytest.raises(NotADirectoryError, match=r"give the directory.*params\.json"):
            read(model / "params.json")

    def test_directory_without_a_model(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"Save it again.*manifest\.json"):
            read(tmp_path)

    def test_another_class(self, model):
        with pytest.raises(ValueError, match=r"model holds a some\.Class.*load it with its own"):
            read(model, class_name="other.Class")

    @pytest.mark.parametrize("name", FITTED)
    def test_missing_file(self, model, name):
        (model / name).unlink()
        with pytest.raises(FileNotFoundError, match=f"backup.*{name}"):
            read(model)

    @pytest.mark.parametrize("name", FITTED)
    def test_altered_file(self, model, name):
        content = FITTED[name]
        (model / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ValueError, match=rf"model/{name} is damaged.*checksum.*backup"):
            read(model)

    @pytest.mark.parametrize("name", FITTED)
    @pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: b"", lambda c: c + b"\n"])
    def test_truncated_or_longer_file(self, model, name, change):
        (model / name).write_bytes(change(FITTED[name]))
        with pytest.raises(ValueError, match=rf"model/{name} is damaged.*bytes in place of"):
            read(model)

    def test_every_altered_byte_of_the_manifest(self, model):
        content = (model / MANIFEST).read_bytes()
        for position in range(len(content)):
            altered = bytearray(content)
            altered[position] ^= 1
            (model / MANIFEST).write_bytes(altered)
            # White space between values is no content.
            if json_or_none(altered) == json.loads(content):
                continue
            with pytest.raises((ValueError, OSError), match="manifest"):
                read(model)

    def test_truncated_manifest(self, model):
        content = (model / MANIFEST).read_bytes()
        for size in range(0, len(content) - 1, 7):
            (model / MANIFEST).write_bytes(content[:size])
            with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
                read(model)

    def test_newer_format(self, model):
        newer = FORMAT_VERSION + 1
        # Whatever else a later version changes, it is recognized.
        (model / MANIFEST).write_text(json.dumps({"format_version": newer, "anything": []}))
        with pytest.raises(ValueError, match=rf"manifest.json has format version {newer}.*update"):
            read(model)

    def test_manifest_of_something_else(self, tmp_path):
        (tmp_path / MANIFEST).write_text('{"name": "an app"}')
        with pytest.raises(ValueError, match="was not written by sklearn_torch_gmm"):
            read(tmp_path)


def json_or_none(content):
    try:
        return json.loads(content)
    except ValueError:
        return None


class TestHandMadeDirectories:
    def test_resealed_manifest_is_read(self, model):
        # So that the refusals below are for what they change.
        reseal(model)
        assert read(model) == FITTED

    @pytest.mark.parametrize(
        "name", ["../secret", "/etc/hostname", "secret", "sub/params.json", "params.json\0", "."]
    )
    def test_no_other_file_is_opened(self, model, name, monkeypatch):
        (model.parent / "secret").write_bytes(b"secret")
        (model / "secret").write_bytes(b"secret")
        manifest = json.loads((model / MANIFEST).read_text())
        reseal(model, files={**manifest["files"], name: seal(b"secret")})
        opened = []
        read_file = _model_directory.read_file

        def note(path, **options):
            opened.append(path)
            return read_file(path, **options)

        monkeypatch.setattr(_model_directory, "read_file", note)
        with pytest.raises(ValueError, match=r"manifest.json names files that no model has"):
            read_model(model, "some.Class", (*ALL_FILES, name))
        assert set(opened) == {model / MANIFEST}

    @pytest.mark.parametrize("name", [*FITTED, MANIFEST])
    def test_links_lead_nowhere(self, model, name):
        outside = model.parent / "outside"
        (model / name).rename(outside)
        (model / name).symlink_to(outside)
        with pytest.raises(OSError, match=rf"This is a link.*{name}"):
            read(model)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    @pytest.mark.parametrize("name", [*FITTED, MANIFEST])
    def test_pipes_are_not_waited_for(self, model, name):
        (model / name).unlink()
        os.mkfifo(model / name)
        with pytest.raises(OSError, match=rf"not a regular file.*{name}"):
            read(model)

    @pytest.mark.parametrize("name", [*FITTED, MANIFEST])
    def test_directories_in_place_of_files(self, model, name):
        (model / name).unlink()
        (model / name).mkdir()
        with pytest.raises(OSError, match=rf"not a regular file.*{name}"):
            read(model)

    @pytest.mark.parametrize(
        "files",
        [
            None,
            [],
            {"params.json": None},
            {"params.json": {"size": 3}},
            {"params.json": {"size": "3", "sha256": ""}},
            {"params.json": {"size": True, "sha256": ""}},
            {"params.json": {"size": 10**15, "sha256": 5}},
            {"params.json": {**seal(b"{1}"), "path": "/etc/passwd"}},
        ],
    )
    def test_files_that_are_not_described(self, model, files):
        reseal(model, files=files)
        with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
            read(model)

    def test_claimed_size_takes_no_memory(self, model):
        claimed = {**seal(FITTED["params.json"]), "size": 10**15}
        reseal(model, files={"params.json": claimed})
        with pytest.raises(ValueError, match=f"it has 3 bytes in place of {10**15}"):
            read(model)

    @pytest.mark.parametrize("class_name", [None, 1, ["some.Class"]])
    def test_class_that_is_no_name(self, model, class_name):
        reseal(model, **{"class": class_name})
        with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
            read(model)

    @pytest.mark.parametrize(
        "text", ['{"format_version": 1, "a": NaN}', '{"format_version": 1, "a": ' + "[" * 10**5]
    )
    def test_manifest_that_is_no_json(self, model, text):
        (model / MANIFEST).write_text(text)
        with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
            read(model)

    def test_pending_file_counts_only_if_the_manifest_means_it(self, model):
        (model / "params.json.new").write_bytes(b"{9}")
        assert read(model) == FITTED
        (model / "params.json").unlink()
        with pytest.raises(ValueError, match=r"params\.json is damaged"):
            read(model)

import os

import pytest

from sklearn_torch_gmm.core.files import check_regular_file, replace_file


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


def test_replaced_file_holds_the_new_content(tmp_path):
    path = tmp_path / "a"
    replace_file(path, b"one")
    replace_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert names_in(tmp_path) == ["a"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failing_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "a"
    replace_file(path, b"old")

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    owner = {"fsync": os, "replace": type(path)}[step]
    monkeypatch.setattr(owner, step, fail)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["a"]


def test_written_file_has_the_permissions_of_any_other(tmp_path):
    replace_file(tmp_path / "ours", b"")
    (tmp_path / "usual").touch()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_writing_does_not_go_through_a_link(tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    link = tmp_path / "link"
    link.symlink_to(target)
    replace_file(link, b"new")
    assert target.read_bytes() == b"precious"
    assert link.read_bytes() == b"new"


def test_links_are_followed_only_if_asked(tmp_path):
    (tmp_path / "target").write_bytes(b"content")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    check_regular_file(link, follow_links=True)
    with pytest.raises(OSError, match="is a link") as caught:
        check_regular_file(link)
    assert caught.value.filename == str(link)


def test_a_file_in_the_place_of_a_directory_is_named(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "a", tmp_path / "file" / "a" / "b"):
        with pytest.raises(NotADirectoryError, match=r"remove it.*file'$"):
            replace_file(path, b"")
        with pytest.raises(NotADirectoryError, match="give the path to which it was saved"):
            check_regular_file(path)
    with pytest.raises(FileNotFoundError, match="directory of this file does not exist"):
        replace_file(tmp_path / "nowhere" / "a", b"")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_reading_a_pipe_is_refused_rather_than_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        check_regular_file(tmp_path / "pipe")


def test_reading_a_directory_is_refused(tmp_path):
    with pytest.raises(OSError, match="not a regular file"):
        check_regular_file(tmp_path)


def test_reading_a_missing_file_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        check_regular_file(tmp_path / "missing")

import gc
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sklearn_torch_gmm.core.imports import without_collections

COUNT_COLLECTIONS = """
import gc
before = [generation["collections"] for generation in gc.get_stats()]
import sklearn_torch_gmm
after = [generation["collections"] for generation in gc.get_stats()]
import torch
print(gc.isenabled(), after[1] - before[1], after[2] - before[2])
"""


class Marked:
    """An object that the collector tracks."""


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Nothing is frozen before a test, and the collector is enabled after it."""
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.enable()


def is_old(marked: Marked) -> bool:
    return any(each is marked for each in gc.get_objects(generation=2))


class TestWithoutCollections:
    def test_objects_are_old_at_once(self) -> None:
        with without_collections():
            assert not gc.isenabled()
            marked = Marked()
            marked.itself = marked  # type: ignore[attr-defined]

        assert gc.isenabled()
        assert is_old(marked)
        assert gc.get_freeze_count() == 0

    def test_enabled_again_after_an_error(self) -> None:
        with pytest.raises(ImportError), without_collections():
            raise ImportError
        assert gc.isenabled()

    def test_disabled_stays_disabled(self) -> None:
        gc.disable()
        with without_collections():
            marked = Marked()
        assert not gc.isenabled()
        assert not is_old(marked)

    def test_frozen_stays_frozen(self) -> None:
        """A server freezes what it shares with its forks."""
        gc.freeze()
        before = gc.get_freeze_count()
        with without_collections():
            marked = Marked()
        # Frozen objects may die, and nothing else may become one of them.
        assert 0 < gc.get_freeze_count() <= before
        assert gc.isenabled()
        assert not is_old(marked)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forks")
def test_the_collector_is_enabled_in_a_fork() -> None:
    """Another thread may fork during an import, and its child never comes to the end of it."""
    with without_collections():
        child = os.fork()
        if child == 0:
            os._exit(0 if gc.isenabled() else 1)
        assert not gc.isenabled()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_importing_the_package_collects_only_the_young() -> None:
    # The collector rests until torch is there, and has been used little before and after.
    command = [sys.executable, "-c", COUNT_COLLECTIONS]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["True", "0", "0"]

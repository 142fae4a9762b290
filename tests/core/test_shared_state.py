"""State of the process that concurrent users change together."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from sklearn_torch_gmm.core.shared_state import SharedState


class Switch:
    def __init__(self):
        self.is_on = False
        self.shared = SharedState(self.turn_on)

    def turn_on(self):
        before, self.is_on = self.is_on, True

        def restore():
            self.is_on = before

        return restore


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first in, first out", "last in"])
def test_the_last_user_restores_what_the_first_has_found(order):
    switch = Switch()
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        threads, uses = (one, other), (ExitStack(), ExitStack())
        for thread, use in zip(threads, uses, strict=True):
            thread.submit(use.enter_context, switch.shared).result()
        threads[order[0]].submit(uses[order[0]].close).result()
        assert switch.is_on
        assert switch.shared.is_in_use
        threads[order[1]].submit(uses[order[1]].close).result()
    assert not switch.is_on
    assert not switch.shared.is_in_use


def test_it_is_restored_after_an_error_and_can_be_used_again():
    switch = Switch()
    for _ in range(2):
        with pytest.raises(KeyError), switch.shared:
            raise KeyError
        assert not switch.is_on


def test_a_change_that_fails_is_not_counted():
    def refuse():
        raise RuntimeError("no")

    shared = SharedState(refuse)
    with pytest.raises(RuntimeError, match="no"), shared:
        pass
    assert not shared.is_in_use

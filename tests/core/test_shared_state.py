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


def test_an_interrupt_between_change_and_entry_is_made_up_for():
    """The next user to leave restores what the program had before the first one."""
    switch = Switch()
    switch.shared._restore = switch.shared._change()
    assert switch.is_on
    with switch.shared:
        assert switch.is_on
    assert not switch.is_on


def test_a_child_of_a_fork_does_not_wait_for_threads_of_its_parent():
    switch = Switch()
    with ThreadPoolExecutor(1) as other, ExitStack() as use:
        other.submit(use.enter_context, switch.shared).result()
        # The child runs this, after which it has a copy of all else.
        switch.shared._forget_other_threads()
        assert not switch.shared.is_in_use
        with switch.shared:
            assert switch.is_on
        assert not switch.is_on


def test_the_thread_that_forks_stays_a_user():
    switch = Switch()
    with switch.shared:
        switch.shared._forget_other_threads()
        assert switch.shared.is_in_use
        with switch.shared:
            pass
        assert switch.is_on
    assert not switch.is_on


def test_another_thread_may_leave():
    switch = Switch()
    with ThreadPoolExecutor(1) as other, ExitStack() as use:
        other.submit(use.enter_context, switch.shared).result()
        use.pop_all().close()
        assert not switch.is_on
        assert not switch.shared.is_in_use


def test_a_thread_that_left_for_another_does_not_keep_the_state_after_a_fork():
    switch = Switch()
    with ThreadPoolExecutor(1) as other, ExitStack() as first, ExitStack() as second:
        for use in (first, second):
            other.submit(use.enter_context, switch.shared).result()
        first.pop_all().close()
        switch.shared._forget_other_threads()
        second.pop_all()
        with switch.shared:
            assert switch.is_on
        assert not switch.is_on

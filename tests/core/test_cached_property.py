"""A property that is computed once, and for which no thread or process waits."""

import threading

from sklearn_torch_gmm.core.cached_property import cached_property


class Slow:
    def __init__(self, may_go_on=None):
        self.may_go_on = may_go_on
        self.has_begun = threading.Event()
        self.count = 0

    @cached_property
    def value(self):
        """A number."""
        self.count += 1
        self.has_begun.set()
        if self.may_go_on is not None:
            assert self.may_go_on.wait(60.0)
        return 42


def test_it_is_computed_once_for_each_object():
    for _ in range(2):
        one = Slow()
        assert (one.value, one.value, one.count) == (42, 42, 1)
    assert Slow.value.__doc__ == "A number."


def test_another_object_does_not_wait():
    """The child of a fork would wait for a thread that it does not have."""
    may_go_on = threading.Event()
    slow, other = Slow(may_go_on), Slow()
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    assert slow.has_begun.wait(60.0)
    finder = threading.Thread(target=lambda: other.value)
    finder.start()
    finder.join(10.0)
    is_waiting = finder.is_alive()
    may_go_on.set()
    thread.join()
    assert not is_waiting

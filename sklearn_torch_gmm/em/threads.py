"""A limit of one thread for NumPy's BLAS or for OpenMP, where more would slow each other down.

OpenBLAS's threads keep spinning for some 30 ms after a product. torch's threads, which run next,
then share their cores with them: a fit of 2,000 rows took two and a half times as long.

BLAS has one number of threads for the whole process. scikit-learn's K-means sets it to one and
restores the previous value. Of two concurrent runs, the later one finds a value of one, and may be
the last to restore it. Here the original value is restored after the last of all runs.

OpenMP has a number of threads for each thread. scikit-learn and torch may each load their own
OpenMP, whose threads keep spinning after their work and compete for cores with the threads of the
other one and of OpenBLAS. Work that is too small to be divided is faster with a single thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

from sklearn_torch_gmm._private_parts import setter_of_mkl_threads
from sklearn_torch_gmm.core.shared_state import SharedState

FEW_MULTIPLICATIONS = 1_200_000
"""Cost of a pass, in multiplications, below which it is computed on one thread.

On two idle cores, a second thread would save up to a fifth of a pass that is a little cheaper.
If a core is busy, also with the threads of another library that are still spinning, passes on two
threads take two to six times as long as on one.
"""


@cache
def libraries(kind: str) -> ThreadpoolController:
    """Return the loaded libraries for ``"blas"`` or ``"openmp"``; finding them takes a while.

    A limit of all libraries would also restore the numbers that it does not change.
    """
    return ThreadpoolController().select(user_api=kind)


class FewThreads(ExitStack):
    """Limits OpenMP to one thread from the first small pass on: later passes are not larger."""

    is_limited = False

    def before_pass(self, cost: int) -> None:
        """Choose the number of threads for a pass of a cost in multiplications.

        There is nothing to choose once it is limited: setting it for each pass would take a
        twentieth of an iteration on few samples.
        """
        if _is_small(cost):
            self.enter_context(one_openmp_thread())
            self.is_limited = True


def threads_for_work(cost: int) -> AbstractContextManager[None]:
    """Limit OpenMP to one thread for work of few multiplications, as most decompositions are."""
    return one_openmp_thread() if _is_small(cost) else nullcontext()


def _is_small(cost: int) -> bool:
    """Whether work of a cost in multiplications is done by one thread.

    LAPACK wakes threads even for the smallest matrix. While NumPy's BLAS threads are still
    spinning, each of its calls may then wait 5 ms.
    """
    return cost < FEW_MULTIPLICATIONS


@contextmanager
def one_openmp_thread() -> Iterator[None]:
    """Limit OpenMP to one thread for the work of the current thread."""
    # The other steps of `limit` take as long as a small iteration.
    before = [(one, one.get_num_threads()) for one in libraries("openmp").lib_controllers]
    set_of_mkl, of_mkl = setter_of_mkl_threads(), None
    # An interrupt may come at any time.
    try:
        for one, _ in before:
            one.set_num_threads(1)
        if set_of_mkl is not None:
            # After `torch.set_num_threads`, MKL has a number that OpenMP's does not limit.
            of_mkl = set_of_mkl(1)
        yield
    finally:
        try:
            for one, number in before:
                one.set_num_threads(number)
        finally:
            if set_of_mkl is not None and of_mkl is not None:
                set_of_mkl(of_mkl)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread until the last concurrent user of this context is done."""
    with blas_threads_as_before(), _one_blas_thread:
        yield


def blas_threads_as_before() -> AbstractContextManager[None]:
    """Restore the number of BLAS threads after the last concurrent user, who may limit it."""
    return _blas_threads


def _look_at_blas() -> Callable[[], None]:
    # With OpenMP, each thread has a number of its own, which no other thread can restore.
    own = [one for one in libraries("blas").lib_controllers if _is_of_process(one)]
    before = [(one, one.get_num_threads()) for one in own]

    def restore() -> None:
        for one, number in before:
            if one.get_num_threads() != number:
                one.set_num_threads(number)

    return restore


def _is_of_process(library: Any) -> bool:
    """Whether a library has one number of threads for the whole process."""
    return getattr(library, "threading_layer", None) != "openmp"


class _Keeper:
    """A thread that only holds the limit: in some libraries only it can restore the number."""

    def __init__(self) -> None:
        self._is_set, self._is_over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()
        try:
            self._is_set.wait()
        except BaseException:
            # Nobody would end the thread of an interrupted constructor.
            self._is_over.set()
            raise

    def _keep(self) -> None:
        with libraries("blas").limit(limits=1):
            self._is_set.set()
            self._is_over.wait()

    def end(self) -> None:
        """Restore the number of threads."""
        self._is_over.set()
        self._thread.join()


_blas_threads = SharedState(_look_at_blas)
_one_blas_thread = SharedState(lambda: _Keeper().end)

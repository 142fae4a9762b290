"""One thread for NumPy's BLAS, or for OpenMP, where more would be in the way.

OpenBLAS's threads go on spinning for some 30 ms after a product. Those of torch, which come next,
then share their cores with them: a fit of 2,000 rows took two and a half times as long.

BLAS has one number of threads for the whole process. scikit-learn's K-means sets it to one and puts
back what it has found: of two runs at once, the later one finds one, and may put that back last.
Here one thread sets it for all, and puts back what there was when the last of them is done.

OpenMP has a number of threads for each thread. scikit-learn and torch may have an OpenMP each,
whose threads go on spinning after their work and then share their cores with those of the other,
and with OpenBLAS's. What is too little to be shared out had better wait for none of them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache

from threadpoolctl import ThreadpoolController

from sklearn_torch_gmm.core.fast_step import SMALL_PRODUCT

_lock = threading.Lock()
_users = 0
_keeper: _Keeper | None = None


@cache
def libraries(kind: str) -> ThreadpoolController:
    """The loaded libraries for ``"blas"`` or ``"openmp"``, which take a while to find.

    A limit of all libraries would put back the numbers of those, too, that it does not change.
    """
    return ThreadpoolController().select(user_api=kind)


def threads_for_iteration(multiplications: int) -> AbstractContextManager[None]:
    """Limit OpenMP to one thread for iterations that share nothing out.

    LAPACK wakes threads for the smallest matrix. Where those of NumPy's BLAS are still spinning,
    each of its calls may then wait 5 ms.

    Parameters
    ----------
    multiplications : int
        Of a pass over the rows.
    """
    return one_openmp_thread() if multiplications < SMALL_PRODUCT else nullcontext()


@contextmanager
def one_openmp_thread() -> Iterator[None]:
    """Limit OpenMP to one thread, for what this thread does."""
    # What `limit` does beside this takes as long as a small iteration.
    before = [(one, one.get_num_threads()) for one in libraries("openmp").lib_controllers]
    for one, _ in before:
        one.set_num_threads(1)
    try:
        yield
    finally:
        for one, number in before:
            one.set_num_threads(number)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread, as long as anybody wants it so."""
    global _users, _keeper
    with _lock:
        if _keeper is None:
            _keeper = _Keeper()
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _keeper.end()
                _keeper = None


class _Keeper:
    """A thread that does nothing else: some libraries obey only who set their number before."""

    def __init__(self) -> None:
        self._is_set, self._is_over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()
        self._is_set.wait()

    def _keep(self) -> None:
        with libraries("blas").limit(limits=1):
            self._is_set.set()
            self._is_over.wait()

    def end(self) -> None:
        """Put back what there was."""
        self._is_over.set()
        self._thread.join()

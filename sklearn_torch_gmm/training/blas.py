"""One thread for NumPy's BLAS, where more would be in the way.

OpenBLAS's threads go on spinning for some 30 ms after a product. Those of torch, which come next,
then share their cores with them: a fit of 2,000 rows took two and a half times as long.

BLAS has one number of threads for the whole process. scikit-learn's K-means sets it to one and puts
back what it has found: of two runs at once, the later one finds one, and may put that back last.
Here one thread sets it for all, and puts back what there was when the last of them is done.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_users = 0
_keeper: _Keeper | None = None


@cache
def libraries(kind: str) -> ThreadpoolController:
    """The loaded libraries for ``"blas"`` or ``"openmp"``, which take a while to find.

    A limit of all libraries would put back the numbers of those, too, that it does not change.
    """
    return ThreadpoolController().select(user_api=kind)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread, as long as anybody wants it so."""
    global _users, _keeper
    with _lock:
        _users += 1
        if _keeper is None:
            _keeper = _Keeper()
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

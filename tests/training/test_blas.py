"""BLAS has one thread while anybody wants it so, and what it had before when nobody does."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from threadpoolctl import threadpool_info

from sklearn_torch_gmm.training.blas import one_blas_thread


def counts(kind):
    pools = [pool for pool in threadpool_info() if pool["user_api"] == kind]
    return {pool["filepath"]: pool["num_threads"] for pool in pools}


def is_one():
    return set(counts("blas").values()) <= {1}


def test_it_is_one_inside_and_as_before_outside():
    before = counts("blas"), counts("openmp")
    with one_blas_thread():
        assert is_one()
        assert counts("openmp") == before[1]
    assert (counts("blas"), counts("openmp")) == before


def test_it_is_put_back_after_an_error():
    before = counts("blas")
    with pytest.raises(KeyError), one_blas_thread():
        raise KeyError
    assert counts("blas") == before


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first in, first out", "last in"])
def test_whoever_is_done_last_puts_back_what_the_first_has_found(order):
    before = counts("blas")
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        threads, uses = (one, other), (ExitStack(), ExitStack())
        for thread, use in zip(threads, uses, strict=True):
            thread.submit(use.enter_context, one_blas_thread()).result()
            assert is_one()
        threads[order[0]].submit(uses[order[0]].close).result()
        assert is_one()
        threads[order[1]].submit(uses[order[1]].close).result()
    assert counts("blas") == before

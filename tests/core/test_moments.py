import pytest
import torch

from sklearn_torch_gmm.core.moments import Moments


@pytest.fixture(params=["", "scatter", "certainty", "scatter and certainty", "gaps and scatter"])
def moments(request) -> Moments:
    """R = 2, K = 3, D = 2 and Q = 1."""
    return Moments(
        sums=torch.arange(24.0).reshape(2, 3, 4),
        log_likelihood=torch.tensor([-1.0, -2.0]),
        scatter=torch.arange(4.0).reshape(1, 2, 2) if "scatter" in request.param else None,
        certainty=torch.tensor([-5.0, -6.0]) if "certainty" in request.param else None,
        gap_scatter=torch.arange(8.0).reshape(2, 2, 2) if "gaps" in request.param else None,
    )


def assert_same(actual: Moments, expected: Moments) -> None:
    torch.testing.assert_close(vars(actual), vars(expected), rtol=0, atol=0)


def test_counts_first_and_second_moments_lie_one_after_the_other(moments):
    assert moments.counts[0].tolist() == [0, 4, 8]
    assert moments.first(2)[0].tolist() == [[1, 2], [5, 6], [9, 10]]
    assert moments.second(2)[0].tolist() == [[3], [7], [11]]


def test_parts_are_views_that_accumulate_into_the_sums(moments):
    moments.counts.add_(100.0)
    moments.first(2).add_(200.0)
    moments.second(2).add_(300.0)
    assert moments.sums[1, 2].tolist() == [120, 221, 222, 323]


def test_packing_and_unpacking_changes_nothing(moments):
    packed = moments.pack(with_scatter=True)
    optional = (moments.scatter, moments.certainty, moments.gap_scatter)
    others = [t.numel() for t in optional if t is not None]
    assert packed.shape == (24 + 2 + sum(others),)
    assert_same(moments.unpack(packed), moments)


def doubled(sums):
    return None if sums is None else 2 * sums


def test_packed_moments_add_up_like_the_moments(moments):
    packed = moments.pack(with_scatter=True)
    twice = Moments(**{name: doubled(sums) for name, sums in vars(moments).items()})
    assert_same(moments.unpack(packed + packed), twice)


def test_a_scatter_that_is_left_out_stays_what_it_is(moments):
    packed = moments.pack(with_scatter=False)
    twice = Moments(**{name: doubled(sums) for name, sums in vars(moments).items()})
    twice.scatter = moments.scatter
    assert_same(moments.unpack(2 * packed), twice)


def test_the_total_scatter_includes_rows_with_gaps(moments):
    if moments.gap_scatter is None:
        assert moments.total_scatter is moments.scatter
    else:
        torch.testing.assert_close(moments.total_scatter, moments.scatter + moments.gap_scatter)

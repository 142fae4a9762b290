import pytest
import torch

from sklearn_torch_gmm.core import gap_chunks, gaps
from sklearn_torch_gmm.core.gap_chunks import GapChunk, chunks_of
from sklearn_torch_gmm.core.gaps import split_rows
from tests.core.test_gaps import gappy_rows


def lacking(chunk):
    """The missing features of each row, by lane."""
    missing, pattern = chunk.missing.movedim(1, -1), chunk.pattern
    counts = chunk.counts.expand(missing.shape[:2]).tolist()
    return [
        [missing[lane, number, : counts[lane][number]].tolist() for number in numbers]
        for lane, numbers in enumerate(pattern.tolist())
    ]


@pytest.mark.parametrize("few_rows", [0, 1000])
@pytest.mark.parametrize("num_lanes", [1, 2, 3, 7])
@pytest.mark.parametrize("kept_values", [0, 2**16])
def test_each_row_is_in_one_lane_with_its_pattern(
    rng, monkeypatch, few_rows, num_lanes, kept_values
):
    monkeypatch.setattr(gaps, "FEW_ROWS_OF_A_GROUP", few_rows)
    monkeypatch.setattr(gap_chunks, "KEPT_VALUES", kept_values)
    monkeypatch.setattr(gap_chunks, "LEAST_ROWS", 3)
    rows = gappy_rows(rng, 200, 4)
    for group in split_rows(rows).groups:
        chunks = list(chunks_of(group, 23, num_lanes))
        # A second pass finds the same.
        for chunk, again in zip(chunks, chunks_of(group, 23, num_lanes), strict=True):
            assert (chunk is again) == (kept_values > 0)
            torch.testing.assert_close(chunk.rows, again.rows)
        numbers = []
        for chunk in chunks:
            flat = chunk.rows.flatten().tolist()
            assert len(set(flat)) == len(flat) - chunk.surplus
            numbers += flat[: len(flat) - chunk.surplus]
            expected = [
                [rows[row].isnan().nonzero().flatten().tolist() for row in own]
                for own in chunk.rows.tolist()
            ]
            assert lacking(chunk) == expected
            values, observed = chunk.values_of(rows, rows)
            assert torch.equal(observed.mT, (~rows[chunk.rows].isnan()).double())
            assert torch.equal(values.mT, rows[chunk.rows].nan_to_num())
        assert numbers == group.rows.tolist()


@pytest.mark.parametrize("num_lanes", [1, 3])
def test_sums_over_patterns_leave_out_copies(rng, monkeypatch, num_lanes):
    monkeypatch.setattr(gap_chunks, "LEAST_ROWS", 1)
    weights = torch.from_numpy(rng.uniform(1.0, 2.0, 200))
    for group in split_rows(gappy_rows(rng, 200, 4)).groups:
        for sample_weight in (None, weights):
            total = 0.0
            for chunk in chunks_of(group, 50, num_lanes):
                own = chunk.weights(sample_weight, torch.float64)
                ones = torch.ones(chunk.rows.shape, dtype=torch.float64)
                total += chunk.by_pattern(ones if own is None else own).sum()
            expected = weights[group.rows].sum() if sample_weight is not None else len(group.rows)
            torch.testing.assert_close(total, torch.as_tensor(expected, dtype=torch.float64))


def test_lanes_have_patterns_of_their_own():
    # In the first lane a pattern of the features 0 and 2, in the second one of 1 and 2.
    missing = torch.tensor([[[0], [2]], [[1], [2]]])
    chunk = GapChunk(
        torch.arange(4).view(2, 2), missing, torch.zeros(2, 2).long(), None, 3, 0, False
    )
    values = torch.arange(6.0).view(2, 1, 3)
    assert chunk.at_missing(values).tolist() == [[[[0], [2]]], [[[4], [5]]]]
    chunk.add_at_missing(values, torch.full((2, 1, 2, 1), 10.0))
    assert values.tolist() == [[[10, 1, 12]], [[3, 14, 15]]]
    sums = torch.zeros(2, 9)
    chunk.add_at_places(sums, torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(2, 2, 2).unsqueeze(-1))
    assert sums.view(2, 3, 3).tolist() == [
        [[1, 0, 2], [0, 0, 0], [3, 0, 4]],
        [[0, 0, 0], [0, 1, 2], [0, 3, 4]],
    ]


def test_rows_have_the_values_of_their_patterns():
    values = torch.arange(12.0).view(2, 2, 3)
    pattern = torch.tensor([[2, 0], [1, 1]])
    chunk = GapChunk(
        torch.arange(4).view(2, 2), torch.zeros(2, 1, 3).long(), pattern, None, 3, 0, False
    )
    assert chunk.by_row(values).tolist() == [[[2, 0], [5, 3]], [[7, 7], [10, 10]]]
    assert chunk.by_pattern(torch.ones(2, 1, 2)).tolist() == [[[1, 0, 1]], [[0, 2, 0]]]

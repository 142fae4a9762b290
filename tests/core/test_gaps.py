import numpy as np
import pytest
import torch

from sklearn_torch_gmm.core import gaps
from sklearn_torch_gmm.core.gaps import has_gaps, split_rows, without_gaps


def gappy_rows(rng, num_rows, num_features, share=0.3):
    rows = rng.standard_normal((num_rows, num_features))
    return torch.from_numpy(np.where(rng.random(rows.shape) < share, np.nan, rows))


def patterns_of(group):
    """The missing features of each pattern."""
    patterns = group.missing.T.tolist()
    if group.padding is None:
        return patterns
    for features in patterns:
        assert len(set(features)) == len(features)
    counts = (~group.padding).sum(0).tolist()
    return [row[:count] for row, count in zip(patterns, counts, strict=True)]


def test_complete_rows_are_not_split(rng):
    rows = torch.from_numpy(rng.standard_normal((20, 3)))
    assert not has_gaps(rows)
    assert split_rows(rows) is None
    assert split_rows(rows[:0]) is None


# Sixty-two features fit into one number, more take several.
@pytest.mark.parametrize("num_features", [1, 4, 62, 63, 130])
@pytest.mark.parametrize("block_bytes", [1, 2**23])
@pytest.mark.parametrize("few_rows", [0, 7, 1000])
def test_each_incomplete_row_is_in_one_group_with_its_pattern(
    rng, monkeypatch, num_features, block_bytes, few_rows
):
    monkeypatch.setattr(gaps, "FEW_ROWS_OF_A_GROUP", few_rows)
    monkeypatch.setattr(gaps, "BLOCK_BYTES", block_bytes)
    rows = gappy_rows(rng, 60, num_features, 1.5 / num_features)
    # Patterns that differ only in the last features.
    rows[:4] = 1.0
    rows[0, -1] = rows[1, -1] = rows[2, 0] = rows[3] = torch.nan
    assert has_gaps(rows)
    split = split_rows(rows)
    seen = [split.complete]
    for group in split.groups:
        patterns = patterns_of(group)
        assert len(set(map(tuple, patterns))) == len(patterns)
        for row, pattern in zip(group.rows.tolist(), group.pattern.tolist(), strict=True):
            assert rows[row].isnan().nonzero().flatten().tolist() == patterns[pattern]
        assert (group.pattern.diff() >= 0).all()
        seen.append(group.rows)
    assert torch.cat(seen).sort().values.tolist() == list(range(60))
    assert torch.equal(split.incomplete, torch.cat(seen[1:]).sort().values)


def test_gaps_become_zeros_and_infinities_stay():
    values, observed = without_gaps(torch.tensor([1.0, torch.nan, torch.inf]))
    assert values.tolist() == [1.0, 0.0, torch.inf]
    assert observed.tolist() == [1.0, 0.0, 1.0]

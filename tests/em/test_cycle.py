"""What is remembered of a restart between two passes."""

import pytest
import torch

from sklearn_torch_gmm.em.cycle import FIRST_CAP, GROWTH, Cycle
from tests.core.test_parameters import numbered, numbers_of


def test_there_and_back():
    cycle = Cycle(8.0, 2.5, numbered(1), None)
    back = Cycle.from_plain(cycle.to_plain())
    assert (back.cap, back.step, back.extrapolated) == (8.0, 2.5, None)
    assert numbers_of(back.origin) == [1]
    back = Cycle.from_plain(Cycle(extrapolated=numbered(2)).to_plain())
    assert (back.cap, back.step, back.origin) == (FIRST_CAP, 1.0, None)
    assert numbers_of(back.extrapolated) == [2]


def test_plain_values_alone(tmp_path):
    torch.save(Cycle(8.0, 2.5, numbered(1), numbered(2)).to_plain(), tmp_path / "cycle")
    torch.load(tmp_path / "cycle", weights_only=True)


@pytest.mark.parametrize(
    ("cap", "step", "is_accepted", "expected"),
    [
        (4.0, 4.0, True, 4.0 * GROWTH),
        (4.0, 4.0, False, 4.0 / GROWTH),
        (4.0, 3.0, True, 4.0),
        (4.0, 3.0, False, 4.0),
        (1.0, 1.0, True, GROWTH),
        (1.0, 1.0, False, 1.0),
    ],
)
def test_only_a_step_that_was_capped_changes_the_cap(cap, step, is_accepted, expected):
    cycle = Cycle(cap, step, extrapolated=numbered(1))
    cycle.end(is_accepted=is_accepted)
    assert cycle.cap == expected
    assert cycle.extrapolated is None

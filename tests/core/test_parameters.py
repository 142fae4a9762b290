from dataclasses import FrozenInstanceError

import pytest
import torch

from sklearn_torch_gmm.core.parameters import MixtureParameters

NAMES = ["weights", "means", "covariances", "precisions_cholesky"]


def numbered(*numbers: float) -> MixtureParameters:
    """Mixtures of two components of three features, all of whose values are a mixture's number."""
    column = torch.tensor(numbers, dtype=torch.float32)
    return MixtureParameters(
        weights=column[:, None].repeat(1, 2),
        means=column[:, None, None].repeat(1, 2, 3),
        covariances=column[:, None].repeat(1, 2),
        precisions_cholesky=column[:, None].repeat(1, 2),
    )


def numbers_of(parameters: MixtureParameters) -> list[float]:
    found = [getattr(parameters, name).flatten(1) for name in NAMES]
    assert all((values == found[0][:, :1]).all() for values in found)
    return found[0][:, 0].tolist()


@pytest.mark.parametrize("chosen", [[2, 0], torch.tensor([2, 0]), (2, 0)], ids=type)
def test_selection_takes_mixtures_in_the_order_asked_for(chosen):
    assert numbers_of(numbered(1, 2, 3).select(chosen)) == [3, 1]


def test_tensors_come_in_the_order_of_the_members():
    parameters = numbered(1)
    members = [getattr(parameters, name) for name in NAMES]
    assert all(a is b for a, b in zip(parameters.tensors(), members, strict=True))


def test_stacking_joins_mixtures_in_order():
    assert numbers_of(MixtureParameters.stack([numbered(1), numbered(2, 3)])) == [1, 2, 3]


def test_stacking_is_undone_by_selection():
    stacked = MixtureParameters.stack([numbered(4), numbered(5)])
    assert numbers_of(stacked.select([1])) == [5]


def test_mixtures_are_replaced_at_their_positions():
    before = numbered(1, 2, 3)
    assert numbers_of(before.replace_at([2, 0], numbered(4, 5))) == [5, 2, 4]
    assert numbers_of(before) == [1, 2, 3]


def test_conversion_reaches_every_member():
    converted = numbered(1).to("cpu", torch.float64)
    assert {getattr(converted, name).dtype for name in NAMES} == {torch.float64}
    moved = numbered(1).to("meta")
    assert {getattr(moved, name).device.type for name in NAMES} == {"meta"}
    assert {getattr(moved, name).dtype for name in NAMES} == {torch.float32}


def test_members_cannot_be_exchanged():
    with pytest.raises(FrozenInstanceError):
        numbered(1).weights = torch.ones(1, 2)

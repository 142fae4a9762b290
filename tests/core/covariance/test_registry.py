from typing import get_args

import pytest

from sklearn_torch_gmm.core.covariance import STRUCTURES, CovarianceType, get_structure
from tests.core.covariance import test_diag, test_full, test_spherical, test_tied


def test_the_documented_types_are_those_that_exist():
    assert set(get_args(CovarianceType)) == set(STRUCTURES)


@pytest.mark.parametrize("name", ["full", "tied", "diag", "spherical"])
def test_a_structure_has_the_name_that_it_is_found_by(name):
    assert get_structure(name).name == name


def test_the_error_for_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        ValueError, match=r"'round': use one of 'full', 'tied', 'diag', 'spherical'"
    ):
        get_structure("round")


def test_every_structure_has_a_contract_test():
    contracts = [
        test_full.TestFull,
        test_tied.TestTied,
        test_diag.TestDiagonal,
        test_spherical.TestSpherical,
    ]
    assert {contract.name for contract in contracts} == set(STRUCTURES)

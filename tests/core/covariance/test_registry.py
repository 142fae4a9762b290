from typing import get_args

import pytest
import sklearn.mixture

from sklearn_torch_gmm import GaussianMixtureIC
from sklearn_torch_gmm.core.covariance import (
    SCIKIT_LEARN_TYPES,
    STRUCTURES,
    CovarianceType,
    get_structure,
    register_structure,
)
from sklearn_torch_gmm.core.covariance.diag import DiagonalCovariance
from tests.core.covariance import test_diag, test_full, test_spherical, test_tied
from tests.estimators import MIXTURE_CLASSES, make

X = [[0.0], [1.0], [8.0], [9.5]]


class Another(DiagonalCovariance):
    name = "another"


@pytest.fixture
def another():
    """A structure of a user, while a test runs."""
    structure = Another()
    register_structure(structure)
    yield structure
    del STRUCTURES["another"]


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


def test_scikit_learn_has_the_types_that_we_say():
    for name in SCIKIT_LEARN_TYPES:
        sklearn.mixture.GaussianMixture(2, covariance_type=name).fit(X)


def test_a_registered_structure_is_found_by_its_name(another):
    assert get_structure("another") is another


@pytest.mark.parametrize("structure", [DiagonalCovariance(), Another()])
def test_a_name_that_is_taken_is_refused(another, structure):
    before = dict(STRUCTURES)
    with pytest.raises(ValueError, match=f"type '{structure.name}' is taken"):
        register_structure(structure)
    assert before == STRUCTURES


def test_a_class_in_place_of_a_structure_is_refused():
    with pytest.raises(TypeError, match="pass one, not its class"):
        register_structure(Another)
    assert "another" not in STRUCTURES


@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
def test_estimators_look_at_the_registry_when_they_are_fitted(cls, monkeypatch):
    structure = Another()
    # A value that was valid once is not checked again: no other test may have registered it.
    structure.name = f"that of {cls.__module__}.{cls.__name__}"
    mixture = make(cls, 2, covariance_type=structure.name, random_state=0)
    with pytest.raises(ValueError, match=r"must be a str among \{.*\}. Got 'that of .*' instead"):
        mixture.fit(X)
    monkeypatch.setitem(STRUCTURES, structure.name, structure)
    expected = make(cls, 2, covariance_type="diag", random_state=0).fit(X)
    assert mixture.fit(X).covariances_.tolist() == expected.covariances_.tolist()


def test_all_types_of_a_search_are_those_of_the_package(another):
    search = GaussianMixtureIC(1, 1, random_state=0).fit(X)
    assert list(search.results_["covariance_type"]) == list(get_args(CovarianceType))
    for named in ("another", ["another"]):
        search = GaussianMixtureIC(1, 1, covariance_type=named, random_state=0).fit(X)
        assert list(search.results_["covariance_type"]) == ["another"]


@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
def test_a_saved_estimator_is_loaded_only_where_its_structure_is_registered(cls, tmp_path):
    register_structure(Another())
    try:
        mixture = make(cls, 2, covariance_type="another", random_state=0).fit(X)
        mixture.save(tmp_path / "mixture")
        assert cls.load(tmp_path / "mixture").predict(X).tolist() == mixture.labels_.tolist()
    finally:
        del STRUCTURES["another"]
    with pytest.raises(ValueError, match="Unknown covariance type 'another'"):
        cls.load(tmp_path / "mixture")

"""What every public object says of itself: numpydoc's style, an example, the defaults that it has.

The examples run as doctests: `pytest --doctest-modules sklearn_torch_gmm`.
"""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate

import sklearn_torch_gmm
import sklearn_torch_gmm.exceptions
import sklearn_torch_gmm.mixture

DOCS = Path(__file__).parents[2] / "docs"

CLASSES = [
    *(f"sklearn_torch_gmm.{name}" for name in sklearn_torch_gmm.__all__),
    "sklearn_torch_gmm.mixture.GaussianMixture",
    "sklearn_torch_gmm.mixture.BayesianGaussianMixture",
    "sklearn_torch_gmm.impute.GaussianMixtureImputer",
    *(
        f"sklearn_torch_gmm.exceptions.{name}"
        for name, value in vars(sklearn_torch_gmm.exceptions).items()
        if getattr(value, "__module__", "") == "sklearn_torch_gmm.exceptions"
    ),
]

NOT_ASKED_FOR = {
    "ES01": "a summary may say it all",
    "EX01": "examples are looked for below: that of another method may have this one in it",
    "RT02": "a single return value has a name too",
    "RT03": "the name and the type of a return value may say it all",
    "RT04": "a return value may begin with a formula, or the name of a function",
    "SA01": "there may be nothing else to see",
    "SS05": "a mathematical function is best described by what it is: a noun",
}


def object_of(name):
    """The class, or the function behind a member of it."""
    owner, _, attribute = name.rpartition(".")
    if name in CLASSES:
        return getattr(import_module(owner), attribute)
    return function_of(inspect.getattr_static(object_of(owner), attribute))


def function_of(member):
    """The function behind a method, a class method or a property."""
    return getattr(member, "fget", None) or getattr(member, "__func__", member)


def members(name):
    """Public methods and properties of a class that this package defines."""
    cls = object_of(name)
    for member in dir(cls):
        function = function_of(inspect.getattr_static(cls, member))
        if member.startswith("_") or not inspect.isfunction(function):
            continue
        if function.__module__.startswith("sklearn_torch_gmm"):
            yield f"{name}.{member}"


METHODS = [method for name in CLASSES for method in members(name)]


def is_written_here(name):
    """Whether the signature is this package's: that of most exceptions is Python's."""
    found = object_of(name)
    return not inspect.isclass(found) or "__init__" in vars(found)


def parsed(name):
    return NumpyDocString(inspect.getdoc(object_of(name)))


def test_there_is_something_to_look_at():
    assert {"sklearn_torch_gmm.GaussianMixture", "sklearn_torch_gmm.MixtureDisplay"} <= {*CLASSES}
    assert "sklearn_torch_gmm.GaussianMixture.predict" in METHODS
    assert "sklearn_torch_gmm.GaussianMixture.model_" in METHODS
    assert "sklearn_torch_gmm.GaussianMixture.from_parameters" in METHODS


@pytest.mark.parametrize("name", [*CLASSES, *METHODS])
def test_the_style_is_that_of_numpydoc(name):
    errors = [error for error in validate(name)["errors"] if error[0] not in NOT_ASKED_FOR]
    assert errors == []


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_has_an_example(name):
    assert parsed(name)["Examples"]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_in_an_example_of_its_class(name):
    owner, _, method = name.rpartition(".")
    related = [owner, *(other for other in METHODS if other.rpartition(".")[0] == owner)]
    examples = "\n".join(line for other in related for line in parsed(other)["Examples"])
    assert re.search(rf"\.{method}\b", examples)


@pytest.mark.parametrize("name", [name for name in [*CLASSES, *METHODS] if is_written_here(name)])
def test_documented_defaults_are_those_of_the_signature(name):
    documented = {
        single.strip(" *"): parameter.type
        for parameter in parsed(name)["Parameters"]
        for single in parameter.name.split(",")
    }
    for parameter in inspect.signature(object_of(name)).parameters.values():
        said = documented.get(parameter.name)
        if said is None or parameter.kind is parameter.VAR_KEYWORD or said == "Ignored":
            continue
        match = re.search(r"default=(.+)$", said)
        if parameter.default is parameter.empty:
            assert match is None, f"{parameter.name} has no default"
        else:
            assert match, f"{parameter.name}: {said} does not say default={parameter.default!r}"
            assert value_of(match[1]) in (parameter.default, str(parameter.default))


def value_of(text):
    try:
        return ast.literal_eval(text)
    except ValueError:
        return text


def pages_of_the_reference():
    listed = re.findall(r"^   (sklearn_torch_gmm\.\S+)$", (DOCS / "api.md").read_text(), re.M)
    renamed = re.search(
        r"autosummary_filename_map = (\{.*?\})", (DOCS / "conf.py").read_text(), re.DOTALL
    )
    names = ast.literal_eval(renamed[1])
    return {name: names.get(name, name) for name in listed}


def test_the_reference_lists_everything():
    assert sorted(pages_of_the_reference()) == sorted(CLASSES)


@pytest.mark.parametrize(
    "cls",
    [
        sklearn_torch_gmm.GaussianMixture,
        sklearn_torch_gmm.mixture.GaussianMixture,
        sklearn_torch_gmm.mixture.BayesianGaussianMixture,
        sklearn_torch_gmm.GaussianMixtureIC,
    ],
)
def test_an_estimator_links_to_its_page(cls):
    page = cls()._get_doc_link().rpartition("/")[2]
    assert page.removesuffix(".html") in pages_of_the_reference().values()

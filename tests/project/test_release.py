"""The version and the requirements of a release agree, wherever they are written."""

import configparser
import re
from pathlib import Path

import sklearn_torch_gmm

ROOT = Path(__file__).parents[2]


def metadata():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def names_and_bounds(lines):
    pairs = [re.fullmatch(r"([a-z-]+) ?>=([\d.]+)", line.strip()) for line in lines]
    return {pair[1]: pair[2] for pair in pairs if pair}


def test_the_version_is_the_same_everywhere():
    recipe = (ROOT / "recipe" / "meta.yaml").read_text(encoding="utf-8")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    versions = {
        metadata()["metadata"]["version"],
        re.search(r'set version = "(.+?)"', recipe)[1],
        re.search(r"^version: (.+)$", citation, re.MULTILINE)[1],
    }
    assert versions == {sklearn_torch_gmm.__version__}


def test_the_recipe_requires_what_the_package_requires():
    declared = names_and_bounds(metadata()["options"]["install_requires"].splitlines())
    recipe = (ROOT / "recipe" / "meta.yaml").read_text(encoding="utf-8")
    run = recipe.split("  run:\n")[1].split("\n\n")[0]
    required = names_and_bounds(line.strip(" -") for line in run.splitlines())
    assert required.pop("python") == metadata()["options"]["python_requires"].removeprefix(">=")
    # conda has torch under another name.
    required["torch"] = required.pop("pytorch")
    assert required == declared


def test_addresses_of_the_readme_are_absolute():
    """The README is shown by the package index, too, which has none of the other files."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\((.+?)\)", readme)
    assert targets
    assert [target for target in targets if not target.startswith("https://")] == []

"""The pages, the docstrings, the comments and the messages use the terms of the field.

Readers then understand them, and a search finds them. Code in backticks is ignored: it may quote a
message, or a name in another library.
"""

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project.test_docstrings import CLASSES, METHODS, object_of

ROOT = Path(__file__).parents[2]
PATHS = [
    *ROOT.glob("*.md"),
    *(ROOT / ".github").rglob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "examples").rglob("*.py"),
    ROOT / "Makefile",
    ROOT / "tox.ini",
]
MODULES = sorted((ROOT / "sklearn_torch_gmm").rglob("*.py"))

INSTEAD = {
    r"(?<!left )\balone\b": "only",
    r"\bbeside\b": "next to, compared with",
    r"\bboth faces|\bfaces? of the": "both classes, API",
    r"\bbeyond one machine\b": "out-of-core, distributed",
    r"\bdifferences? (to|from) (the|its|their) means?\b": "residuals",
    r"\b(costs?|keeps?|loses?)( \w+){0,2} digits\b|\bdigits of (the )?covariances": "precision",
    r"\bdoors?\b": "entry point",
    r"\bextents\b": "maximum absolute deviation",
    r"\bfor ever\b": "indefinitely",
    r"\bgo(es)? on\b": "continue",
    r"\bhostile\b": "difficult; robustness",
    r"\bin the midst\b": "during",
    r"(?<!there )\b(is|are|was|were) no (?!faster|longer|more)|\b(is|are) (?-i:none)\b": "is not",
    r"\b(is|are|be|as) what\b|(^\W*|[.:;] )(?-i:What)\b(?![^.]*\?)": "the noun itself",
    r"\b(is|are|be) those (of|for|that|by)\b|(^|[.] )(?-i:Those|None) ": "the noun itself",
    r"\bkeeping and moving\b": "saving and loading",
    r"\blikeliest\b": "maximum-likelihood",
    r"\bpictures?\b": "plot, image",
    r"\b(default|random|ten|several|all) starts?\b|\bstarts? by\b|\bthe starts\b": "initialization",
    r"\brooms\b": "package, module",
    r"\bsmallest change\b": "convergence threshold",
    r"\bstarting (means|values|parameters)\b": "initial",
    r"\b(sums|moments) of a row\b": "sufficient statistics",
    r"\bthat there (is|are) not\b": "missing",
    r"\btruth values?\b": "bool",
    r"\bwhoever\b": "users who",
    r"\bwhole numbers?\b": "integer",
    r"\bwidths? (away|apart)\b|\bwhose widths?\b": "standard deviation",
    r"\bwould do\b": "is sufficient",
    r"\banew\b": "again",
}
# Below the public classes a row is not yet, or no longer, a sample: of a batch, of a file, a copy.
INSTEAD_FOR_USERS = {
    r"\b(all|each|every|per|distinct|equal) rows?\b|\ba row\b": "sample",
    r"\brows (in|on|of) (memory|the|a)\b": "samples",
}


def findings(text: str, *, for_users: bool = True) -> list[str]:
    prose = re.sub(r"`[^`\n]+`", "", text)
    words = INSTEAD | INSTEAD_FOR_USERS if for_users else INSTEAD
    return [
        f"line {prose.count(chr(10), 0, match.start()) + 1}, {match[0]!r}: say {instead}"
        for pattern, instead in words.items()
        for match in re.finditer(pattern, prose, re.IGNORECASE | re.MULTILINE)
    ]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pages_avoid_words_that_readers_would_have_to_guess(path):
    assert findings(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", [*CLASSES, *METHODS])
def test_public_docstrings_avoid_them_too(name):
    assert findings(inspect.getdoc(object_of(name))) == []


def notes(source: str) -> Iterator[str]:
    """All docstrings of a module, those of constants included, and its comments."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            text = node.value.value
            if isinstance(text, str):
                yield inspect.cleandoc(text)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_private_docstrings_and_comments_avoid_them_too(path):
    text = "\n".join(notes(path.read_text(encoding="utf-8")))
    assert findings(text, for_users=False) == []


def is_message(node: ast.AST) -> bool:
    """Whether a node raises an error, warns, or assigns the name that errors are raised with."""
    if isinstance(node, (ast.Assign, ast.AugAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(getattr(target, "id", "") in {"msg", "message"} for target in targets)
    is_warning = isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "warn"
    return is_warning or isinstance(node, ast.Raise)


def messages(source: str) -> Iterator[str]:
    """Strings of the errors and warnings of a module; values in them become dots."""
    for node in ast.walk(ast.parse(source)):
        if is_message(node):
            for part in ast.walk(node):
                if isinstance(part, ast.JoinedStr):
                    texts = [getattr(value, "value", "…") for value in part.values]
                    yield "".join(text if isinstance(text, str) else "…" for text in texts)
                elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_messages_avoid_them_too(path):
    found = [findings(message) for message in messages(path.read_text(encoding="utf-8"))]
    assert [finding for each in found for finding in each] == []


def test_messages_are_found():
    source = """
def f(x):
    if x:
        msg = f"{x} is no whole number"
        raise ValueError(msg)
    warnings.warn("all rows", stacklevel=2)
    raise TypeError("starting " "means")
"""
    assert {finding for text in messages(source) for finding in findings(text)} == {
        "line 1, 'is no ': say is not",
        "line 1, 'whole number': say integer",
        "line 1, 'all rows': say sample",
        "line 1, 'starting means': say initial",
    }


def test_words_are_found_and_quoted_code_is_ignored():
    assert findings("fine\na whole number") == ["line 2, 'whole number': say integer"]
    assert len(findings("Pictures beside hostile rows of the data, for ever.")) == 5
    assert findings("for everyone, besides: `would do`") == []
    assert len(findings("Whoever goes on alone\nis none.\nThose are what they are.")) == 6
    assert findings("What is left alone? There is no answer, and None is no faster.") == []


def test_only_readers_of_pages_are_told_of_samples():
    assert findings("a row", for_users=False) == []
    assert findings("a row") == ["line 1, 'a row': say sample"]


def test_docstrings_and_comments_are_found():
    source = '''"""Of the module."""
ONE = 1
"""Of the constant."""
def f():
    """Of the function."""  # comment
    return "no note"
'''
    expected = {"Of the module.", "Of the constant.", "Of the function.", "# comment"}
    assert set(notes(source)) == expected

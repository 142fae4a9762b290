"""The pages use the terms of the field, so that readers understand them and a search finds them.

Code in backticks is ignored: it may quote a message, or a name in another library.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATHS = [
    *ROOT.glob("*.md"),
    *(ROOT / ".github").rglob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "examples").rglob("*.py"),
    ROOT / "Makefile",
    ROOT / "tox.ini",
]

INSTEAD = {
    r"\bbeside\b": "next to, compared with",
    r"\bboth faces|\bfaces? of the": "both classes, API",
    r"\bdigits of (the )?covariances|\b(keep|lose)s? (its |their )?digits": "precision",
    r"\bextents\b": "maximum absolute deviation",
    r"\bfor ever\b": "indefinitely",
    r"\bhostile\b": "difficult; robustness",
    r"\bin the midst\b": "during",
    r"\blikeliest\b": "maximum-likelihood",
    r"\bpictures?\b": "plot, image",
    r"\b(all|each|every|per|distinct|equal) rows?\b|\ba row\b": "sample",
    r"\brows (in|on|of) (memory|the|a)\b": "samples",
    r"\b(default|random|ten|several|all) starts?\b|\bstarts? by\b": "initialization",
    r"\bstarting (means|values|parameters)\b": "initial",
    r"\btruth values?\b": "bool",
    r"\bwhole numbers?\b": "integer",
    r"\bwidths? (away|apart)\b|\bwhose widths?\b": "standard deviation",
    r"\bwould do\b": "is sufficient",
    r"\banew\b": "again",
}


def findings(text: str) -> list[str]:
    prose = re.sub(r"`[^`\n]+`", "", text)
    return [
        f"line {prose.count(chr(10), 0, match.start()) + 1}, {match[0]!r}: say {instead}"
        for pattern, instead in INSTEAD.items()
        for match in re.finditer(pattern, prose, re.IGNORECASE)
    ]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pages_avoid_words_that_readers_would_have_to_guess(path):
    assert findings(path.read_text(encoding="utf-8")) == []


def test_words_are_found_and_quoted_code_is_ignored():
    assert findings("fine\na whole number") == ["line 2, 'whole number': say integer"]
    assert len(findings("Pictures beside hostile rows of the data, for ever.")) == 5
    assert findings("for everyone, besides: `would do`") == []

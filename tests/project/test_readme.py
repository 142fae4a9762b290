"""The Python blocks of the README and of the documentation's pages run as they stand.

A page is read from top to bottom, so its blocks share one namespace: a block may use
what an earlier one on the same page defined. A block of text right below a Python block
is what that block prints.
"""

import os
import re
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[2]
PATHS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]

FENCED_PYTHON = re.compile(
    r"^(?P<indent> *)```python\n(?P<source>.*?)^(?P=indent)```$"
    r"(?:\n\n```text\n(?P<printed>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    path: Path
    line: int
    source: str
    printed: str | None

    @property
    def name(self) -> str:
        return f"{self.path.relative_to(ROOT).as_posix()}:{self.line}"


class Page(NamedTuple):
    namespace: dict[str, Any]
    to_run: deque[Block]


def find_blocks(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    return [
        Block(
            path,
            line=text.count("\n", 0, match.start("source")) + 1,
            source=re.sub(f"^{match['indent']}", "", match["source"], flags=re.MULTILINE),
            printed=match["printed"],
        )
        for match in FENCED_PYTHON.finditer(text)
    ]


BLOCKS = [block for path in PATHS for block in find_blocks(path)]


@pytest.fixture(scope="module")
def pages() -> dict[Path, Page]:
    return {path: Page({"__name__": path.stem}, deque(find_blocks(path))) for path in PATHS}


@pytest.fixture(autouse=True)
def _figures_are_closed():
    """In a random order, blocks run again and again, and pyplot warns of more than 20 figures."""
    yield
    plt.close("all")


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_block_runs(block, pages, tmp_path, monkeypatch, capsys):
    # A block may write files, and the checkout must stay as it is.
    monkeypatch.chdir(tmp_path)
    namespace, to_run = pages[block.path]
    # Run alone, a block still needs the ones above it.
    while to_run and to_run[0].line <= block.line:
        earlier = to_run.popleft()
        capsys.readouterr()
        # The blank lines give a traceback the page's own line numbers.
        source = "\n" * (earlier.line - 1) + earlier.source
        exec(compile(source, os.fspath(earlier.path), "exec"), namespace)
        if earlier.printed is not None:
            assert capsys.readouterr().out == earlier.printed


def test_readme_has_blocks():
    assert sum(block.path.name == "README.md" for block in BLOCKS) >= 2

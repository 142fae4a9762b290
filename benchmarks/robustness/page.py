"""The page: a table with a row for each input, and what the libraries said."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import load
from benchmarks.peers import OURS
from benchmarks.report import describe_environments
from benchmarks.robustness.endings import PLACES, SUM_TOLERANCE, Ending, ending
from benchmarks.robustness.inputs import INPUTS

LIBRARIES = ("scikit-learn", "torchgmm", "tgmm", "pomegranate", OURS)

_ORDER = (
    "good",
    "good, warns",
    "clear error",
    "error",
    "wrong",
    "crash",
    "time-out",
    "not offered",
)

_RANKS = {"good": 0, "good, warns": 0, "clear error": 1, "error": 2}
"""What is better than what. A warning makes a good model no worse; all else is worst."""

_QUOTED = ("good, warns", "clear error", "error")

_SIGNS = {
    "good": "✓ good",
    "good, warns": "✓ good, warns",
    "clear error": "○ clear error",
    "error": "△ error",
    "wrong": "✗ **wrong**",
    "crash": "✗ **crash**",
    "time-out": "✗ **time-out**",
    "not offered": "–",
}

_PREAMBLE = f"""# Robustness

Real data have constant columns, duplicates, groups far from the origin and units that differ by \
powers of ten. This page compares
five libraries on {{inputs}} such inputs, in {{fits}} fits each where a library offers all of \
them. A fit ends well with the right
model, or with an error that says what to do; it ends badly with a wrong model and no error.

![How the fits of each library ended](images/robustness.png)

| outcome | meaning |
|---|---|
| ✓ good | finite parameters, weights that sum to one (to {SUM_TOLERANCE:g}), positive-definite \
covariances, and the right mixture |
| ✓ good, warns | the same, with a warning that this library does not give for ordinary data |
| ○ clear error | an error that names the component or the sample by its number (for an invalid \
argument: the argument, or its type or shape), and a remedy |
| △ error | any other error |
| ✗ **wrong** | a model that is not good, returned without an error: the reason is next to it, \
and any warning |
| ✗ **crash**, **time-out** | the process crashed, or exceeded the time limit |
| – | not offered |

[How robustness is judged](robustness_method.md) lists the settings, and the rules that decide. \
`make robustness` repeats it in half an hour.

"""


def write_page(path: Path, page: Path) -> Path:
    content = load(path)
    endings = endings_of(content["records"])
    versions = {r["library"]: r["version"] for r in content["records"]}
    libraries = [name for name in LIBRARIES if name in versions]
    notes: list[str] = []
    preamble = _PREAMBLE.replace("{inputs}", str(len({name for name, _ in endings})))
    parts = [
        preamble.replace("{fits}", str(len(endings))),
        _table(endings, libraries, versions, notes),
        _counts(endings, libraries),
        _losses(endings),
        "## Messages\n",
        *(f"{number}. `{note}`" for number, note in enumerate(notes, 1)),
        "\n## Versions and machine\n",
        *describe_environments(content),
    ]
    page.write_text("\n".join(parts).rstrip() + "\n")
    return page


Endings = dict[tuple[str, str], dict[str, Ending]]


def endings_of(records: Sequence[dict[str, Any]]) -> Endings:
    """By input and covariance type, and then by library."""
    usual: dict[str, set[str]] = {}
    for record in records:
        if record["case"] == "ordinary":
            told = record.get("values", {}).get("warnings", [])
            usual.setdefault(record["library"], set()).update(told)
    found: Endings = {}
    for name in INPUTS:
        for record in (r for r in records if r["case"] == name):
            row = found.setdefault((name, record["covariance"]), {})
            library = record["library"]
            row[library] = ending(record, INPUTS[name].place, usual.get(library, ()))
    return found


def _table(
    endings: Endings, libraries: Sequence[str], versions: dict[str, str], notes: list[str]
) -> str:
    lines = [
        "| input | " + " | ".join(f"{name} {versions[name]}" for name in libraries) + " |",
        "|---|" + "---|" * len(libraries),
    ]
    for name in dict.fromkeys(name for name, _ in endings):
        rows = {covariance: found for (n, covariance), found in endings.items() if n == name}
        cells = [
            _cell({c: found[library] for c, found in rows.items() if library in found}, name, notes)
            for library in libraries
        ]
        types = ", ".join(rows) if len(rows) < 4 else "all types"
        title = INPUTS[name].title
        title = title if INPUTS[name].place == "argument" else f"{title}: {types}"
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(found: dict[str, Ending], name: str, notes: list[str]) -> str:
    """Endings of a library for an input, each with the types that have it, best first."""
    grouped: dict[str, list[str]] = {}
    for covariance, end in sorted(found.items(), key=lambda item: _ORDER.index(item[1].name)):
        grouped.setdefault(_text(end, name, notes), []).append(covariance)
    if len(grouped) == 1:
        return next(iter(grouped))
    return "; ".join(f"{text} [{', '.join(types)}]" for text, types in grouped.items())


def _text(end: Ending, name: str, notes: list[str]) -> str:
    if end.name == "wrong":
        warned = (
            f", warns {_note(Ending('warned', end.warning), name, notes)}" if end.warning else ""
        )
        return f"{_SIGNS[end.name]}: {end.words}{warned}"
    if end.name not in _QUOTED:
        return _SIGNS[end.name]
    return f"{_SIGNS[end.name]} {_note(end, name, notes)}"


def _note(end: Ending, name: str, notes: list[str]) -> str:
    quoted = quote(end, INPUTS[name].place)
    if quoted not in notes:
        notes.append(quoted)
    return f"({notes.index(quoted) + 1})"


def quote(end: Ending, place: str) -> str:
    """The first words; of a clear error its kind, and the sentence that is clear."""
    text = end.words.replace("`", "'")
    if end.name == "clear error":
        kind, _, message = text.partition(": ")
        where = re.search(PLACES[place], message, re.IGNORECASE)
        start = message.rfind(". ", 0, where.start()) + 2 if where else 0
        if where and where.end() - start > 160:
            start = where.start()
        if start > 1:
            return f"{kind}: … {_shortened(message[start:], 160)}"
        return f"{kind}: {_shortened(message, 160)}"
    return _shortened(text, 100)


def _shortened(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    return text[:length].rsplit(" ", 1)[0] + " …"


def _counts(endings: Endings, libraries: Sequence[str]) -> str:
    lines = [
        "Outcomes by library, each covariance type counted:\n",
        "| | " + " | ".join(_ORDER) + " |",
        "|---|" + "---:|" * len(_ORDER),
    ]
    for library in libraries:
        counts = Counter(found[library].name for found in endings.values() if library in found)
        cells = [str(counts[name]) for name in _ORDER]
        lines.append(f"| {library} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _losses(endings: Endings) -> str:
    """Where another library ends better: a model before an error, a clear one before another."""
    lost: dict[tuple[str, str], list[str]] = {}
    for (name, covariance), found in endings.items():
        if OURS not in found:
            continue
        for library, end in found.items():
            if _rank(end) < _rank(found[OURS]):
                lost.setdefault((name, library), []).append(covariance)
    if not lost:
        return "No other library does better than this package on any of these inputs.\n"
    lines = ["Where another library does better than this package:\n"]
    lines += [
        f"- {INPUTS[name].title} ({', '.join(types)}): {library}"
        for (name, library), types in lost.items()
    ]
    return "\n".join(lines) + "\n"


def _rank(end: Ending) -> int:
    return _RANKS.get(end.name, 3)

"""The page: a table with a row for each input, and what the libraries said."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.markdown import markdown
from benchmarks.peers import OURS
from benchmarks.report import describe_environments
from benchmarks.results import Record, load
from benchmarks.robustness.endings import PLACES, Ending, ending
from benchmarks.robustness.inputs import INPUTS

LIBRARIES = ("scikit-learn", "torchgmm", "tgmm", "pomegranate", OURS)

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
"""The outcomes, best first, and their signs on the page."""

_RANKS = {"good": 0, "good, warns": 0, "clear error": 1, "error": 2}
"""What is better than what. A warning makes a good model no worse; all else is worst."""

_FIT = ["case", "covariance", "library"]

_QUOTED = ("good, warns", "clear error", "error")


def page_of(path: Path) -> str:
    """What stands on the page behind its introduction."""
    content = load(path)
    endings = endings_of(content["records"])
    versions = {record["library"]: record["version"] for record in content["records"]}
    table, notes = _table(endings)
    table = table.rename(columns={name: f"{name} {version}" for name, version in versions.items()})
    parts = [
        markdown(table.reset_index(names="input")) + "\n",
        "Outcomes by library, each covariance type counted:\n",
        markdown(counts(endings).reset_index(), labels=1) + "\n",
        *_losses(endings),
        "\n## Messages\n",
        *(f"{number}. `{note}`" for number, note in enumerate(notes, 1)),
        "\n## Versions and machine\n",
        *describe_environments(content),
    ]
    return "\n".join(parts)


def endings_of(records: Sequence[Record]) -> pd.DataFrame:
    """How each fit ended, in the order of the inputs."""
    usual = defaultdict(set)
    for record in records:
        if record["case"] == "ordinary":
            usual[record["library"]].update(record.get("values", {}).get("warnings", []))
    found = []
    for case, difficult in INPUTS.items():
        for record in (record for record in records if record["case"] == case):
            end = ending(record, difficult.place, usual[record["library"]])
            found.append({**{name: record[name] for name in _FIT}, "end": end, "outcome": end.name})
    # Another dtype makes another record of the same fit: the last counts.
    return pd.DataFrame(found).drop_duplicates(_FIT, keep="last")


def counts(endings: pd.DataFrame) -> pd.DataFrame:
    """How many fits of each library ended how."""
    found = pd.crosstab(endings["library"], endings["outcome"])
    libraries = [name for name in LIBRARIES if name in found.index]
    return found.reindex(index=libraries, columns=list(_SIGNS), fill_value=0)


def _table(endings: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """A row for each input and a column for each library, and the notes that the cells refer to."""
    rows = endings.copy()
    order = {"case": list(INPUTS), "library": LIBRARIES, "outcome": list(_SIGNS)}
    for name, values in order.items():
        rows[name] = pd.Categorical(rows[name], values)
    rows = rows.sort_values(list(order), kind="stable")
    notes: list[str] = []
    texts = zip(rows["end"], rows["case"], strict=True)
    rows["text"] = [_text(end, case, notes) for end, case in texts]
    cells = rows.groupby(["case", "library"], observed=True)[["text", "covariance"]].apply(_cell)
    types = endings.groupby("case")["covariance"].unique()
    table = cells.unstack().fillna("").rename(index=lambda case: _title(case, types[case]))
    return table.set_axis(list(table.columns), axis="columns"), notes


def _title(case: str, types: Sequence[str]) -> str:
    title = INPUTS[case].title
    if INPUTS[case].place == "argument":
        return title
    return f"{title}: {', '.join(types) if len(types) < 4 else 'all types'}"


def _cell(found: pd.DataFrame) -> str:
    """Endings of a library for an input, each with the types that have it, best first."""
    types = found.groupby("text", sort=False)["covariance"].agg(", ".join)
    if len(types) == 1:
        return types.index[0]
    return "; ".join(f"{text} [{listed}]" for text, listed in types.items())


def _text(end: Ending, case: str, notes: list[str]) -> str:
    """The sign of an ending, and the number of what the library said."""

    def note(said: Ending) -> str:
        quoted = quote(said, INPUTS[case].place)
        if quoted not in notes:
            notes.append(quoted)
        return f"({notes.index(quoted) + 1})"

    if end.name == "wrong":
        warned = f", warns {note(Ending('warned', end.warning))}" if end.warning else ""
        return f"{_SIGNS[end.name]}: {end.words}{warned}"
    return f"{_SIGNS[end.name]} {note(end)}" if end.name in _QUOTED else _SIGNS[end.name]


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


def _losses(endings: pd.DataFrame) -> list[str]:
    """Where another library ends better: a model before an error, a clear one before another."""
    which = ["case", "covariance"]
    ranked = endings.assign(rank=endings["outcome"].map(_RANKS).fillna(3))
    ours = ranked[ranked["library"] == OURS].set_index(which)["rank"].rename("rank_of_ours")
    ranked = ranked.join(ours, on=which)
    better = ranked[ranked["rank"] < ranked["rank_of_ours"]]
    lines = [
        f"- {INPUTS[case].title} ({', '.join(types)}): {library}"
        for (case, library), types in better.groupby(["case", "library"], sort=False)["covariance"]
    ]
    if not lines:
        return ["No other library does better than this package on any of these inputs."]
    return ["Where another library does better than this package:\n", *lines]

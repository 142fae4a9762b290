"""The page: a table with a row for each input, and what the libraries said."""

import re
from collections import defaultdict

import pandas as pd

from benchmarks.cases import COVARIANCES
from benchmarks.markdown import markdown
from benchmarks.peers import OURS
from benchmarks.plots import plot_endings
from benchmarks.report import describe_environments
from benchmarks.results import load
from benchmarks.robustness.endings import PLACES, ending
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

_FIT = ["case", "library", "covariance"]

_QUOTED = ("good, warns", "clear error", "error", "wrong")


def page_of(path, image):
    """What stands on the page behind its introduction; the plot is drawn into a file."""
    content = load(path)
    endings = endings_of(content["records"])
    notes = [note for note in endings["note"].unique() if note]
    counts = pd.crosstab(endings["library"], endings["outcome"])
    counts = counts.reindex(endings["library"].unique(), columns=list(_SIGNS), fill_value=0)
    plot_endings(counts, image)
    parts = [
        markdown(_table(endings, notes)) + "\n",
        "Outcomes by library, each covariance type counted:\n",
        markdown(counts.reset_index(), labels=1) + "\n",
        *_losses(endings),
        "\n## Messages\n",
        *(f"{number}. `{note}`" for number, note in enumerate(notes, 1)),
        "\n## Versions and machine\n",
        *describe_environments(content),
    ]
    return "\n".join(parts)


def endings_of(records):
    """How each fit ended: a row for each, in the order of inputs, libraries and outcomes."""
    usual = defaultdict(set)
    for record in records:
        if record["case"] == "ordinary":
            usual[record["library"]].update(record.get("values", {}).get("warnings", []))
    found = []
    for record in records:
        place = INPUTS[record["case"]].place
        end = ending(record, place, usual[record["library"]])
        told = {"outcome": end.name, "words": end.words, "note": quote(end, place)}
        told["version"] = record["version"] or "not installed"
        found.append({**{name: record[name] for name in _FIT}, **told})
    # Another dtype makes another record of the same fit: the last counts.
    endings = pd.DataFrame(found).drop_duplicates(_FIT, keep="last")
    order = {"case": list(INPUTS), "library": LIBRARIES, "outcome": list(_SIGNS)}
    keys = {"key": lambda column: column.map(order[column.name].index), "kind": "stable"}
    return endings.sort_values(list(order), **keys)


def _table(endings, notes):
    """A row for each input and a column for each library."""
    rows = endings.assign(text=[_text(end, notes) for end in endings.itertuples()])
    cells = rows.groupby(["case", "library"])[["text", "covariance"]].apply(_cell).unstack()
    table = cells.fillna("").loc[rows["case"].unique(), rows["library"].unique()]
    table.columns += " " + rows.groupby("library", sort=False)["version"].last()
    titles = [_title(case, found) for case, found in rows.groupby("case", sort=False)]
    return table.set_axis(titles).reset_index(names="input")


def _title(case, rows):
    title = INPUTS[case].title
    if INPUTS[case].place == "argument":
        return title
    types = [name for name in COVARIANCES if name in set(rows["covariance"])]
    return f"{title}: {', '.join(types) if len(types) < 4 else 'all types'}"


def _cell(found):
    """Endings of a library for an input, each with the types that have it, best first."""
    types = found.groupby("text", sort=False)["covariance"].agg(", ".join)
    if len(types) == 1:
        return types.index[0]
    return "; ".join(f"{text} [{listed}]" for text, listed in types.items())


def _text(end, notes):
    """The sign of an ending, and the number of what the library said."""
    mark = f"({notes.index(end.note) + 1})" if end.note else ""
    if end.outcome == "wrong":
        return f"{_SIGNS['wrong']}: {end.words}" + (f", warns {mark}" if mark else "")
    return f"{_SIGNS[end.outcome]} {mark}".rstrip()


def quote(end, place):
    """The first words; of a clear error its kind, and the sentence that is clear."""
    if end.name not in _QUOTED:
        return ""
    text = (end.warning if end.name == "wrong" else end.words).replace("`", "'")
    if end.name != "clear error":
        return _shortened(text, 100)
    kind, _, message = text.partition(": ")
    where = re.search(PLACES[place], message, re.IGNORECASE)
    before, dot, _ = message[: where.start()].rpartition(". ")
    start = len(before + dot)
    if where.end() - start > 160:
        start = where.start()
    return f"{kind}: {'… ' if start else ''}{_shortened(message[start:], 160)}"


def _shortened(text, length):
    return text if len(text) <= length else text[:length].rsplit(" ", 1)[0] + " …"


def _losses(endings):
    """Where another library ends better: a model before an error, a clear one before another."""
    ranks = endings.assign(rank=endings["outcome"].map(_RANKS).fillna(3))
    which = ["case", "covariance"]
    ours = ranks[ranks["library"] == OURS].set_index(which)["rank"].rename("ours")
    better = ranks[ranks["rank"] < ranks.join(ours, on=which)["ours"]]
    lines = [
        f"- {INPUTS[case].title} ({', '.join(types)}): {library}"
        for (case, library), types in better.groupby(["case", "library"], sort=False)["covariance"]
    ]
    if lines:
        return ["Where another library does better than this package:\n", *lines]
    return ["No other library does better than this package on any of these inputs."]

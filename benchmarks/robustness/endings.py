"""The outcomes of fits, and the rules that classify them: the first that holds applies."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

TOLERANCE = 0.1
"""Of a standard deviation, a covariance in its own metric, or a weight: more is grossly wrong."""

SUM_TOLERANCE = 1e-5
"""How far from one the weights may sum to; float32 has a precision of seven digits."""

PLACES = {
    "data": r"\b(component|row|sample)s? #?[\[(]?\d",
    "argument": r"covariance_?type|n(um)?_(components|samples)\b|\d (samples?|rows?)\b|float64"
    r"|float32|dtype|ndarray|numpy|tensor|\blist\b|shape|empty",
}
"""Texts that an error must name: a component or a sample by number, or the wrong argument."""

REMEDY = (
    r"is sufficient|\btry\b|increase|decrease|divide|\bscale\b|leave (\w+ )?out|remove"
    r"|impute|\buse\b"
    r"|must|should|at least|minimum|expected|one of|choose|transform|convert"
)
"""Texts that an error must offer: a sufficient change, or the values that are allowed."""

_DISTANCES = ("whole_mean", "whole_variance", "group_weight", "group_mean", "group_covariance")


class Ending(NamedTuple):
    """An outcome, by its name on the page, and the message of the library."""

    name: str
    words: str = ""
    warning: str = ""


Outcome = dict[str, Any]


def _answer(record: Outcome) -> Outcome:
    return record.get("values", {})


def _message(record: Outcome) -> str:
    return str(_answer(record).get("raised") or record.get("error") or "")


def _is_clear(record: Outcome, place: str) -> bool:
    text = _message(record)
    return bool(
        re.search(PLACES[place], text, re.IGNORECASE) and re.search(REMEDY, text, re.IGNORECASE)
    )


def _is_more_than(value: Any, bound: float) -> bool:
    # "NaN" and "Infinity" are words in the file.
    return not float(value) <= bound


def wrong(answer: Outcome) -> str:
    """Return the error of a model that was returned as if it were good, or an empty string."""
    if not answer["finite"]:
        return "NaN or infinity" + (", converged_ is True" if answer.get("converged") else "")
    if _is_more_than(abs(float(answer["weights_sum"]) - 1.0), SUM_TOLERANCE):
        return f"the weights sum to {float(answer['weights_sum']):.3g}"
    if not float(answer.get("smallest_eigenvalue", 1.0)) > 0:
        return f"an eigenvalue of {float(answer['smallest_eigenvalue']):.1g}"
    for name in _DISTANCES:
        if name in answer and _is_more_than(answer[name], TOLERANCE):
            of, what = name.split("_")
            which = "variance of the whole" if name == "whole_variance" else f"{of} {what}"
            which = "mean of the whole" if name == "whole_mean" else which
            return f"{which} off by {float(answer[name]):.1g}"
    return ""


RULES: tuple[tuple[str, Callable[[Outcome, str], bool]], ...] = (
    ("not offered", lambda record, place: "not_offered" in record),
    ("time-out", lambda record, place: record.get("ended") == "time-out"),
    ("crash", lambda record, place: record.get("ended") == "crash"),
    ("clear error", lambda record, place: bool(_message(record)) and _is_clear(record, place)),
    ("error", lambda record, place: bool(_message(record))),
    ("wrong", lambda record, place: bool(wrong(_answer(record)))),
    ("good, warns", lambda record, place: bool(_answer(record)["warnings"])),
    ("good", lambda record, place: True),
)


def _first_clear(warnings: Sequence[str]) -> str:
    """Return the warning that names a component or a sample, or else the first."""
    named = (text for text in warnings if re.search(PLACES["data"], text, re.IGNORECASE))
    return next(named, next(iter(warnings), ""))


def ending(record: Outcome, place: str, usual: Collection[str] = ()) -> Ending:
    """Return the outcome of a fit; `usual` warnings are also given for ordinary data."""
    answer = _answer(record)
    if "warnings" in answer:
        told = [text for text in answer["warnings"] if text not in usual]
        record = {**record, "values": {**answer, "warnings": told}}
    name = next(name for name, holds in RULES if holds(record, place))
    if name == "wrong":
        return Ending(name, wrong(_answer(record)), _first_clear(_answer(record)["warnings"]))
    if name == "good, warns":
        return Ending(name, _first_clear(_answer(record)["warnings"]))
    return Ending(name, record.get("not_offered") or _message(record))

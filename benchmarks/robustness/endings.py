"""The outcomes of fits, and the rules that classify them: the first that holds applies."""

import re
from typing import NamedTuple

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


def wrong(answer):
    """Return the error of a model that was returned as if it were good, or an empty string."""
    if not answer["finite"]:
        return "NaN or infinity" + (", converged_ is True" if answer.get("converged") else "")
    # "NaN" and "Infinity" are words in the file, and NaN is not within any bound.
    weights_sum = float(answer["weights_sum"])
    if not abs(weights_sum - 1.0) <= SUM_TOLERANCE:
        return f"the weights sum to {weights_sum:.3g}"
    eigenvalue = float(answer.get("smallest_eigenvalue", 1.0))
    if not eigenvalue > 0:
        return f"an eigenvalue of {eigenvalue:.1g}"
    for name in _DISTANCES:
        distance = float(answer.get(name, 0.0))
        if not distance <= TOLERANCE:
            of, what = name.split("_")
            which = f"{what} of the whole" if of == "whole" else f"{of} {what}"
            return f"{which} off by {distance:.1g}"
    return ""


def ending(record, place, usual=()):
    """Return the outcome of a fit; `usual` warnings are also given for ordinary data."""
    answer = record.get("values", {})
    message = str(answer.get("raised") or record.get("error") or "")
    if "not_offered" in record:
        return Ending("not offered", record["not_offered"])
    if "ended" in record:
        return Ending(record["ended"], message)
    if message:
        is_clear = _says(PLACES[place], message) and _says(REMEDY, message)
        return Ending("clear error" if is_clear else "error", message)
    warnings = [text for text in answer["warnings"] if text not in usual]
    # One that names a component or a sample, or else the first.
    first = next((text for text in warnings if _says(PLACES["data"], text)), "".join(warnings[:1]))
    if error := wrong(answer):
        return Ending("wrong", error, first)
    return Ending("good, warns", first) if warnings else Ending("good")


def _says(pattern, text):
    return re.search(pattern, text, re.IGNORECASE) is not None

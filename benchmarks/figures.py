"""From records to figures: medians over the repeats, ratios to this package."""

import numpy as np
import pandas as pd

from benchmarks.cases import CASES
from benchmarks.peers import BASELINE, OURS, PEERS
from benchmarks.results import ROW
from benchmarks.tasks import TASKS

_TOLD = {"error": "first", "version": "last", "environment": "last"}
"""Of several records, which says so."""

_SAME_LIKELIHOOD = 1e-3


def figures_of(records):
    """What each library reached in each row of the tables, row by row.

    The columns are the fields of a record, with the medians of its numbers over the repeats, and

    title : what the row is called
    compared : the number by which libraries are compared, NaN if there is none
    ratio : how many times what this package takes a library takes; above one, this package wins
    note : an error, or how far a fit is from having done the same as the others
    """
    frame = pd.DataFrame([_flat(record) for record in records])
    numbers = frame.columns.difference([*ROW, "library", *_TOLD], sort=False)
    frame[numbers] = frame[numbers].astype(float)
    groups = frame.groupby([*ROW, "library"], sort=False)
    figures = groups.agg({**dict.fromkeys(numbers, "median"), **_TOLD}).reset_index()
    figures["row"] = figures.groupby(ROW, sort=False).ngroup()
    figures["place"] = figures["library"].map(libraries_in(figures).index)
    figures = figures.sort_values(["row", "place"], ignore_index=True)
    figures["title"] = figures.apply(_title, axis=1)
    rows = figures.to_dict("records")
    figures["compared"] = [row.get(TASKS[row["task"]].compared, np.nan) for row in rows]
    ours = figures[figures["library"] == OURS].set_index(ROW).add_suffix("_of_ours")
    figures = figures.join(ours, on=ROW)
    reference = figures["compared_of_ours"]
    figures["ratio"] = figures["compared"] / reference.where(reference > 0)
    figures["note"] = figures["error"].fillna(figures.apply(_difference, axis=1))
    return figures


def _flat(record):
    """A record without its nesting; the environment of one that failed says nothing."""
    flat = {name: record.get(name) for name in (*ROW, "library", *_TOLD)}
    return {**flat, **record["values"]} if "values" in record else {**flat, "environment": None}


def _title(figure):
    task, case, covariance, dtype, device = figure[ROW]
    if task == "product":
        return f"{dtype}, {device}"
    if task == "import":
        return "a fresh process"
    usual = ("all", "float64", "cpu")
    parts = zip((covariance, dtype, device), usual, strict=True)
    return ", ".join([CASES[case].title, *(part for part, default in parts if part != default)])


def _difference(figure):
    """What a fit did in another way than asked for, or than ours."""
    if figure["task"] != "fit":
        return None
    said = []
    wanted, done = CASES[figure["case"]].iterations[1], figure["iterations"]
    if done != wanted and not np.isnan(done):
        said.append(f"after {done:g} of {wanted} iterations")
    reference = figure["log_likelihood_of_ours"]
    difference = figure["log_likelihood"] - reference
    if abs(difference) > _SAME_LIKELIHOOD * max(1.0, abs(reference)):
        said.append(f"log-likelihood {difference:+.2g} nats per sample")
    return "; ".join(said) or None


def losses(figures):
    """Where another library takes less, the widest margin first."""
    # Imports are compared with those that every user of torch and scikit-learn has anyway.
    is_compared = ~figures["task"].isin(["product", "import"])
    is_other = ~figures["library"].isin([OURS, BASELINE])
    return figures[is_compared & is_other & (figures["ratio"] < 1)].sort_values("ratio")


def product_fraction(figure, figures):
    """The share of the rate of a large float64 product that an EM iteration reaches.

    What counts as its work are its two products of matrices alone. float64 whatever the data's
    dtype: that is what is computed in.
    """
    products = figures[(figures["task"] == "product") & (figures["dtype"] == "float64")]
    rates = products.loc[products["device"] == figure["device"], "compared"]
    flops = CASES[figure["case"]].flops(figure["covariance"])
    return flops / figure["compared"] / rates.max()


def libraries_in(figures):
    """Names of the libraries, in the order in which they are listed."""
    found, known = set(figures["library"]), [BASELINE, *PEERS]
    return [name for name in known if name in found] + sorted(found - set(known))

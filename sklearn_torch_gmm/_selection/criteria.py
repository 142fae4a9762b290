"""The criteria by which a search chooses among its fits, each a column of its results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Results = Mapping[str, npt.NDArray[Any]]
"""Columns by name."""

EQUALLY_STABLE = 0.01
"""Differences of the mean adjusted Rand index up to this one do not decide. In two groups of equal
size, moving one sample in 400 to the other group lowers the index by as much: for a fraction f of
the samples, it is about 1 − 4 f."""


@dataclass(frozen=True)
class Criterion:
    """A column of the results, and whether larger values are better."""

    column: str
    label: str
    """The name of the criterion in plots and messages."""
    larger_is_better: bool = False

    def values(self, results: Results) -> npt.NDArray[np.float64]:
        """Return the values of the fits that are kept, NaN for the others.

        Raises
        ------
        ValueError
            If the results do not have the column.
        """
        if self.column not in results:
            msg = f"results_ has no column {self.column!r}: the search was fitted without it."
            raise ValueError(msg)
        return np.where(results["is_kept"], results[self.column], math.nan)

    def row_of_best(self, results: Results) -> int:
        """Return the first row with the best value."""
        values = self.values(results)
        return int(np.nanargmax(values) if self.larger_is_better else np.nanargmin(values))


class Stability(Criterion):
    """Chooses by BIC among the fits whose initializations agree best.

    A single component, whose stability is always 1, is left out.
    """

    def values(self, results: Results) -> npt.NDArray[np.float64]:
        """Return the values of two or more components, NaN for one."""
        return np.where(results["n_components"] > 1, super().values(results), math.nan)

    def row_of_best(self, results: Results) -> int:
        """Return the row with the smallest BIC among the fits that are as stable as the best."""
        values = self.values(results)
        if np.isnan(values).all():
            msg = (
                "criterion='stability' compares initializations, and no mixture of two or more "
                "components has two that succeeded; results_ of criterion='bic' holds the errors."
            )
            raise ValueError(msg)
        is_stable = values >= np.nanmax(values) - EQUALLY_STABLE
        return int(np.nanargmin(np.where(is_stable, results["bic"], math.nan)))


CRITERIA = {
    "bic": Criterion("bic", "BIC"),
    "aic": Criterion("aic", "AIC"),
    "icl": Criterion("icl", "ICL"),
    "cv": Criterion("mean_test_score", "held-out log-likelihood", larger_is_better=True),
    "stability": Stability("stability", "stability", larger_is_better=True),
}
"""Criteria by the value of the parameter."""


def information_criteria(
    log_likelihood: float, log_certainty: float, parameters: int, total_weight: float
) -> dict[str, float]:
    """Return the information criteria by name; smaller is better.

    They depend on the log-likelihood Σ w log p(x) and the certainty Σ w log max_k r_k in nats, the
    number of free parameters, and the total weight Σ w.
    """
    bic = -2.0 * log_likelihood + parameters * math.log(total_weight)
    aic = -2.0 * log_likelihood + 2.0 * parameters
    return {"bic": bic, "aic": aic, "icl": bic - 2.0 * log_certainty}


def described(results: Results, row: int, criterion: str) -> str:
    """Return a fit in one line, with the value of the criterion that the results have."""
    name = f"{results['covariance_type'][row]}, n_components={results['n_components'][row]}"
    value = results[CRITERIA[criterion].column][row]
    if math.isnan(value):
        return f"{name}: {CRITERIA[criterion].label} unknown, see results_['error']"
    state = "converged" if results["converged"][row] else "did not converge"
    return (
        f"{name}: {CRITERIA[criterion].label} {value:.8g}, "
        f"{state} in {results['n_iter'][row]} iterations"
    )


def summary(results: Results, winner: int, criterion: str, verbose: int) -> list[str]:
    """Return a line for each mixture if ``verbose`` is 2 or more, and one for the chosen mixture.

    A mixture is described by the initialization that is kept, or by its first if all failed.
    """
    lines = []
    if verbose >= 2:
        keys = list(zip(results["covariance_type"], results["n_components"], strict=True))
        for key in dict.fromkeys(keys):
            rows = [row for row, other in enumerate(keys) if other == key]
            shown = next((row for row in rows if results["is_kept"][row]), rows[0])
            lines.append(described(results, shown, criterion))
    return [*lines, f"chosen: {described(results, winner, criterion)}"]

"""One fit of one library to one input, and what it ends with, as plain numbers."""

import json
import warnings

from benchmarks.environment import limit_memory, told
from benchmarks.peers.base import NotOffered
from benchmarks.problems import Settings
from benchmarks.robustness.examine import examine
from benchmarks.robustness.inputs import INPUTS

_REGULARIZATION = 1e-6
"""The default of all the libraries that have one."""

_LONGEST = 1_500
_FOR_DEVELOPERS = DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning


def attempt(request):
    peer, difficult = request.peer, INPUTS[request.case]
    limit_memory(8 * 2**30)
    data = difficult.data()
    X = data.X if difficult.is_raw else peer.prepare(data.X)
    added = difficult.regularization
    settings = Settings(
        difficult.components,
        request.covariance,
        means=data.means if difficult.needs_means or peer.needs_means else None,
        regularization=added,
        batch_size=difficult.batch_size,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fitted = peer.fitted(peer.fit(X, settings))
        except NotOffered:
            raise
        except Exception as error:
            found = {"raised": told(error, _LONGEST)}
        else:
            added = _REGULARIZATION if added is None else added
            found = examine(fitted, data, request.covariance, added)
    messages = (w.message for w in caught if not issubclass(w.category, _FOR_DEVELOPERS))
    warned = dict.fromkeys(told(message, _LONGEST) for message in messages)
    # Numbers that JSON has no name for are kept as words.
    return json.loads(json.dumps({**found, "warnings": list(warned)[:5]}), parse_constant=str)

"""The implementation that both public mixtures share, from validation to fitted attributes."""

import random

# scikit-learn's clusterers import rich, which draws from Python's random numbers: restoring the
# state keeps the sequence of a program that has seeded them.
_state = random.getstate()
import sklearn.mixture  # noqa: E402, F401

random.setstate(_state)

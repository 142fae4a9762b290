"""What the public mixtures share, from the check of the data to the fitted attributes."""

import random

# scikit-learn's clusterers import rich, which draws from Python's random numbers, and would move
# the sequence of a program that has seeded them.
_state = random.getstate()
import sklearn.mixture  # noqa: E402, F401

random.setstate(_state)

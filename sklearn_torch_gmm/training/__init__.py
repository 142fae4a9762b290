"""The loop: what runs where, and how often. On torch and Lightning."""

import random

# Importing Lightning draws from Python's random numbers, and moves the sequence of a program that
# seeded them.
_state = random.getstate()
import pytorch_lightning  # noqa: E402, F401

random.setstate(_state)

"""Random numbers that are set up only where a fit draws from them."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
from sklearn.utils import check_random_state


class RandomNumbers:
    """A random state, made from the user's ``random_state`` when it is first needed.

    Making one from a seed takes half as long as an iteration on few rows, and a fit with given
    parameters or known clusters draws nothing.
    """

    def __init__(self, random_state: int | np.random.RandomState | None) -> None:
        self.seed: int | None = None
        """The seed, if it is made from one: then nobody else draws from it."""
        if isinstance(random_state, (int, np.integer)):
            self.seed = int(random_state)
        self._given = random_state
        self._state: np.random.RandomState | None = None

    @property
    def state(self) -> np.random.RandomState:
        """The random state to draw from."""
        if self._state is None:
            self._state = check_random_state(self._given)
        return self._state

    @property
    def is_untouched(self) -> bool:
        """Whether it is determined by the seed, since nothing can have been drawn."""
        return self.seed is not None and self._state is None

    def copy(self) -> RandomNumbers:
        """Return the same numbers from here on, in a state of their own."""
        numbers = RandomNumbers(self.seed)
        if not self.is_untouched:
            numbers._state = deepcopy(self.state)
        return numbers

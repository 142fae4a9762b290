"""Expectation–maximization without Lightning: initialization, iterations, convergence, errors."""

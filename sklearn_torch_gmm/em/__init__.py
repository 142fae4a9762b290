"""Expectation–maximization: starts, iterations, convergence, failures. Without Lightning."""

"""Gaussian mixtures timed side by side: `python -m benchmarks --help`.

Same data, same start, same number of iterations; each measurement in a process of its own; the
libraries take turns.
"""

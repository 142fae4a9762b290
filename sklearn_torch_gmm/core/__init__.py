"""The mathematics of Gaussian mixtures, on torch alone."""

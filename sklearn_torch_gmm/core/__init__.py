"""The mathematics of Gaussian mixtures, which needs only torch."""

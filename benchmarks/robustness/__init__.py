"""How each library handles difficult data: `python -m benchmarks robustness --help`."""

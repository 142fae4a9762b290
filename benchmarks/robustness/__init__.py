"""How each library handles difficult data.

python -m benchmarks.robustness            # benchmarks/results/robustness.json, docs/robustness.md
python -m benchmarks.robustness --page     # only the page, from that file
"""

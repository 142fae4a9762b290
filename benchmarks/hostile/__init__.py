"""What each library makes of data that nobody wishes for.

python -m benchmarks.hostile            # benchmarks/results/hostile.json, docs/robustness.md
python -m benchmarks.hostile --page     # the page alone, from that file
"""

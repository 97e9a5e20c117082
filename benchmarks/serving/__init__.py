"""How fast the service answers, beside what else one might deploy and beside itself without a model.

`make bench-serving` starts all contestants on one core, loads them in turn from another, and writes
`benchmarks/results/serving.json`, `benchmarks/serving.md`, `benchmarks/serving.png` and tables of docs/performance.md.
"""

"""How well images are told apart: `python -m benchmarks.detection` (make bench-detection).

In the order of a run: `pictures` draws and sends normal circles and anomalies (`fresh` holds families that nobody saw
while choosing), `measures` turns scores into rates, and each part of the table has a file: `circles`, `strict`,
`tutorial`, `peers` (PyOD), `mnist`, `timing`. `__main__` keeps what each part found in
benchmarks/results/detection.json; `table` writes it into benchmarks/detection/detection.md.
"""

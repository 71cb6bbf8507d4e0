"""Benchmarks of MoE Hub: `python -m benchmarks` (or `make bench`) prints tables of ratios and writes JSON."""

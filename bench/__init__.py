"""Benchmarks: `wfe` beside its peers, in one run on one machine. Start with `python -m bench.run`."""

"""Real servers for tests and benchmarks, started from their wheels."""

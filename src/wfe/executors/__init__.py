"""Step executors: how steps of a type that is not Python code are run."""

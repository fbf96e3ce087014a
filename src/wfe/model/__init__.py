"""What workflows are: plans, state, messages and errors, as values without I/O or clock."""

"""Decides: what an instance does next, as pure functions of definition, state, messages and time."""

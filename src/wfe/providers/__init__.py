"""Backends: each folder serves the ports with one of them, and imports none of the others."""

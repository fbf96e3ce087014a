"""One program per engine; each runs one workload in a fresh process and prints one result line."""

"""Runs instances: wiring, runners, committer, sweeper, and the verbs that every face calls."""

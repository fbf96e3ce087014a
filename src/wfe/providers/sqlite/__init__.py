"""Keeps everything in one SQLite file, for one machine: several hosts and processes may share it."""

from __future__ import annotations

from wfe.providers.sqlite.provider import SQLiteProvider

__all__ = ["SQLiteProvider"]

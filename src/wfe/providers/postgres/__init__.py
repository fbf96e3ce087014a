"""Everything in one schema of a PostgreSQL database, shared by any number of hosts."""

from __future__ import annotations

from wfe.providers.postgres.provider import PostgresProvider

__all__ = ["PostgresProvider"]

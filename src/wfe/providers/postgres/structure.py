"""Compares a schema with what the migrations make, by the names of its tables, columns, indexes and functions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from wfe.ports.inspection import Damage
from wfe.providers.postgres.schema import migrations

if TYPE_CHECKING:
    import asyncpg

    from wfe.providers.postgres.place import Place

__all__ = ["Structure"]

_TABLE = re.compile(r"^CREATE TABLE @schema@\.(\w+) \(\n(.*?)^\)", re.MULTILINE | re.DOTALL)
_COLUMN = re.compile(r"^    ([a-z_]+) .*?(?P<unique>UNIQUE|PRIMARY KEY)?,?$")
_KEY = re.compile(r"^    (PRIMARY KEY|UNIQUE) \((.*)\)")
_INDEX = re.compile(r"^CREATE (?:UNIQUE )?INDEX (\w+) ON @schema@\.(\w+)", re.MULTILINE)
_FUNCTION = re.compile(r"^CREATE (?:OR REPLACE )?FUNCTION @schema@\.(\w+)", re.MULTILINE)
_SEQUENCE = re.compile(r"^CREATE SEQUENCE @schema@\.(\w+)", re.MULTILINE)


class _Part(NamedTuple):
    """A table, index, function or sequence, or the column of a table."""

    kind: str
    name: str
    table: str = ""


@cache
def _expected() -> frozenset[_Part]:
    text = "\n".join(migration.text for migration in migrations())
    return frozenset(
        [
            *(part for table, body in _TABLE.findall(text) for part in _table(table, body)),
            *(_Part("index", name, table) for name, table in _INDEX.findall(text)),
            *(_Part("function", name) for name in _FUNCTION.findall(text)),
            *(_Part("sequence", name) for name in _SEQUENCE.findall(text)),
        ]
    )


def _table(table: str, body: str) -> Iterator[_Part]:
    """Read the lines of a table. Indexes of its keys have the names that PostgreSQL gives."""
    yield _Part("table", table)
    for line in body.splitlines():
        key, column = _KEY.match(line), _COLUMN.match(line)
        if key is not None:
            columns = "" if key[1] == "PRIMARY KEY" else "_".join(["", *key[2].split(", ")])
            yield _Part("index", f"{table}{columns}_{'pkey' if key[1] == 'PRIMARY KEY' else 'key'}", table)
        elif column is not None:
            yield _Part("column", column[1], table)
            if column["unique"] == "PRIMARY KEY":
                yield _Part("index", f"{table}_pkey", table)
            elif column["unique"]:
                yield _Part("index", f"{table}_{column[1]}_key", table)


_FOUND = """
    WITH place AS (SELECT oid FROM pg_namespace WHERE nspname = $1)
    SELECT 'table' AS kind, c.relname AS name, '' AS table_name FROM pg_class c, place
        WHERE c.relnamespace = place.oid AND c.relkind IN ('r', 'p')
    UNION ALL SELECT 'sequence', c.relname, '' FROM pg_class c, place
        WHERE c.relnamespace = place.oid AND c.relkind = 'S'
    UNION ALL SELECT 'index', c.relname, t.relname FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
        JOIN pg_class t ON t.oid = x.indrelid, place WHERE c.relnamespace = place.oid AND x.indisvalid
    UNION ALL SELECT 'column', a.attname, c.relname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid, place
        WHERE c.relnamespace = place.oid AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT DISTINCT 'function', p.proname, '' FROM pg_proc p, place WHERE p.pronamespace = place.oid
"""


class Structure:
    """What is there of what the migrations make."""

    def __init__(self, place: Place, missing: frozenset[_Part]) -> None:
        self._place = place
        self._missing = missing

    @classmethod
    async def read(cls, connection: asyncpg.Connection, place: Place) -> Structure:
        """Look at the catalogue."""
        rows = await connection.fetch(_FOUND, place.schema)
        found = {_Part(row["kind"], row["name"], row["table_name"]) for row in rows}
        return cls(place, _expected() - found)

    @property
    def is_workable(self) -> bool:
        """Whether all tables and columns are there, so that the rows can be looked at."""
        return not any(part.kind in {"table", "column", "sequence", "function"} for part in self._missing)

    def damages(self) -> Iterator[Damage]:
        """List what is missing (T10)."""
        gone = {part.name for part in self._missing if part.kind == "table"}
        for part in sorted(self._missing):
            if part.table in gone:
                continue
            of = f" of {part.table}" if part.table else ""
            yield Damage(
                "T10",
                f"the {part.kind} {part.name}{of} is missing from the schema: no host can work on it as it should",
                f"SELECT * FROM pg_class WHERE relnamespace = '{self._place.quoted_schema}'::regnamespace",
            )

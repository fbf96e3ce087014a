"""Compares a file with what the migrations make: its tables and indexes, and what their columns hold.

SQLite keeps neither by itself: a statement may drop an index that others name, and any column takes any value.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import cache
from typing import NamedTuple

from wfe.ports.inspection import Damage
from wfe.providers.sqlite.columns import UnreadableText
from wfe.providers.sqlite.schema import MIGRATIONS

__all__ = ["is_workable", "odd_values", "structure_damages"]

_KINDS = {"integer": "a number", "real": "a fraction", "text": "a text", "blob": "bytes", "null": "missing"}


class _Column(NamedTuple):
    name: str
    kind: str
    """As `typeof` names it."""
    is_needed: bool
    is_key: bool


class _Structure(NamedTuple):
    tables: Mapping[str, tuple[_Column, ...]]
    indexes: Mapping[str, str]
    """Name → its text."""


@cache
def _expected() -> _Structure:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        for statements in MIGRATIONS:
            for statement in statements:
                fresh.execute(statement)
        return _read(fresh)


def _read(connection: sqlite3.Connection) -> _Structure:
    there = connection.execute("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    return _Structure(
        {name: _columns(connection, name) for kind, name, _ in there if kind == "table"},
        {name: " ".join(text.split()) for kind, name, text in there if kind == "index"},
    )


def _columns(connection: sqlite3.Connection, table: str) -> tuple[_Column, ...]:
    return tuple(
        _Column(name, kind.lower(), bool(needed or key), bool(key))
        for _, name, kind, needed, _, key in connection.execute(f'PRAGMA table_info("{table}")')
    )


def structure_damages(connection: sqlite3.Connection) -> Iterator[Damage]:
    """List what is missing of the tables and indexes, or is not what this version makes (T10)."""
    expected, found = _expected(), _read(connection)
    for table, columns in expected.tables.items():
        if table not in found.tables:
            yield _damage(table, f"the table {table} is missing")
            continue
        there = {column.name: column for column in found.tables[table]}
        for column in columns:
            if column.name not in there:
                yield _damage(table, f"the table {table} has no column {column.name}")
            elif there[column.name] != column:
                yield _damage(table, f"the column {column.name} of {table} is not declared as this version does")
        for name in there.keys() - {column.name for column in columns}:
            yield _damage(table, f"the table {table} has a column {name}, which no version makes")
    for index, text in expected.indexes.items():
        if index not in found.indexes:
            yield _damage(index, f"the index {index} is missing")
        elif found.indexes[index] != text:
            yield _damage(index, f"the index {index} is not as this version makes it")


def is_workable(connection: sqlite3.Connection) -> bool:
    """Tell whether all tables and columns are there, so that the rows can be looked at."""
    found = _read(connection).tables
    return all(
        {column.name for column in columns} <= {column.name for column in found.get(table, ())}
        for table, columns in _expected().tables.items()
    )


def _damage(name: str, what: str) -> Damage:
    return Damage("T10", f"{what}: no host can work on the file", f"SELECT * FROM sqlite_schema WHERE name = '{name}'")


def odd_values(
    connection: sqlite3.Connection, table: str, ids: Mapping[int, str], where: str = "1", given: tuple[int, ...] = ()
) -> Iterator[Damage]:
    """List the columns that hold what they should not (T10), of the rows of a table that a condition names.

    The connection must give texts that are no UTF-8 (`reading_any_text`).

    Args:
        ids: Number → id of the instances whose rows these are.
    """
    columns = _expected().tables[table]
    keys = [column.name for column in columns if column.is_key]
    # The text of a column, where it is to be looked at; of others, which may be large, only what kind they are.
    looks = [each.name if each.kind == "text" else f"typeof({each.name})" for each in columns]
    has_texts = any(column.kind == "text" for column in columns)
    odd = "1" if has_texts else " OR ".join(f"typeof({each.name}) {_not(each)}" for each in columns)
    for row in connection.execute(f"SELECT {', '.join([*keys, *looks])} FROM {table} WHERE {where} AND ({odd})", given):
        values = row[len(keys) :]
        for column, value in zip(columns, values, strict=True):
            problem = _problem(column, value)
            if problem:
                place = " AND ".join(f"{key} IS {_quoted(value)}" for key, value in zip(keys, row, strict=False))
                instance_id = ids.get(row[0], "") if columns[0].name == "n" else ""
                yield Damage(
                    "T10",
                    f"{column.name} in {'its' if instance_id else 'a'} row of {table} is {problem}",
                    f"SELECT * FROM {table} WHERE {place}",
                    instance_id,
                )


def _not(column: _Column) -> str:
    return f"<> '{column.kind}'" if column.is_needed else f"NOT IN ('{column.kind}', 'null')"


def _problem(column: _Column, value: object) -> str:
    """Say what is wrong with a value: the text of a column of texts, else what `typeof` says of it."""
    if isinstance(value, UnreadableText):
        return f"no UTF-8 ('{value}')"
    if column.kind != "text":
        found = str(value)
    else:
        found = "null" if value is None else "text" if isinstance(value, str) else "blob"
    if found == column.kind or (found == "null" and not column.is_needed):
        return ""
    return _KINDS[found] if found == "null" else f"{_KINDS[found]}, not {_KINDS[column.kind]}"


def _quoted(value: object) -> str:
    if isinstance(value, UnreadableText):
        return f"CAST(x'{value.raw.hex()}' AS TEXT)"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return "NULL" if value is None else str(value)

"""The tables and functions, as numbered migrations."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from wfe.model.errors import ConfigurationError
from wfe.ports.provider import no_store, older_store
from wfe.providers.postgres.place import Place

if TYPE_CHECKING:
    import asyncpg

__all__ = ["Migration", "is_up_to_date", "migrate", "migrations"]

_MIGRATION_LOCK = 0x776665
_FILE_NAME = re.compile(r"(\d{4})_\w+\.sql")


@dataclass(frozen=True)
class Migration:
    """One step of the schema. Its text is never changed once it is released."""

    number: int
    text: str

    def statements(self, place: Place) -> str:
        """Give the text for one schema."""
        return self.text.replace("@schema@", place.quoted_schema).replace("@lock@", str(place.lock_space))


@cache
def migrations() -> tuple[Migration, ...]:
    """Read the migrations that this program knows, in order."""
    found = [
        Migration(int(match[1]), file.read_text("utf-8"))
        for file in files("wfe.providers.postgres").joinpath("migrations").iterdir()
        if (match := _FILE_NAME.fullmatch(file.name))
    ]
    return tuple(sorted(found, key=lambda migration: migration.number))


async def is_up_to_date(connection: asyncpg.Connection, place: Place) -> bool:
    """Tell whether there is nothing to migrate; where nothing may be made or changed, there has to be nothing.

    Raises:
        ConfigurationError: There is no store, or an older one, and the mode does not allow to change that; or a newer
            one; or the server's settings would break what the functions rely on.
    """
    version, newest = await _version(connection, place), migrations()[-1].number
    if place.mode != "create" and not version:
        raise no_store(place.url, f"the database has no schema {place.schema!r} with tables of wfe")
    if place.mode == "read":
        if version < newest:
            raise older_store(place.url, version, newest)
        return True
    await _check_isolation(connection, place)
    return version == newest


async def migrate(connection: asyncpg.Connection, place: Place) -> None:
    """Bring the schema up to date: each migration in a transaction of its own, one host at a time.

    Raises:
        ConfigurationError: The schema is newer than this program. Nothing was changed.
    """
    known = migrations()
    if await _version(connection, place) == known[-1].number:
        return
    for migration in known:
        await _apply(connection, place, migration)


async def _apply(connection: asyncpg.Connection, place: Place, migration: Migration) -> None:
    async with connection.transaction():
        # It may take long on large tables. But waiting for others has its limit, and blocks those behind it.
        wait = place.statement_timeout // timedelta(milliseconds=1)
        await connection.execute(f"SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = {wait}")
        # Held until the end of the transaction. Another host may have applied it while this one waited.
        await connection.execute(f"SELECT pg_advisory_xact_lock({place.lock_space}, {_MIGRATION_LOCK})")
        if await _version(connection, place) >= migration.number:
            return
        schema = place.quoted_schema
        if migration.number == 1:
            if not await _exists(connection, place):
                await connection.execute(f"CREATE SCHEMA {schema}")
            await connection.execute(
                f"CREATE TABLE {schema}.migration (number integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())"
            )
        await connection.execute(migration.statements(place))
        await connection.execute(f"INSERT INTO {schema}.migration (number) VALUES ({migration.number})")


async def _check_isolation(connection: asyncpg.Connection, place: Place) -> None:
    level = await connection.fetchval("SELECT current_setting('transaction_isolation')")
    if level != "read committed":
        raise ConfigurationError(
            f"Transactions at {place.url} are {level!r} by default, and the connection cannot change that; wfe "
            "needs 'read committed'. Behind a pooler: ALTER ROLE … SET default_transaction_isolation = 'read committed'"
        )


async def _exists(connection: asyncpg.Connection, place: Place) -> bool:
    # CREATE SCHEMA IF NOT EXISTS asks for the right to create schemas even where there is nothing to create.
    found = await connection.fetchval("SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)", place.schema)
    return bool(found)


async def _version(connection: asyncpg.Connection, place: Place) -> int:
    table = f"{place.quoted_schema}.migration"
    # Not `to_regclass`: it may answer from the backend's memory of what was not there before it waited for the lock.
    there = await connection.fetchval(
        "SELECT EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = $1 AND c.relname = 'migration')",
        place.schema,
    )
    if not there:
        return 0
    version = int(await connection.fetchval(f"SELECT coalesce(max(number), 0) FROM {table}") or 0)
    newest = migrations()[-1].number
    if version > newest:
        raise ConfigurationError(
            f"The schema {place.schema!r} at {place.url} has version {version}, made by a newer wfe; this one knows "
            f"{newest}. Nothing was changed. Install the newer wfe, or name another schema (?schema=…)."
        )
    return version

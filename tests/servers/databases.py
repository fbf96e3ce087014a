"""Databases for tests on a PostgreSQL server, whoever runs it: made, cut off, emptied and dropped by SQL.

The functions here block, and may be called inside and outside of an event loop.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["DatabasePool", "ExternalPostgres", "PostgresDatabases", "SqlDatabases", "execute_sql", "fetch_value"]


class PostgresDatabases(Protocol):
    """Where tests get databases from: a server of their own or one that the environment names."""

    def create_database(self) -> str:
        """Create an empty database with a name of its own and return its URL."""
        ...

    def drop_database(self, url: str) -> None:
        """Drop a database made by `create_database`, with the connections that are left."""
        ...

    def terminate_backends(self, url: str) -> int:
        """Cut every connection to the database and return how many there were."""
        ...


class DatabasePool:
    """Hands out empty databases and takes them back: emptying one costs a tenth of creating one."""

    def __init__(self, databases: PostgresDatabases) -> None:
        self._databases = databases
        self._free: list[str] = []
        self._all: list[str] = []

    def take(self) -> str:
        """Return the URL of an empty database that nobody else has."""
        if self._free:
            return self._free.pop()
        url = self._databases.create_database()
        self._all.append(url)
        return url

    def give_back(self, url: str) -> None:
        """Cut the connections that are left and remove everything inside the database."""
        self._databases.terminate_backends(url)
        execute_sql(url, _EMPTY_DATABASE)
        self._free.append(url)

    def close(self) -> None:
        """Drop all databases that were ever handed out."""
        for url in self._all:
            self._databases.drop_database(url)
        self._all.clear()
        self._free.clear()


_EMPTY_DATABASE = """
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', name);
    END LOOP;
    CREATE SCHEMA public;
END
$$
"""


class SqlDatabases:
    """`PostgresDatabases` by SQL statements to the server behind `admin_url`."""

    def __init__(self, admin_url: str) -> None:
        self._admin_url = admin_url

    def create_database(self) -> str:
        """See `PostgresDatabases.create_database`."""
        # By chance, because several runs and their workers may share one server.
        name = f"wfe_test_{uuid.uuid4().hex[:16]}"
        execute_sql(self._admin_url, f'CREATE DATABASE "{name}"')
        return _with_database(self._admin_url, name)

    def drop_database(self, url: str) -> None:
        """See `PostgresDatabases.drop_database`."""
        execute_sql(self._admin_url, f'DROP DATABASE IF EXISTS "{_database(url)}" WITH (FORCE)')

    def terminate_backends(self, url: str) -> int:
        """See `PostgresDatabases.terminate_backends`."""
        query = (
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
            "WHERE datname = $1 AND pid <> pg_backend_pid()"
        )
        return int(str(fetch_value(self._admin_url, query, _database(url))))


class ExternalPostgres(SqlDatabases):
    """A server that somebody else runs, named by a URL whose user may create databases."""


def execute_sql(url: str, *statements: str) -> None:
    """Execute statements one after the other, each in a transaction of its own."""

    async def work() -> None:
        import asyncpg

        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    _run(work())


def fetch_value(url: str, query: str, *arguments: object) -> object:
    """Return the first column of the first row of a query, or None without a row."""
    values: list[object] = []

    async def work() -> None:
        import asyncpg

        connection = await asyncpg.connect(url)
        try:
            values.append(await connection.fetchval(query, *arguments))
        finally:
            await connection.close()

    _run(work())
    return values[0]


def _run(work: Coroutine[object, object, None]) -> None:
    """Run a coroutine to its end in a thread of its own, since the caller may itself stand inside an event loop."""
    failure: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(work)
        except BaseException as error:  # noqa: BLE001 - handed to the caller below
            failure.append(error)

    thread = threading.Thread(target=run, name="postgres-admin")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]


def _database(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


def _with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))

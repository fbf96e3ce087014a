from __future__ import annotations

import os
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.servers.postgres import (
    DatabasePool,
    PostgresDatabases,
    PostgresServer,
    ServerUnavailable,
    execute_sql,
    fetch_value,
)

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_test_gets_a_database_that_answers(postgres_url: str) -> None:
    """`postgres_url` names a real server that accepts a connection and answers a query."""
    connection = await asyncpg.connect(postgres_url)

    answer = await connection.fetchval("SELECT 1")

    await connection.close()
    assert answer == 1


def test_a_database_comes_back_empty(postgres_databases: DatabasePool) -> None:
    """What one test leaves in its database, the next one that gets it does not see."""
    used = postgres_databases.take()
    execute_sql(used, "CREATE SCHEMA other", "CREATE TABLE other.t (a int)", "CREATE TABLE t (a int)")
    postgres_databases.give_back(used)

    again = postgres_databases.take()

    tables = fetch_value(again, "SELECT count(*) FROM pg_tables WHERE tablename = 't'")
    postgres_databases.give_back(again)
    assert (again, tables) == (used, 0)


async def test_backends_can_be_cut(postgres_server: PostgresDatabases, postgres_url: str) -> None:
    """`terminate_backends` cuts the connections of one database: the next query of each fails."""
    connection = await asyncpg.connect(postgres_url)

    cut = postgres_server.terminate_backends(postgres_url)

    assert cut == 1
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.AdminShutdownError)):
        await connection.fetchval("SELECT 1")
    connection.terminate()


def test_a_committed_row_survives_a_crash(crashable_postgres: PostgresServer) -> None:
    """After SIGKILL of all its processes the server starts again on its port with what was committed."""
    server = crashable_postgres
    port = server.port
    execute_sql(server.url, "CREATE TABLE t (a int)", "INSERT INTO t VALUES (7)")

    server.crash()
    server.restart()

    assert (server.port, fetch_value(server.url, "SELECT a FROM t")) == (port, 7)


async def test_an_open_connection_does_not_stop_an_immediate_restart(crashable_postgres: PostgresServer) -> None:
    """`restart_immediate` cuts open connections and comes back on the same URL with what was committed."""
    server = crashable_postgres
    execute_sql(server.url, "CREATE TABLE t (a int)", "INSERT INTO t VALUES (7)")
    connection = await asyncpg.connect(server.url)

    server.restart_immediate()

    assert fetch_value(server.url, "SELECT a FROM t") == 7
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await connection.fetchval("SELECT 1")
    connection.terminate()


def test_a_server_keeps_the_durability_defaults(crashable_postgres: PostgresServer) -> None:
    """Unless asked otherwise the server syncs, as crash tests and measurements need."""
    names = ("fsync", "synchronous_commit", "full_page_writes")

    settings = [fetch_value(crashable_postgres.url, f"SHOW {name}") for name in names]

    assert settings == ["on", "on", "on"]


def test_stop_leaves_nothing(crashable_postgres: PostgresServer) -> None:
    """After `stop` the process is gone and so is its temporary directory; stopping once more is fine."""
    pid, directory = crashable_postgres.pid, crashable_postgres._root

    crashable_postgres.stop()
    crashable_postgres.stop()

    assert directory is not None
    assert not directory.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_server_ends_with_the_process_that_started_it(crashable_postgres: PostgresServer) -> None:
    """When the starting process is killed, its end of the watchdog's pipe closes, and the server goes in order."""
    process, watchdog, directory = (
        crashable_postgres._process,
        crashable_postgres._watchdog,
        crashable_postgres._root,
    )
    assert process is not None
    assert watchdog is not None
    assert watchdog.stdin is not None
    assert directory is not None

    watchdog.stdin.close()

    assert process.wait(20) == 0
    watchdog.wait(20)
    assert not directory.exists()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """A refused setting ends in `ServerUnavailable` with the server's own words, and leaves nothing running."""
    server = PostgresServer(settings={"max_connections": "none"}, directory=tmp_path / "pg")

    with pytest.raises(ServerUnavailable, match=r"max_connections|wheel"):
        server.start()

    with pytest.raises(RuntimeError, match="not running"):
        _ = server.pid

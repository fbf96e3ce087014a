"""Fixtures and options that all tests share: a real PostgreSQL, and how long the crash tests go on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.servers.postgres import DatabasePool, ExternalPostgres, PostgresServer, ServerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_POSTGRES_FIXTURES = {"crashable_postgres", "postgres_server", "postgres_url"}
_SHORT_FORM_DIVISOR = 20
_SHORT_FORM_ROUNDS = 3


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--full`, which `make crash` sets."""
    parser.addoption("--full", action="store_true", help="run every round of the crash tests, not the short form")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need PostgreSQL by the fixtures that they ask for."""
    for item in items:
        if isinstance(item, pytest.Function) and _POSTGRES_FIXTURES.intersection(item.fixturenames):
            item.add_marker(pytest.mark.postgres)


@pytest.fixture(scope="session")
def crash_rounds(pytestconfig: pytest.Config) -> Callable[[int], int]:
    """Tell how many rounds to run of a test that promises so many: all with `--full`, else a twentieth."""
    full = pytestconfig.getoption("--full")
    return lambda promised: promised if full else max(_SHORT_FORM_ROUNDS, promised // _SHORT_FORM_DIVISOR)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer | ExternalPostgres]:
    """One server for the session (and for each worker of a parallel run), without fsync.

    It offers `create_database`, `drop_database` and `terminate_backends`. The environment variable WFE_TEST_PG_URL
    names another server to use; its user must be allowed to create databases.
    """
    url = os.environ.get("WFE_TEST_PG_URL")
    if url:
        yield ExternalPostgres(url)
        return
    server = PostgresServer(fsync=False)
    _start_or_skip(server)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def postgres_databases(postgres_server: PostgresServer | ExternalPostgres) -> Iterator[DatabasePool]:
    """The databases of the session, for tests that need several at once: `take` and `give_back` them."""
    pool = DatabasePool(postgres_server)
    try:
        yield pool
    finally:
        pool.close()


@pytest.fixture
def postgres_url(postgres_databases: DatabasePool) -> Iterator[str]:
    """The URL of an empty database that this test has for itself."""
    url = postgres_databases.take()
    try:
        yield url
    finally:
        postgres_databases.give_back(url)


@pytest.fixture
def crashable_postgres() -> Iterator[PostgresServer]:
    """A server of this test's own with every durability default, to `crash`, `restart` and `restart_immediate`."""
    server = PostgresServer()
    _start_or_skip(server)
    try:
        yield server
    finally:
        server.stop()


def _start_or_skip(server: PostgresServer) -> None:
    try:
        server.start()
    except ServerUnavailable as error:
        if os.environ.get("WFE_REQUIRE_SERVERS") == "1":
            raise
        pytest.skip(str(error))

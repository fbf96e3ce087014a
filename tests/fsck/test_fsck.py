"""The check of a store finds each damage, exactly, and nothing where nothing is damaged."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fsck.damages import DAMAGES
from tests.fsck.rows import PostgresRows, Rows, SQLiteRows
from tests.fsck.stage import populate
from tests.servers.databases import DatabasePool, execute_sql
from wfe.host.fsck import RULES
from wfe.testing import Finding, fsck

_CASES = [
    pytest.param(name, store, id=f"{name}-{store}", marks=[pytest.mark.postgres] * (store == "postgres"))
    for name, (_, stores) in DAMAGES.items()
    for store in stores
]


@pytest.fixture(scope="session")
def sqlite_stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with instances in many states."""
    path = tmp_path_factory.mktemp("stage") / "wfe.db"
    asyncio.run(populate(f"sqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def postgres_stage(postgres_databases: DatabasePool) -> str:
    """The same in a database, with a copy of its tables beside it."""
    url = postgres_databases.take()
    asyncio.run(populate(url))
    execute_sql(url, _SAVE)
    return url


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Rows]]:
    """The URL of a stage of the test's own, and its rows."""
    if request.param == "sqlite":
        path = tmp_path / "wfe.db"
        shutil.copy(request.getfixturevalue("sqlite_stage"), path)
        yield f"sqlite:///{path}", Rows(SQLiteRows(path))
        return
    url = request.getfixturevalue("postgres_stage")
    rows = PostgresRows(url)
    rows.run(_RESTORE)
    try:
        yield url, Rows(rows)
    finally:
        rows.close()


_SAVE = """DO $$
DECLARE name text;
BEGIN
    CREATE SCHEMA saved;
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'wfe' LOOP
        EXECUTE format('CREATE TABLE saved.%I AS TABLE wfe.%I', name, name);
    END LOOP;
    FOR name IN SELECT sequencename FROM pg_sequences WHERE schemaname = 'wfe' AND sequencename LIKE '%_number' LOOP
        EXECUTE format('CREATE TABLE saved.%I AS SELECT last_value FROM wfe.%I', name, name);
    END LOOP;
END $$"""
_RESTORE = """DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'wfe' LOOP
        EXECUTE format('TRUNCATE wfe.%I', name);
        EXECUTE format('INSERT INTO wfe.%I OVERRIDING SYSTEM VALUE SELECT * FROM saved.%I', name, name);
    END LOOP;
    FOR name IN SELECT sequencename FROM pg_sequences WHERE schemaname = 'wfe' AND sequencename LIKE '%_number' LOOP
        EXECUTE format('SELECT setval(%L, (SELECT last_value FROM saved.%I))', 'wfe.' || name, name);
    END LOOP;
END $$"""


def _facts(findings: list[Finding]) -> set[tuple[str, str | None, int | None]]:
    return {(finding.rule, finding.instance_id, finding.pointer) for finding in findings}


@pytest.mark.parametrize("store", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
async def test_a_sound_store_gives_no_finding(store: tuple[str, Rows]) -> None:
    """Where nothing is damaged nothing is found."""
    url, _ = store

    assert await fsck(url) == []


@pytest.mark.parametrize(("name", "store"), _CASES, indirect=["store"])
async def test_each_damage_is_found_exactly(name: str, store: tuple[str, Rows]) -> None:
    """Each damage is found under the rule that it breaks, with instance and pointer, and nothing else is.

    Each finding names a statement that shows it, and the database understands it.
    """
    url, rows = store
    plant, _ = DAMAGES[name]

    expected = await asyncio.to_thread(plant, rows)

    findings = await fsck(url)
    assert _facts(findings) == expected, "\n".join(map(str, findings))
    for finding in findings:
        await asyncio.to_thread(rows.run, finding.see)


@pytest.mark.parametrize("name", ["claims_do_not_see_a_message", "session_of_a_holder_is_gone"])
@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
async def test_what_claims_miss_can_be_seen(name: str, store: tuple[str, Rows]) -> None:
    """The statement that a finding names shows what is stuck, and not an empty table that something is missing from."""
    url, rows = store
    await asyncio.to_thread(DAMAGES[name][0], rows)

    (finding,) = await fsck(url)

    assert await asyncio.to_thread(rows.run, finding.see) != []


def test_every_rule_has_a_damage() -> None:
    """No rule is checked without a damage that shows that its check works."""
    source = (Path(__file__).parent / "damages.py").read_text("utf-8")

    assert {rule for rule in RULES if f'("{rule}", ' not in source} == set()

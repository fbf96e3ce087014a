"""A connection to PostgreSQL is cut at every message of a commit: what became of the commit is found out every time."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.crash.checks import Record, violations
from tests.crash.client import carry_out
from tests.crash.flows import Planned, definitions, use_ledger
from tests.crash.ledger import Ledger, read_ledger
from tests.crash.message_proxy import COMMITS, Cut, How, MessageProxy, proxied_by_message
from tests.crash.rounds import seed_of_run
from tests.crash.snapshot import take_snapshot
from tests.soundness import check
from wfe import WorkflowHost

if TYPE_CHECKING:
    from tests.servers.databases import DatabasePool

pytestmark = [pytest.mark.crash, pytest.mark.slow]

_PLAN = (Planned("parent", "p"), Planned("events", "e"))
_GIVE_UP_AFTER = 4
"""Seconds: half of that, a connection that falls silent is waited for."""
_PARTS = 8
_LIMIT = 30.0


async def _work(url: str, ledger: Path, cut: Cut | None) -> MessageProxy:
    """Let a host do its work through a proxy, one instance after the other."""
    async with proxied_by_message(url, cut) as proxy:
        book = Ledger(ledger, "life")
        use_ledger(book)
        host = WorkflowHost(proxy.url(url, unavailable_after=_GIVE_UP_AFTER), sweep_interval=0.1, name="life")
        host.register(*definitions())
        async with host:
            for planned in _PLAN:
                await carry_out(host, [planned], book, at_once=True, limit=_LIMIT)
        book.close()
        return proxy


def _cuts(proxy: MessageProxy, how: How) -> list[Cut]:
    """List every place in every commit of a run, before its first message and after each."""
    return [
        Cut(number, after, how)
        for number, messages in enumerate(proxy.exchanges, 1)
        for after in range(len(messages) // 2 + 1)
    ]


def _some(cuts: Sequence[Cut], how: How, seed: str) -> list[Cut]:
    """Draw some: at each depth into a commit in one manner or another, in commits by chance."""
    drawn = random.Random(f"{seed}/{how}")
    depths = range(list(How).index(how), max(cut.after for cut in cuts) + 1, len(How))
    return [drawn.choice([cut for cut in cuts if cut.after == depth]) for depth in depths]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Divide a full run into tests that do not take too long."""
    metafunc.parametrize("part", range(_PARTS if metafunc.config.getoption("--full") else 1))


@pytest.mark.parametrize("how", How, ids=lambda how: how.name.lower())
def test_commit_cut_at_every_message(
    tmp_path: Path, postgres_databases: DatabasePool, how: How, part: int, pytestconfig: pytest.Config
) -> None:
    """Wherever it is cut, and whoever learns of it: no start, step or event is lost or done twice, no body begun twice.

    The host finds out by itself what became of the commit; nobody has to ask again who has an answer.
    """
    seed = seed_of_run()
    url = postgres_databases.take()
    measured = asyncio.run(_work(url, tmp_path / "measured", None))
    postgres_databases.give_back(url)
    assert set(measured.functions) == COMMITS
    places = _cuts(measured, how)
    cuts = places[part::_PARTS] if pytestconfig.getoption("--full") else _some(places, how, seed)

    missed = [cut for number, cut in enumerate(cuts) if not _hit(tmp_path / str(number), postgres_databases, cut)]

    assert [str(cut) for cut in missed] == []
    sys.stdout.write(
        f"{len(cuts)} cuts in {len(measured.exchanges)} commits of {measured.exchanges[-1]!r} and the like\n"
    )


def _hit(ledger: Path, databases: DatabasePool, cut: Cut) -> bool:
    """Run until a connection was cut after so many messages of a commit. False: no run had a commit of so many.

    Batches are put together otherwise in each run, so that the commit that was meant, and all after it, may have fewer
    messages than in the run that was measured. Then the last commit of that run before them that has enough is meant.
    """
    while True:
        proxy = _resolved(ledger, databases, cut)
        if proxy.has_cut:
            return True
        # Only earlier ones, so that this comes to an end: those that were meant have not been long enough in this run.
        before = enumerate(proxy.exchanges[: cut.commit - 1], 1)
        long_enough = [number for number, messages in before if cut.after <= len(messages) // 2]
        if not long_enough:
            return False
        cut = replace(cut, commit=long_enough[-1])
        ledger = ledger.with_name(f"{ledger.name}-{cut.commit}")


def _resolved(ledger: Path, databases: DatabasePool, cut: Cut) -> MessageProxy:
    """Cut once, if that place comes, and check everything."""
    url = databases.take()
    try:
        proxy = asyncio.run(_work(url, ledger, cut))
        final = asyncio.run(take_snapshot(url, ledger))
        check([url])
        found = violations(Record(_PLAN, read_ledger(ledger), [], final))
        assert not found, f"{cut}:\n" + "\n".join(found)
        return proxy
    finally:
        databases.give_back(url)

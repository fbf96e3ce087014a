"""The command that looks after a store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import click

from wfe.cli.exits import Exit
from wfe.cli.json_lines import to_json
from wfe.cli.place import ready_place, shown_url
from wfe.host.connect import connect
from wfe.host.fsck import Finding, Report, check_store
from wfe.ports.provider import Provider

__all__ = ["check", "look"]

_SHOWN = 20


def look(url: str, *, as_json: bool) -> Exit:
    """Tell which hosts are alive, and what is due and taken by none of them."""

    async def go() -> Exit:
        async with _opened(url) as provider:
            hosts = await provider.lease.alive()
            waiting = await provider.store.unclaimed(_SHOWN)
        if as_json:
            click.echo(
                to_json(
                    {
                        "db": shown_url(url),
                        "hosts": len(hosts),
                        "unclaimed": [{"id": each.id, "reason": each.blocked_reason} for each in waiting],
                    }
                )
            )
            return Exit.COMPLETE
        click.echo(f"{shown_url(url)}: {_count(len(hosts), 'host')} alive")
        if not waiting:
            click.echo("Nothing is due that nobody runs.")
        for each in waiting:
            click.echo(f"due, and run by nobody: {each.id}" + (f" ({each.blocked_reason})" * bool(each.blocked_reason)))
        click.echo("Check what is stored with: wfe doctor --check")
        return Exit.COMPLETE

    return asyncio.run(go())


def check(url: str, *, as_json: bool) -> Exit:
    """Check the rules of the engine over what is stored, and list what is broken."""

    async def go() -> Report:
        async with _opened(url) as provider:
            return await check_store(provider.store)

    report = asyncio.run(go())
    for finding in report.findings:
        click.echo(to_json(_object(finding)) if as_json else f"{finding}\n    see: {finding.see}")
    if not as_json:
        found = len(report.findings) + report.more
        more = f" (the last {report.more} not shown)" if report.more else ""
        click.echo(
            f"Looked at {_count(report.instances, 'instance')}: {_count(found, 'finding') if found else 'all is well'}"
            + more
        )
    return Exit.FAILED if report.findings else Exit.COMPLETE


@asynccontextmanager
async def _opened(url: str) -> AsyncGenerator[Provider]:
    provider = connect(ready_place(url, create=False))
    await provider.store.open()
    try:
        yield provider
    finally:
        await provider.store.close()


def _object(finding: Finding) -> dict[str, object]:
    return {
        "rule": finding.rule,
        "instance": finding.instance_id,
        "pointer": finding.pointer,
        "what": finding.what,
        "see": finding.see,
    }


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")

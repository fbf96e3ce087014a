"""The command that looks after a store."""

from __future__ import annotations

import asyncio

from wfe.cli.exits import Exit
from wfe.cli.json_lines import to_json
from wfe.cli.output import one_line, say
from wfe.cli.place import command_for, reading, shown_url
from wfe.host.fsck import Finding, Report, check_store

__all__ = ["check", "look"]

_SHOWN = 20


def look(url: str, *, as_json: bool) -> Exit:
    """Tell which hosts are alive, and what is due and taken by none of them."""

    async def go() -> Exit:
        async with reading(url) as provider:
            hosts = await provider.lease.alive()
            waiting = await provider.store.unclaimed(_SHOWN)
        if as_json:
            say(
                to_json(
                    {
                        "db": shown_url(url),
                        "hosts": len(hosts),
                        "unclaimed": [{"id": each.id, "reason": each.blocked_reason} for each in waiting],
                    }
                )
            )
            return Exit.COMPLETE
        say(f"{shown_url(url)}: {_count(len(hosts), 'host')} alive")
        if not waiting:
            say("Nothing is due that nobody runs.")
        for each in waiting:
            why = f" ({each.blocked_reason})" if each.blocked_reason else ""
            say(f"due, and run by nobody: {one_line(each.id + why)}")
        say(f"Check what is stored with: {command_for('doctor --check', url)}")
        return Exit.COMPLETE

    return asyncio.run(go())


def check(url: str, *, as_json: bool) -> Exit:
    """Check the rules of the engine over what is stored, and list what is broken."""

    async def go() -> Report:
        async with reading(url) as provider:
            return await check_store(provider.store)

    report = asyncio.run(go())
    for finding in report.findings:
        say(to_json(_object(finding)) if as_json else f"{one_line(str(finding))}\n    see: {finding.see}")
    if not as_json:
        found = len(report.findings) + report.more
        more = f" (the last {report.more} not shown)" if report.more else ""
        say(
            f"Looked at {_count(report.instances, 'instance')}: {_count(found, 'finding') if found else 'all is well'}"
            + more
        )
    return Exit.FAILED if report.findings else Exit.COMPLETE


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

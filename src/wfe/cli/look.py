"""Commands that look at the runs of a store, or ask something of them."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wfe.cli.board import first_line, safe_line
from wfe.cli.exits import Exit
from wfe.cli.focus import FocusedProvider
from wfe.cli.json_lines import error_object, event_object, to_json
from wfe.cli.output import one_line, say
from wfe.cli.place import command_for, log_of, no_run, reading, resume_command, row_of
from wfe.cli.plans import runs_here
from wfe.host.connect import connect
from wfe.host.registry import Registry
from wfe.host.views import events_from, instance_from
from wfe.host.workflow_host import WorkflowHost
from wfe.model.durations import format_duration
from wfe.model.errors import WorkflowNotFound
from wfe.model.status import WorkflowStatus
from wfe.ports.store import ListFilter

if TYPE_CHECKING:
    from wfe.model.instance import StepError, StepState, WorkflowInstance
    from wfe.model.lifecycle import LifecycleEvent
    from wfe.ports.store import Store

__all__ = ["ask", "list_runs", "publish", "show_history", "show_run"]

T = TypeVar("T")
_SHOWN_LINES = 20


def list_runs(
    url: str, *, status: Sequence[str], definition_id: str | None, limit: int, cursor: str | None, as_json: bool
) -> Exit:
    """Show runs, newest first."""

    async def work(store: Store) -> Exit:
        where = ListFilter(status=tuple(status), definition_id=definition_id)
        found, following = await store.list_instances(where, limit, cursor)
        page = [instance_from(row, Registry()) for row in found]
        if as_json:
            for instance in page:
                say(to_json(_instance_object(instance)))
            return Exit.COMPLETE
        rows = [("NAME", "WORKFLOW", "STATUS", "STARTED", "TOOK")]
        rows += [
            (
                instance.name or instance.id,
                f"{instance.definition_id} v{instance.version}",
                _status(instance),
                _local(instance.created_at),
                "" if instance.duration is None else format_duration(instance.duration),
            )
            for instance in page
        ]
        _table(rows)
        if following is not None:
            click.echo(f"There are more: --cursor {following}", err=True)
        return Exit.COMPLETE

    return _with_store(url, work)


def show_run(url: str, id_or_name: str, *, as_json: bool) -> Exit:
    """Show how one run stands."""

    async def work(store: Store) -> Exit:
        instance = instance_from(await row_of(store, id_or_name, url), Registry())
        if as_json:
            say(to_json(_instance_object(instance)))
            return Exit.COMPLETE
        facts = [
            ("name", instance.name or ""),
            ("id", instance.id),
            ("workflow", f"{instance.definition_id} version {instance.version}"),
            ("status", _status(instance)),
            ("from", instance.reference or ""),
            ("started", _local(instance.created_at)),
            ("ended", "" if instance.ended_at is None else _local(instance.ended_at)),
            ("took", "" if instance.duration is None else format_duration(instance.duration)),
            ("goes on", "" if instance.next_wake is None else _local(instance.next_wake)),
            ("error", _why(instance)),
        ]
        _table([(f"{what}:", value) for what, value in facts if value])
        for line in _further_lines(instance.error):
            say(line)
        for step in instance.steps:
            say(_standing(step))
        say("data: " + json.dumps(instance.data, ensure_ascii=False, indent=2, default=str))
        if not instance.status.is_terminal:
            say(await _how_to_go_on(store, instance, url))
        return Exit.COMPLETE

    return _with_store(url, work)


def show_history(url: str, id_or_name: str, *, as_json: bool) -> Exit:
    """Show all that happened to a run, in order."""

    async def work(store: Store) -> Exit:
        row = await row_of(store, id_or_name, url)
        events = events_from(await log_of(store, row.id))
        if as_json:
            for event in events:
                say(to_json(event_object(event)))
            return Exit.COMPLETE
        _table([("TIME", "WHAT", "STEP", "TOOK", "NOTE"), *(_event_row(event) for event in events)])
        return Exit.COMPLETE

    return _with_store(url, work)


def ask(url: str, id_or_name: str, verb: str, reason: str | None) -> Exit:
    """Suspend, resume, cancel or terminate a run, and say what came of it."""

    async def work(at: _Place) -> Exit:
        instance = await _find(at.host, id_or_name, url)
        name = instance.name or instance.id
        host = at.host
        asked: dict[str, Callable[[], Coroutine[Any, Any, bool]]] = {
            "suspend": lambda: host.suspend_workflow(instance.id, reason),
            "resume": lambda: host.resume_workflow(instance.id),
            "cancel": lambda: host.cancel_workflow(instance.id, reason),
            "terminate": lambda: host.terminate_workflow(instance.id, reason),
        }
        changed = await asked[verb]()
        after = await at.host.get_workflow(instance.id)
        say(f"{name} is {_status(after)}" + ("" if changed else " already; nothing has changed"))
        if verb == "resume" and changed and not after.status.is_terminal:
            say(await _how_to_go_on(at.store, after, url))
        return Exit.COMPLETE

    return _with_host(url, work)


def publish(url: str, name: str, key: str, data: str | None) -> Exit:
    """Publish an event and show its id."""

    async def work(at: _Place) -> Exit:
        try:
            payload = None if data is None else json.loads(data)
        except ValueError:
            payload = data
        say(await at.host.publish_event(name, key, payload))
        return Exit.COMPLETE

    return _with_host(url, work)


@dataclass(frozen=True)
class _Place:
    """A store, and a host on it that runs nothing."""

    host: WorkflowHost
    store: Store


def _with_store(url: str, work: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
    async def go() -> T:
        async with reading(url) as provider:
            return await work(provider.store)

    return asyncio.run(go())


def _with_host(url: str, work: Callable[[_Place], Coroutine[Any, Any, T]]) -> T:
    async def go() -> T:
        provider = FocusedProvider(connect(url, mode="write"))
        async with WorkflowHost(provider, name="wfe command") as host:
            return await work(_Place(host, provider.store))

    return asyncio.run(go())


async def _find(host: WorkflowHost, id_or_name: str, url: str) -> WorkflowInstance[Any]:
    try:
        return await host.get_workflow(id_or_name)
    except WorkflowNotFound:
        raise no_run(id_or_name, url) from None


def _status(instance: WorkflowInstance[Any]) -> str:
    if instance.status is WorkflowStatus.RUNNABLE and instance.blocked_reason:
        return f"blocked: {instance.blocked_reason}"
    return str(instance.status)


def _why(instance: WorkflowInstance[Any]) -> str:
    if instance.error is None:
        return ""
    where = f"{instance.error.step}: " if instance.error.step else ""
    return where + first_line(instance.error.summary)


def _further_lines(error: StepError | None) -> list[str]:
    """Give the rest of an error of several lines: what a command wrote last."""
    lines = [] if error is None else error.message.splitlines()[1:]
    return [f"  | {safe_line(line.removeprefix('  '))}" for line in lines[-_SHOWN_LINES:]]


def _standing(step: StepState) -> str:
    text = f"step {step.name}: "
    text += str(step.status) if step.waiting_for is None else f"waits for {step.waiting_for}"
    if step.attempt > 1:
        text += f", attempt {step.attempt}"
    return text + (f": {first_line(step.error.summary)}" if step.error is not None else "")


async def _how_to_go_on(store: Store, instance: WorkflowInstance[Any], url: str) -> str:
    """Say what makes an instance go on: this command for a plan that it can run, else the program with the code."""
    name = instance.name or instance.id
    if await runs_here(store, instance.id):
        return f"Continue it with: {resume_command(name, url)}"
    program = "in the program that has its code; start that again if it does not run"
    if instance.status is WorkflowStatus.SUSPENDED:
        return f"It goes on after {command_for(f'resume {shlex.quote(name)}', url)}, {program}."
    return f"It goes on {program}."


def _event_row(event: LifecycleEvent) -> tuple[str, str, str, str, str]:
    note = first_line(event.error or event.detail or "")
    if (event.attempt or 1) > 1:
        note = f"attempt {event.attempt}" + (f": {note}" if note else "")
    took = "" if event.duration is None else format_duration(event.duration)
    return _local(event.time), str(event.kind), event.step or "", took, note


def _instance_object(instance: WorkflowInstance[Any]) -> dict[str, object]:
    return {
        "id": instance.id,
        "name": instance.name,
        "definition_id": instance.definition_id,
        "version": instance.version,
        "status": instance.status,
        "blocked_reason": instance.blocked_reason,
        "reference": instance.reference,
        "run": instance.run,
        "created_at": instance.created_at,
        "ended_at": instance.ended_at,
        "next_wake": instance.next_wake,
        "duration_seconds": instance.duration,
        "error": None if instance.error is None else error_object(instance.error),
        "data": instance.data,
        "steps": [
            {
                "id": step.id,
                "name": step.name,
                "status": step.status,
                "attempt": step.attempt,
                "waiting_for": step.waiting_for,
                "error": None if step.error is None else error_object(step.error),
            }
            for step in instance.steps
        ],
    }


def _local(moment: datetime) -> str:
    """Give a time as the people at this machine read it."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _table(rows: Sequence[Sequence[str]]) -> None:
    shown = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    for row in shown:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

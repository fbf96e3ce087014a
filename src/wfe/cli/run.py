"""`wfe run`: start or resume one instance, show it, and end with it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wfe.cli.board import Board, Mark
from wfe.cli.exits import CommandError, Exit, exit_of
from wfe.cli.focus import FocusedProvider
from wfe.cli.inputs import checked_inputs, key_values
from wfe.cli.json_lines import JsonView
from wfe.cli.loading import choose, load_file, shown
from wfe.cli.names import free_name
from wfe.cli.output import Lines
from wfe.cli.place import ready_place, resume_command
from wfe.cli.plain import PlainView
from wfe.cli.plans import plan_of, record_plan, reference_to
from wfe.cli.signals import Interruption
from wfe.cli.views import Outcome, RunInfo, RunView
from wfe.executors.shell import ShellStepExecutor
from wfe.host.connect import connect
from wfe.host.system import SystemEntropy
from wfe.host.views import events_from, instance_from
from wfe.host.workflow_host import WorkflowHost
from wfe.model.errors import DefinitionError, ProviderUnavailable, WfeError
from wfe.model.status import LifecycleKind, WorkflowStatus

if TYPE_CHECKING:
    from wfe.authoring.yaml import CompiledWorkflow
    from wfe.model.definition import WorkflowDefinition
    from wfe.model.instance import WorkflowInstance, WorkflowResult
    from wfe.model.lifecycle import LifecycleEvent
    from wfe.ports.store import InstanceRow, Store

__all__ = ["RunRequest", "run"]

_FRAME_SECONDS = 0.1
_LAST_EVENTS_SECONDS = 5.0
_ENDS = frozenset(
    {
        LifecycleKind.WORKFLOW_COMPLETED,
        LifecycleKind.WORKFLOW_FAILED,
        LifecycleKind.WORKFLOW_COMPENSATED,
        LifecycleKind.WORKFLOW_CANCELLED,
        LifecycleKind.WORKFLOW_TERMINATED,
        LifecycleKind.WORKFLOW_SUSPENDED,
    }
)


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What was typed."""

    file: Path | None
    url: str
    workflow: str | None = None
    inputs: tuple[str, ...] = ()
    config: tuple[str, ...] = ()
    resume: str | None = None
    name: str | None = None
    timeout: timedelta | None = None
    json: bool = False
    lenient: bool = False


def run(request: RunRequest) -> Exit:
    """Run to the end of the instance, of its time, or of patience.

    Raises:
        CommandError: Nothing was started or resumed; the message says why.
    """
    return asyncio.run(_Run(request).go())


@dataclass
class _Run:
    request: RunRequest
    compiled: CompiledWorkflow | None = None
    others: list[CompiledWorkflow] = field(default_factory=list)
    data: Mapping[str, object] = field(default_factory=dict)

    async def go(self) -> Exit:
        self._read_file()
        url = ready_place(self.request.url, create=self.request.resume is None)
        provider = FocusedProvider(connect(url))
        interruption = Interruption()
        with interruption.watched():
            await provider.store.open()
            try:
                return await self._go_on(provider, interruption)
            finally:
                await provider.store.close()

    def _read_file(self) -> None:
        request = self.request
        if request.file is None:
            return
        config = key_values(request.config, "-c")
        self.others = load_file(request.file, config, lenient=request.lenient)
        self.compiled = choose(self.others, request.workflow, request.file)
        for warning in self.compiled.warnings:
            _warn(shown(warning, request.file))
        if request.resume is None:
            self.data, warnings = checked_inputs(key_values(request.inputs, "-i"), self.compiled.inputs)
            for text in warnings:
                _warn(f"warning: {text}")

    async def _go_on(self, provider: FocusedProvider, interruption: Interruption) -> Exit:
        store = provider.store
        row = None if self.request.resume is None else await _row_of(store, self.request.resume)
        definition = await self._definition(store, row)
        board = Board(definition)
        view = _view(self.request, board, Lines(interruption.set))
        if row is not None:
            provider.ids.add(row.id)
            for event in events_from(await _log_of(store, row.id)):
                board.apply(event)
            if WorkflowStatus(row.status).is_terminal:
                return self._already_over(row, board, view)
        session = _Session(self.request, provider, definition, board, view, interruption)
        host = self._host(provider, definition, session.name_of(row))
        await _started(host, definition)
        async with _stopping(host):
            await record_plan(store, definition)
            instance = await session.begin(host, row, self.data)
            return await session.follow(host, instance)

    async def _definition(self, store: Store, row: InstanceRow | None) -> WorkflowDefinition[dict[str, Any]]:
        if row is None:
            assert self.compiled is not None
            return self.compiled.definition
        if self.compiled is None:
            return await plan_of(store, row)
        definition = self.compiled.definition
        if definition.key == row.definition:
            return definition
        name = row.name or row.id
        raise CommandError(
            f"{name} runs {row.definition.id!r} version {row.definition.version} with other steps than {self.request.file} "
            f"has; leave the file out to continue with the plan that it was started with: "
            f"{resume_command(name, self.request.url)}"
        )

    def _host(self, provider: FocusedProvider, definition: WorkflowDefinition[Any], name: str) -> WorkflowHost:
        host = WorkflowHost(provider, name=name)
        host.register_executor(ShellStepExecutor())
        host.register(definition, *(each for each in self.others if each.definition.key != definition.key))
        missing = host.registry.find(definition.id, definition.version).missing
        if missing:
            raise CommandError(f"{definition.id} cannot be run here, because there is nothing that runs {'; '.join(missing)}")
        return host

    def _already_over(self, row: InstanceRow, board: Board, view: RunView) -> Exit:
        from wfe.host.registry import Registry

        instance = instance_from(row, Registry())
        view.begin(_info(instance, self.request.url, is_resumed=True))
        outcome = Outcome(
            exit_of(instance.status),
            instance.status,
            instance.duration,
            instance.data,
            instance.error,
            message=f"{instance.name or instance.id} was over already; nothing was run.",
        )
        view.end(outcome)
        return outcome.exit_code


@dataclass
class _Session:
    """One run on one started host."""

    request: RunRequest
    provider: FocusedProvider
    definition: WorkflowDefinition[dict[str, Any]]
    board: Board
    view: RunView
    interruption: Interruption
    workflow_id: str = ""

    def name_of(self, row: InstanceRow | None) -> str:
        return "wfe run " + ((row.name or row.id) if row is not None else self.definition.id)

    async def begin(
        self, host: WorkflowHost, row: InstanceRow | None, data: Mapping[str, object]
    ) -> WorkflowInstance[Any]:
        """Start the instance, or resume the one of `row`."""
        host.on_log(self._on_log(asyncio.get_running_loop()))
        if row is None:
            assert self.request.file is not None
            name = await self._free_name()
            # Known before it starts, so that no line of it is missed.
            self.workflow_id = SystemEntropy().new_id()
            self.provider.ids.add(self.workflow_id)
            await host.start_workflow(
                self.definition,
                data,
                id=self.workflow_id,
                name=name,
                reference=reference_to(self.definition, self.request.file.name),
            )
        else:
            self.workflow_id = row.id
            if row.status == WorkflowStatus.SUSPENDED:
                await host.resume_workflow(row.id)
        instance = await host.get_workflow(self.workflow_id)
        self.view.begin(_info(instance, self.request.url, is_resumed=row is not None))
        if row is not None:
            self._tell_repeats()
        return instance

    async def _free_name(self) -> str:
        async def is_taken(name: str) -> bool:
            return await self.provider.store.get(name) is not None

        wanted = self.request.name
        if wanted is None:
            return await free_name(is_taken, SystemEntropy().random)
        if await is_taken(wanted):
            raise CommandError(
                f"There is a run named {wanted!r} already; choose another --name, or continue that one: "
                f"{resume_command(wanted, self.request.url)}"
            )
        return wanted

    def _tell_repeats(self) -> None:
        for step in self.board.running():
            self.view.note(f"{step.name}: runs again, because it was interrupted")

    def _on_log(self, loop: asyncio.AbstractEventLoop) -> Any:  # noqa: ANN401 - the sink of a host
        def take(workflow_id: str, step: str, stream: str, text: str) -> None:
            if workflow_id == self.workflow_id:
                # Steps of other kinds than shell may write from threads.
                loop.call_soon_threadsafe(self._line, step, stream, text)

        return take

    def _line(self, step: str, stream: str, text: str) -> None:
        self.board.add_line(step, text)
        self.view.line(step, stream, text)

    # Following

    async def follow(self, host: WorkflowHost, instance: WorkflowInstance[Any]) -> Exit:
        """Show the instance until it ends, is suspended, its time is over, or someone interrupts."""
        name = instance.name or instance.id
        waiting = asyncio.create_task(host.wait(instance.id, until=[WorkflowStatus.SUSPENDED]))
        watching = asyncio.create_task(self._watch(host))
        interrupted = asyncio.create_task(self.interruption.wait())
        drawing = asyncio.create_task(self._keep_drawing())
        tasks = (waiting, watching, interrupted, drawing)
        limit = None if self.request.timeout is None else self.request.timeout.total_seconds()
        try:
            await asyncio.wait({waiting, interrupted, watching}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if watching.done() and not interrupted.done():
                await asyncio.wait({waiting, interrupted}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                await asyncio.wait({watching}, timeout=_LAST_EVENTS_SECONDS)
                outcome = await self._outcome(host, waiting.result())
            else:
                outcome = await self._saved(host, name)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self.view.end(outcome)
        return outcome.exit_code

    async def _watch(self, host: WorkflowHost) -> None:
        async for event in host.subscribe(workflow_id=self.workflow_id, since="start"):
            if not self.board.apply(event):
                continue
            self.view.event(event)
            self.view.tick()
            if event.kind in _ENDS:
                return

    async def _keep_drawing(self) -> None:
        while True:
            self.view.tick()
            await asyncio.sleep(_FRAME_SECONDS)

    async def _outcome(self, host: WorkflowHost, result: WorkflowResult[Any]) -> Outcome:
        instance = await host.get_workflow(result.id)
        message = ""
        if not result.status.is_terminal:
            why = f": {instance.blocked_reason}" if instance.blocked_reason else ""
            name = instance.name or instance.id
            message = f"{name} is suspended{why}\nResume it with: {resume_command(name, self.request.url)}"
        return Outcome(
            exit_of(result.status), result.status, instance.duration, result.data, result.error, message=message
        )

    async def _saved(self, host: WorkflowHost, name: str) -> Outcome:
        """Stop in good order before the end: what has been answered is recorded, what runs is ended."""
        by_time = not self.interruption.is_set()
        instance = await host.get_workflow(self.workflow_id)
        running = [step.name for step in self.board.running()]
        await host.stop(timeout=0)
        what = "Its time is over" if by_time else "Interrupted"
        ended = f" {_list(running)} will run again." if running else ""
        if instance.blocked_reason:
            ended += f" It is blocked: {instance.blocked_reason}."
        if self.request.url.startswith(("memory:", "sqlite:///:memory:")):
            message = f"{what}: {name} was in memory only and is gone."
        else:
            message = f"{what}: the state of {name} is saved.{ended}\nResume it with: "
            message += resume_command(name, self.request.url)
        return Outcome(Exit.UNFINISHED if by_time else Exit.INTERRUPTED, None, message=message)


async def _row_of(store: Store, id_or_name: str) -> InstanceRow:
    row = await store.get(id_or_name)
    if row is None:
        raise CommandError(f"There is no run {id_or_name!r} in this store; wfe list shows those that there are")
    return row


async def _log_of(store: Store, instance_id: str) -> list[Any]:
    rows: list[Any] = []
    after = 0
    while page := await store.history(instance_id, after):
        rows.extend(page)
        after = page[-1].first_sequence + page[-1].count - 1
    return rows


async def _started(host: WorkflowHost, definition: WorkflowDefinition[Any]) -> None:
    try:
        await host.start()
    except DefinitionError as error:
        raise CommandError(
            f"{error}\nUnfinished runs of it: wfe list --workflow {definition.id} --status runnable; continue them with "
            "wfe run --resume NAME, or end them with wfe terminate NAME"
        ) from error


@contextlib.asynccontextmanager
async def _stopping(host: WorkflowHost) -> AsyncIterator[None]:
    try:
        yield
    except WfeError:
        await host.stop(force=True)
        raise
    finally:
        await host.stop(timeout=0)


def _info(instance: WorkflowInstance[Any], url: str, *, is_resumed: bool) -> RunInfo:
    name = instance.name or instance.id
    return RunInfo(instance.id, name, instance.definition_id, instance.version, url, is_resumed)


def _view(request: RunRequest, board: Board, lines: Lines) -> RunView:
    if request.json:
        return JsonView(lines.write)
    if sys.stdout.isatty():
        from wfe.cli.live_tree import LiveTreeView

        return LiveTreeView(board)
    return PlainView(board, lines.write)


def _warn(text: str) -> None:
    sys.stderr.write(text + "\n")


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

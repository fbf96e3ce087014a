"""One run, from its start or resumption to the end of the command."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from wfe.cli.board import Board
from wfe.cli.exits import CommandError, Exit, exit_of
from wfe.cli.focus import FocusedProvider
from wfe.cli.names import free_name
from wfe.cli.place import resume_command, shown_url
from wfe.cli.plans import reference_to
from wfe.cli.request import RunRequest
from wfe.cli.signals import Interruption
from wfe.cli.views import Outcome, RunInfo, RunView
from wfe.host.system import SystemEntropy
from wfe.host.workflow_host import WorkflowHost
from wfe.model.status import LifecycleKind, WorkflowStatus

if TYPE_CHECKING:
    from wfe.model.definition import WorkflowDefinition
    from wfe.model.instance import WorkflowInstance, WorkflowResult
    from wfe.model.lifecycle import LifecycleEvent
    from wfe.ports.store import InstanceRow

__all__ = ["Session", "info_of"]

_FRAME_SECONDS = 0.1


@dataclass
class Session:
    """One run on one started host."""

    request: RunRequest
    provider: FocusedProvider
    definition: WorkflowDefinition[dict[str, Any]]
    board: Board
    view: RunView
    interruption: Interruption
    is_elsewhere: bool = False
    """Whether another process runs the instance; then this one looks on, and takes over when that one ends."""
    is_resumed: bool = False
    workflow_id: str = ""
    early: list[tuple[str, str, str]] = field(default_factory=list)
    """Lines of steps that are not announced yet: announcements are read from the store, lines come at once."""

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
            self.workflow_id, self.is_resumed = row.id, True
            if row.status == WorkflowStatus.SUSPENDED:
                await host.resume_workflow(row.id)
        instance = await host.get_workflow(self.workflow_id)
        self.view.begin(info_of(instance, self.request.url, is_resumed=row is not None))
        if self.is_elsewhere:
            self.view.note(f"{instance.name or instance.id} is run by another process; if that ends, it goes on here")
        elif row is not None:
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
            step.started = datetime.now(UTC)
            self.view.note(f"{step.name}: runs again, because it was interrupted")

    def _on_log(self, loop: asyncio.AbstractEventLoop) -> Any:  # noqa: ANN401 - the sink of a host
        def take(workflow_id: str, step: str, stream: str, text: str) -> None:
            if workflow_id == self.workflow_id:
                # Steps of other kinds than shell may write from threads.
                loop.call_soon_threadsafe(self._line, step, stream, text)

        return take

    def _line(self, step: str, stream: str, text: str) -> None:
        self.board.add_line(step, text)
        view = self.board.steps.get(step)
        if view is None or view.running:
            self.view.line(step, stream, text)
        else:
            self.early.append((step, stream, text))

    def _tell_early(self, step: str | None) -> None:
        """Show the lines that waited for a step to be announced (None: for any)."""
        early, self.early = self.early, []
        for line in early:
            if step in {None, line[0]}:
                self.view.line(*line)
            else:
                self.early.append(line)

    # Following

    async def follow(self, host: WorkflowHost, instance: WorkflowInstance[Any]) -> Outcome:
        """Show the instance until it ends, is suspended, its time is over, or someone interrupts."""
        name = instance.name or instance.id
        waiting = asyncio.create_task(host.wait(instance.id, until=[WorkflowStatus.SUSPENDED]))
        watching = asyncio.create_task(self._watch(host))
        interrupted = asyncio.create_task(self.interruption.wait())
        drawing = asyncio.create_task(self._keep_drawing())
        tasks = (waiting, watching, interrupted, drawing)
        limit = None if self.request.timeout is None else self.request.timeout.total_seconds()
        try:
            await asyncio.wait({waiting, interrupted}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                outcome = await self._outcome(host, waiting.result())
            else:
                outcome = await self._saved(host, name)
            self._tell_early(None)
            self.view.end(outcome)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return outcome

    async def _watch(self, host: WorkflowHost) -> None:
        async for event in host.subscribe(workflow_id=self.workflow_id, since="start"):
            self._announced(event)

    def _announced(self, event: LifecycleEvent) -> None:
        if self.board.apply(event):
            self.view.event(event)
            if self.early and event.kind is LifecycleKind.STEP_STARTED:
                self._tell_early(event.step)
            self.view.tick()

    async def _keep_drawing(self) -> None:
        while True:
            self.view.tick()
            await asyncio.sleep(_FRAME_SECONDS)

    async def _outcome(self, host: WorkflowHost, result: WorkflowResult[Any]) -> Outcome:
        instance = await host.get_workflow(result.id)
        for event in await host.history(result.id):  # whatever was not announced here yet
            self._announced(event)
        message = ""
        if not result.status.is_terminal:
            why = f": {instance.blocked_reason}" if instance.blocked_reason else ""
            name = instance.name or instance.id
            message = f"{name} is suspended{why}\nResume it with: {resume_command(name, self.request.url)}"
        return Outcome(
            exit_of(result.status),
            result.status,
            instance.duration,
            result.data,
            result.error,
            message,
            is_resumed=self.is_resumed,
        )

    async def _saved(self, host: WorkflowHost, name: str) -> Outcome:
        """Stop in good order before the end: what has been answered is recorded, what runs is ended."""
        by_time = not self.interruption.is_set()
        instance = await host.get_workflow(self.workflow_id)
        running = [step.name for step in self.board.running()]
        await host.stop(timeout=0)
        self.board.interrupted()
        what = "Its time is over" if by_time else "Interrupted"
        ended = f" {_list(running)} will run again." if running else ""
        if instance.blocked_reason:
            ended += f" It is blocked: {instance.blocked_reason}."
        if self.request.url.startswith(("memory:", "sqlite:///:memory:")):
            message = f"{what}: {name} was in memory only and is gone."
        elif self.is_elsewhere:
            message = f"{what}: {name} goes on in the process that runs it."
        else:
            message = f"{what}: the state of {name} is saved.{ended}\nResume it with: "
            message += resume_command(name, self.request.url)
        return Outcome(Exit.UNFINISHED if by_time else Exit.INTERRUPTED, None, message=message)


def info_of(instance: WorkflowInstance[Any], url: str, *, is_resumed: bool) -> RunInfo:
    """Give what a view is told of an instance."""
    name = instance.name or instance.id
    return RunInfo(instance.id, name, instance.definition_id, instance.version, shown_url(url), is_resumed)


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

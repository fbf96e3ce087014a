"""`wfe run`: start or resume one instance, show it, and end with it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wfe.cli.board import Board
from wfe.cli.drawing import DRAWN
from wfe.cli.exits import CommandError, Exit, exit_of
from wfe.cli.focus import FocusedProvider
from wfe.cli.inputs import checked_inputs, key_values
from wfe.cli.json_lines import JsonView
from wfe.cli.loading import choose, load_file, shown
from wfe.cli.output import Lines, can_show
from wfe.cli.place import log_of, make_ready, resume_command, row_of
from wfe.cli.plain import PlainView
from wfe.cli.plans import plan_of, record_plan
from wfe.cli.request import RunRequest
from wfe.cli.session import Session, info_of
from wfe.cli.signals import Interruption
from wfe.cli.views import Outcome, RunView
from wfe.executors.shell import ShellStepExecutor
from wfe.host.connect import connect
from wfe.host.views import events_from, instance_from
from wfe.host.workflow_host import WorkflowHost
from wfe.model.errors import DefinitionError, WfeError
from wfe.model.status import WorkflowStatus

if TYPE_CHECKING:
    from wfe.authoring.yaml import CompiledWorkflow
    from wfe.model.definition import WorkflowDefinition
    from wfe.ports.store import InstanceRow, Store

__all__ = ["run"]


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
        is_new = self.request.resume is None
        if is_new:
            make_ready(self.request.url)
        provider = FocusedProvider(connect(self.request.url, mode="create" if is_new else "write"))
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
            self.data, warnings = checked_inputs(key_values(request.inputs, "-i"), self.compiled.definition)
            for text in warnings:
                _warn(f"warning: {text}")

    async def _go_on(self, provider: FocusedProvider, interruption: Interruption) -> Exit:
        store = provider.store
        row = None if self.request.resume is None else await row_of(store, self.request.resume, self.request.url)
        definition = await self._definition(store, row)
        board = Board(definition)
        lines = Lines(interruption.set)
        view = _view(self.request, board, lines)
        is_elsewhere = False
        if row is not None:
            provider.ids.add(row.id)
            for event in events_from(await log_of(store, row.id)):
                board.apply(event)
            if WorkflowStatus(row.status).is_terminal:
                return self._already_over(row, board, view)
            is_elsewhere = row.owner in await provider.lease.alive()
        session = Session(self.request, provider, definition, board, view, interruption, is_elsewhere=is_elsewhere)
        host = self._host(provider, definition, session.name_of(row), row)
        await _started(host, definition)
        async with _stopping(host):
            await record_plan(store, definition)
            try:
                instance = await session.begin(host, row, self.data)
                outcome = await session.follow(host, instance)
            finally:
                view.close()
        if lines.lost:
            _warn(f"The output cannot be written: {lines.lost}.\n{outcome.message}".strip())
        return outcome.exit_code

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
            f"{name} runs {row.definition.id!r} version {row.definition.version} with other steps than "
            f"{self.request.file} has; leave the file out to continue with the plan that it was started with: "
            f"{resume_command(name, self.request.url)}"
        )

    def _host(
        self, provider: FocusedProvider, definition: WorkflowDefinition[Any], name: str, row: InstanceRow | None
    ) -> WorkflowHost:
        host = WorkflowHost(provider, name=name)
        host.register_executor(ShellStepExecutor())
        host.register(definition, *(each for each in self.others if each.definition.key != definition.key))
        missing = host.registry.find(definition.id, definition.version).missing
        if missing:
            what = f"{definition.id} cannot be run here, because there is nothing that runs {'; '.join(missing)}"
            advice = (
                "Write a program that loads the file and registers them: host.register_step(name, body)"
                if row is None
                else f"{row.name or row.id} goes on in the program that has this code; start that again"
            )
            raise CommandError(f"{what}.\n{advice}.")
        return host

    def _already_over(self, row: InstanceRow, board: Board, view: RunView) -> Exit:
        from wfe.host.registry import Registry

        instance = instance_from(row, Registry())
        view.begin(info_of(instance, self.request.url, is_resumed=True))
        outcome = Outcome(
            exit_of(instance.status),
            instance.status,
            instance.duration,
            instance.data,
            instance.error,
            is_resumed=True,
            message=f"{instance.name or instance.id} was over already; nothing was run.",
        )
        view.end(outcome)
        return outcome.exit_code


async def _started(host: WorkflowHost, definition: WorkflowDefinition[Any]) -> None:
    try:
        await host.start()
    except DefinitionError as error:
        raise CommandError(
            f"{error}\nIts unfinished runs: wfe list --workflow {definition.id} --status runnable --status suspended; "
            "continue them with wfe run --resume NAME, or end them with wfe terminate NAME"
        ) from error


@contextlib.asynccontextmanager
async def _stopping(host: WorkflowHost) -> AsyncGenerator[None]:
    try:
        yield
    except WfeError:
        await host.stop(force=True)
        raise
    finally:
        await host.stop(timeout=0)


def _view(request: RunRequest, board: Board, lines: Lines) -> RunView:
    if request.json:
        return JsonView(lines.write)
    if sys.stdout is not None and sys.stdout.isatty() and can_show(DRAWN):  # pyright: ignore[reportUnnecessaryComparison]
        from wfe.cli.live_tree import LiveTreeView

        return LiveTreeView(board)
    return PlainView(board, lines.write)


def _warn(text: str) -> None:
    with contextlib.suppress(OSError):  # whoever closed the output may have closed this, too
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

"""The check of a whole store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from wfe.host.fsck.findings import Finding, Problem, see_definition, see_rows
from wfe.host.fsck.history import History
from wfe.host.fsck.reading import Contents, is_json
from wfe.host.fsck.state import state_problems
from wfe.model.definition import DefinitionKey, WorkflowDefinition
from wfe.model.errors import DefinitionError
from wfe.ports.inspection import Damage, InspectableStore, StoredEvent, StoredInstance, not_inspectable
from wfe.ports.store import NO_DEFINITION, DefinitionRow, ErrorRow, LogRow, Store

__all__ = ["Report", "check_store"]

_KEPT = 10_000
_PLANS_KEPT = 1_000


@dataclass
class Report:
    """What a check has found."""

    instances: int = 0
    """How many were looked at."""
    findings: list[Finding] = field(default_factory=list[Finding])
    more: int = 0
    """Findings beyond the first 10,000, which are not kept."""


async def check_store(store: Store) -> Report:
    """Check the rules over everything that a store keeps. Writes nothing; hosts may be at work on it.

    Raises:
        ConfigurationError: The store does not offer to be inspected.
        ProviderUnavailable: The backend did not answer.
    """
    if not isinstance(store, InspectableStore):
        raise not_inspectable(store)
    check = _Check()
    await store.inspect(check)
    return check.report()


def _unreadable_plan(key: DefinitionKey, plan: str) -> str:
    """Say why a recorded plan cannot be read."""
    try:
        WorkflowDefinition.from_json(plan)
    except (DefinitionError, ValueError) as error:
        return f"the plan of {key.id!r} version {key.version} cannot be read: {error}"
    return ""


class _Check:
    """The inspector that knows the rules."""

    def __init__(self) -> None:
        self._found: dict[Finding, None] = {}
        self._more = 0
        self._instances: int = 0
        self._contents: Contents | None = None
        self._history: History | None = None
        self._plans: dict[tuple[str, str], WorkflowDefinition[Any] | None] = {}

    def report(self) -> Report:
        """Tell what was found so far."""
        return Report(self._instances, list(self._found), self._more)

    def instance(self, stored: StoredInstance) -> None:
        contents = Contents(stored)
        self._note(stored, contents.read())
        self._contents, self._history = contents, History(contents)
        definition = None
        if stored.ended_at is None:
            definition = self._definition(stored)
        self._note(stored, state_problems(contents, definition))

    def _definition(self, stored: StoredInstance) -> WorkflowDefinition[Any] | None:
        key = stored.definition
        if key == NO_DEFINITION:
            self._note(stored, [Problem("V1", "the definition that its row names is not there")])
            return None
        if stored.plan is None:
            what = f"its definition {key.id!r} version {key.version} ({key.hash[:8]}) is not recorded"
            self._note(stored, [Problem("V1", what)])
            return None
        if len(self._plans) > _PLANS_KEPT:
            self._plans.clear()
        place = (key.hash, stored.plan)
        if place not in self._plans:
            self._plans[place] = self._read_plan(stored, stored.plan)
        return self._plans[place]

    def _read_plan(self, stored: StoredInstance, plan: str) -> WorkflowDefinition[Any] | None:
        key = stored.definition
        found = _unreadable_plan(key, plan)
        if found:
            self._note(stored, [Problem("V1", found)])
            return None
        definition = WorkflowDefinition.from_json(plan)
        if definition.key != key:
            what = f"the plan of {key.id!r} version {key.version} has hash {definition.hash[:8]}, not {key.hash[:8]}"
            self._note(stored, [Problem("V1", what)])
            return None
        return definition

    def errors(self, rows: Sequence[ErrorRow]) -> None:
        if self._contents is not None and self._history is not None:
            self._note(self._contents.stored, self._history.errors(rows))

    def log(self, rows: Sequence[LogRow]) -> None:
        if self._contents is not None and self._history is not None:
            self._note(self._contents.stored, self._history.log(rows))

    def finished(self) -> None:
        if self._contents is not None and self._history is not None:
            self._note(self._contents.stored, self._history.finished())
            self._instances += 1
        self._contents = self._history = None

    def events(self, rows: Sequence[StoredEvent]) -> None:
        for row in rows:
            if not is_json(row.payload):
                self._keep(Finding("T10", f"the payload of {row.what} is not JSON ({row.payload[:40]!r})", row.see))

    def definitions(self, rows: Sequence[DefinitionRow]) -> None:
        for row in rows:
            if (row.key.hash, row.plan) in self._plans:
                continue  # what is wrong with it was told with an instance of it
            # A face may keep a plan aside under a key of its own: nothing runs by it, so its hash tells nothing.
            what = _unreadable_plan(row.key, row.plan)
            if what:
                self._keep(Finding("T10", what, see_definition(row.key)))

    def damage(self, found: Damage) -> None:
        self._keep(Finding(found.rule, found.what, found.see, found.instance_id or None))

    def _note(self, stored: StoredInstance, problems: Iterable[Problem]) -> None:
        for problem in problems:
            see = see_rows(problem.table, stored.id)
            self._keep(Finding(problem.rule, problem.what, see, stored.id, problem.pointer))

    def _keep(self, finding: Finding) -> None:
        if finding in self._found:
            return  # what was shown twice is found twice
        if len(self._found) >= _KEPT:
            self._more += 1
        else:
            self._found[finding] = None

"""Definitions that nobody registered on this host, and that the store has recorded whole."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from wfe.model.definition import StepKind, WorkflowDefinition
from wfe.model.errors import DefinitionError

if TYPE_CHECKING:
    from wfe.host.registry import Registry
    from wfe.model.definition import DefinitionKey
    from wfe.ports.store import DefinitionRow, Store

__all__ = ["Recall"]

_log = logging.getLogger("wfe.host")


class Recall:
    """Finds the plans of instances that wait for a host, of which this host was told nothing.

    A plan that needs step types and executors alone is as good as a registered one. One that needs more (code, a data
    class) is kept too, as the reason why its instances are blocked.
    """

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._looked: set[DefinitionKey] = set()
        """Found or not, it is not looked for again: a plan is recorded before its first instance."""

    async def look(self, keys: Iterable[DefinitionKey]) -> bool:
        """Look for definitions in the store. True: this host can run another one now."""
        unknown = {key for key in keys if key not in self._looked and self._registry.may_recall(key)}
        if not unknown:
            return False
        rows = await self._store.definitions()
        self._looked |= unknown
        before = self._registry.runnable
        while unknown:
            recalled = [found for row in rows if row.key in unknown if (found := self._recall(row)) is not None]
            unknown = {key for each in recalled for key in self._children(each, rows)}
        return self._registry.runnable != before

    def _recall(self, row: DefinitionRow) -> WorkflowDefinition[dict[str, object]] | None:
        try:
            definition = WorkflowDefinition.from_json(row.plan)
        except DefinitionError as error:
            _log.warning("The recorded plan of %r version %s cannot be read: %s", row.key.id, row.key.version, error)
            return None
        if definition.key != row.key:
            _log.warning("The recorded plan of %r version %s is of another structure", row.key.id, row.key.version)
            return None
        missing = self._registry.recall(definition).missing
        _log.info(
            "Took the plan of %r version %s from the store%s",
            row.key.id,
            row.key.version,
            f"; it cannot be run here without {', '.join(missing)}" if missing else "",
        )
        return definition

    def _children(
        self, definition: WorkflowDefinition[dict[str, object]], rows: Collection[DefinitionRow]
    ) -> Iterator[DefinitionKey]:
        """Give the recorded definitions that a plan may start as children, and that this host does not know."""
        for step in definition.steps:
            if step.kind is not StepKind.SUB_WORKFLOW:
                continue
            wanted, version = step.option("definition_id"), step.option("version")
            for row in rows:
                if row.key.id == wanted and version in {None, row.key.version} and self._registry.may_recall(row.key):
                    yield row.key

"""The plan that a run was started with, recorded so that it can be continued without its file.

A store records one plan per structure, the latest. Scripts and settings are not part of the structure, so two runs of
one version may have different ones: an edited script, other `-c` values. So that each goes on with its own, a run's
plan is also recorded under a name made of its content; the run's reference leads there.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from wfe.cli.exits import CommandError
from wfe.model.definition import DefinitionKey, WorkflowDefinition
from wfe.ports.store import DefinitionRow

if TYPE_CHECKING:
    from wfe.ports.store import InstanceRow, Store

__all__ = ["OWN_PLAN_PREFIX", "plan_of", "record_plan", "reference_to", "runs_here"]

OWN_PLAN_PREFIX = "wfe-run-plan:"
_DIGEST_LENGTH = 16


def reference_to(definition: WorkflowDefinition[dict[str, object]], file_name: str) -> str:
    """Give the reference of a run: its file's name and the digest of its plan."""
    return f"{file_name}@{_digest(definition.to_json())}"


async def record_plan(store: Store, definition: WorkflowDefinition[dict[str, object]]) -> None:
    """See to it that the plan stays recorded exactly as it is."""
    plan = definition.to_json()
    digest = _digest(plan)
    await store.save_definition(
        DefinitionRow(DefinitionKey(OWN_PLAN_PREFIX + digest, 1, digest), plan, definition.source)
    )


async def plan_of(store: Store, row: InstanceRow) -> WorkflowDefinition[dict[str, object]]:
    """Give the plan of an instance.

    Raises:
        CommandError: It is not recorded.
    """
    digest = (row.reference or "").rpartition("@")[2]
    rows = await store.definitions()
    own = [found for found in rows if found.key.id == OWN_PLAN_PREFIX + digest]
    for found in (*own, *(found for found in rows if found.key == row.definition)):
        definition = WorkflowDefinition.from_json(found.plan)
        if definition.key == row.definition:
            return definition
    raise CommandError(
        f"The store has no plan of {row.definition.id!r} version {row.definition.version}; name the file too: "
        f"wfe run FILE --resume {row.name or row.id}"
    )


async def runs_here(store: Store, workflow_id: str) -> bool:
    """Tell whether this command can run an instance: its plan is recorded, and needs no code of a program."""
    from wfe.executors.shell import ShellStepExecutor
    from wfe.host.registry import Registry

    row = await store.get(workflow_id)
    if row is None:
        return False
    try:
        definition = await plan_of(store, row)
    except CommandError:
        return False
    registry = Registry()
    registry.register_executor(ShellStepExecutor())
    return not registry.register(definition).missing


def _digest(plan: str) -> str:
    return hashlib.sha256(plan.encode()).hexdigest()[:_DIGEST_LENGTH]

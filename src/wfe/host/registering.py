"""What a host knows how to run: the verbs that tell it of definitions, bodies and executors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from wfe.host.life import Life
from wfe.host.registry import Registration, Registry, step_type_name
from wfe.model.definition import WorkflowDefinition
from wfe.model.errors import ConfigurationError

if TYPE_CHECKING:
    from wfe.ports.executor import StepExecutor

__all__ = ["Registering"]

D = TypeVar("D")


class Registering:
    """The part of a host that learns what it can run."""

    registry: Registry
    _life: Life

    def register(self, *definitions: object) -> None:
        """Make definitions (or compiled YAML workflows) known to this host; also while it runs.

        Raises:
            DefinitionError: Another structure is registered here under the same id and version.
        """
        for each in definitions:
            definition = getattr(each, "definition", each)
            if not isinstance(definition, WorkflowDefinition):
                msg = (
                    f"register takes workflow definitions, got a {type(each).__qualname__}. Did you forget .build(id)?"
                )
                raise ConfigurationError(msg)
            self._bring_executors(definition)
            self._life.registered(self.registry.register(definition))

    def _bring_executors(self, definition: WorkflowDefinition[Any]) -> None:
        """A plan with shell steps brings the executor for them, unless the host was given another one."""
        if not self.registry.knows_step_type("shell") and any(step.step_type == "shell" for step in definition.steps):
            from wfe.executors.shell import ShellStepExecutor

            self.registry.register_executor(ShellStepExecutor())

    def register_step(self, body_or_name: Callable[..., Any] | str, body: Callable[..., Any] | None = None) -> None:
        """Name a body, for definitions whose steps name their type (YAML, JSON): `register_step("mail", send)`."""
        if isinstance(body_or_name, str):
            if body is None:
                msg = f"register_step({body_or_name!r}) needs the body too."
                raise ConfigurationError(msg)
            self.registry.register_step(body_or_name, body)
        else:
            self.registry.register_step(step_type_name(body_or_name), body_or_name)
        self._life.registered()

    def register_executor(self, executor: StepExecutor) -> None:
        """Add an executor for steps of its type."""
        self.registry.register_executor(executor)
        self._life.registered()

    def deregister(self, definition_id: str, version: int) -> bool:
        """Take a definition away: its unfinished instances, and those of its parents, are blocked until it is back.

        False: it was not registered.
        """
        was_registered = self.registry.deregister(definition_id, version)
        self._life.deregistered()
        return was_registered

    def definitions(self) -> list[WorkflowDefinition[Any]]:
        """List what is registered."""
        return [registration.definition for registration in self.registry]

    def register_workflow(
        self,
        build_fn: Callable[[Any], Any],
        id: str,  # noqa: A002 - the public name
        version: int = 1,
        data_type: type[D] = dict,  # type: ignore[assignment]  # the default of D
    ) -> WorkflowDefinition[D]:
        """Build a definition with a function that is given a builder, and register it."""
        from wfe.authoring.builder import WorkflowBuilder

        chain = build_fn(WorkflowBuilder(data_type))
        definition: WorkflowDefinition[D] = chain.build(id, version=version)
        self.register(definition)
        return definition

    def _find(self, definition: str | WorkflowDefinition[Any], version: int | None) -> Registration:
        definition = getattr(definition, "definition", definition)  # a compiled YAML workflow has its plan inside
        if isinstance(definition, WorkflowDefinition):
            known = self.registry.by_key(definition.key)
            if known is None or known.is_recalled:
                self.register(definition)
            return self.registry.find(definition.id, definition.version)
        return self.registry.find(definition, version)

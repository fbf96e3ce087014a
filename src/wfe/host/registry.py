"""What a host can run: definitions, and the bodies of their steps."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from wfe.host.data_codec import DataCodec
from wfe.model.context import StepInfo
from wfe.model.definition import StepKind, WorkflowDefinition
from wfe.model.document import Document, decode_plain
from wfe.model.errors import ConfigurationError, DefinitionError, DefinitionNotFound
from wfe.model.inputs import complete_inputs
from wfe.model.step_body import StepAttributes, StepBody, step_attributes, step_type_of
from wfe.model.templates import has_templates
from wfe.ports.store import NO_DEFINITION

if TYPE_CHECKING:
    from datetime import timedelta

    from wfe.model.definition import DefinitionKey, Step
    from wfe.ports.executor import StepExecutor

__all__ = ["Body", "Registration", "Registry"]


class Body:
    """How the body of one step is called; found out once, at registration."""

    __slots__ = (
        "attributes",
        "concurrency",
        "concurrency_key",
        "counts_crashes",
        "executor",
        "function",
        "has_templates",
        "info",
        "inputs",
        "is_async",
        "is_class",
        "is_plain",
        "outputs",
        "step",
        "timeout",
    )

    def __init__(
        self,
        step: Step,
        function: Callable[..., Any] | None,
        executor: StepExecutor | None,
        timeout: timedelta | None,
        *,
        counts_crashes: bool,
    ) -> None:
        self.step = step
        self.function = function
        self.executor = executor
        self.is_class = inspect.isclass(function)
        self.attributes: StepAttributes = step_attributes(function)
        self.is_async = executor is not None or _is_async(function)
        self.timeout = timeout
        self.inputs = tuple(slot for slot in step.values if slot.startswith("input."))
        self.outputs = tuple(slot for slot in step.values if slot.startswith("output."))
        self.concurrency = self.attributes.concurrency if executor is None else executor.max_running
        """How many run at once on this host; None: as many as it has room for."""
        self.concurrency_key = step.step_type
        self.counts_crashes = counts_crashes
        """Whether each attempt is recorded before it begins."""
        self.is_plain = (
            self.is_async
            and executor is None
            and timeout is None
            and not (self.is_class or self.inputs or self.outputs)
        )
        """Whether calling the function with the context is all there is to do."""
        self.info = StepInfo(step.id, step.name or step.id, step.config)
        self.has_templates = has_templates(step.config)
        """Whether its settings name values of the run, which are filled in for each attempt."""


def _is_async(function: Callable[..., Any] | None) -> bool:
    if inspect.isclass(function) and issubclass(function, StepBody):
        return inspect.iscoroutinefunction(function.run)
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - a callable object's own method


class Registration:
    """A definition on this host, with its bodies."""

    __slots__ = ("bodies", "codec", "definition", "is_recalled", "key", "missing")

    def __init__(self, definition: WorkflowDefinition[Any], *, is_recalled: bool = False) -> None:
        self.definition = definition
        self.is_recalled = is_recalled
        """Whether it was found in the store, and nobody has registered it on this host."""
        self.key = definition.key
        self.codec = DataCodec(definition.data_type)
        self.bodies: dict[str, Body] = {}
        self.missing: tuple[str, ...] = ()

    def initial(self, data: object) -> Document:
        """Give the document to start with: the data, checked, and the defaults of declared inputs.

        Raises:
            DataError: The data does not fit its class or the declared inputs.
        """
        document = self.codec.initial(data)
        declared = self.definition.inputs
        if declared is None:
            return document
        given = cast("Mapping[str, object]", decode_plain(document))
        return self.codec.initial(complete_inputs(declared, given, workflow=self.definition.id))

    def resolve(
        self,
        step_types: dict[str, Callable[..., Any]],
        executors: dict[str, StepExecutor],
        knows: Callable[[str, int | None], bool],
    ) -> None:
        """Find the body of each step, and the definitions of children; `missing` says what was not found."""
        missing: list[str] = list(self.definition.lacks) if self.is_recalled else []
        self.bodies = {}
        for step in self.definition.steps:
            for slot, value in step.values.items():
                if type(value).__name__ == "Code" and (step.id, slot) not in self.definition.code:
                    missing.append(f"the code of {slot!r} of step {step.id!r}")
            if step.kind is StepKind.SUB_WORKFLOW:
                missing.extend(_missing_child(step, knows))
            if step.kind is not StepKind.BODY:
                continue
            own = self.definition.code.get((step.id, "body"))
            function = own if own is not None else step_types.get(step.step_type)
            executor = executors.get(step.step_type) if function is None else None
            if function is None and executor is None:
                missing.append(f"step type {step.step_type!r} of step {step.id!r}")
                continue
            policies = self.definition.policies_of(step.id)
            default = self.definition.default_policies
            self.bodies[step.id] = Body(
                step,
                function,
                executor,
                policies.timeout or default.timeout,
                counts_crashes=policies.count_crashes or default.count_crashes,
            )
        self.missing = tuple(missing)


def _missing_child(step: Step, knows: Callable[[str, int | None], bool]) -> Iterator[str]:
    child, version = str(step.option("definition_id")), step.option("version")
    version = version if isinstance(version, int) else None
    if not knows(child, version):
        which = "" if version is None else f" version {version}"
        yield f"definition {child!r}{which} of step {step.id!r}"


class Registry:
    """Definitions by id and version, step types by name."""

    def __init__(self) -> None:
        self._by_id: dict[str, dict[int, Registration]] = {}
        self._by_key: dict[DefinitionKey, Registration] = {}
        self._step_types: dict[str, Callable[..., Any]] = {}
        self._executors: dict[str, StepExecutor] = {}
        self._taken_away: set[DefinitionKey] = set()
        self.runnable: frozenset[DefinitionKey] = frozenset()
        """Definitions that can be run whole."""

    def register(self, definition: WorkflowDefinition[Any]) -> Registration:
        """Add a definition; the same one again replaces its code.

        Raises:
            DefinitionError: Another structure is registered under this id and version.
        """
        versions = self._by_id.setdefault(definition.id, {})
        present = versions.get(definition.version)
        if present is not None and present.key != definition.key:
            msg = (
                f"version {definition.version} is registered on this host with another structure. A definition never "
                "changes "
                "once it is registered: give the changed one a new version."
            )
            raise DefinitionError(msg, definition_id=definition.id)
        registration = Registration(definition)
        versions[definition.version] = registration
        self._by_key[registration.key] = registration
        self._taken_away.discard(registration.key)
        self._resolve(registration)
        self._resolve_missing()
        return registration

    def may_recall(self, key: DefinitionKey) -> bool:
        """Whether what the store has recorded may take the place of a registration: there is none, nor was one."""
        return key not in self._by_key and key not in self._taken_away

    def recall(self, definition: WorkflowDefinition[Any]) -> Registration:
        """Add a definition that the store has recorded, so that instances of it go on here.

        It is not listed, and found by its exact key (or as a child) only: registering comes before remembering.
        """
        registration = Registration(definition, is_recalled=True)
        self._by_key[registration.key] = registration
        self._resolve(registration)
        self._resolve_missing()
        return registration

    def forget_recalled(self) -> None:
        """Drop what was recalled: what is recorded may be another plan by now."""
        self._by_key = {key: found for key, found in self._by_key.items() if not found.is_recalled}
        self._refresh()

    def deregister(self, definition_id: str, version: int) -> bool:
        """Take a definition away: its instances and its parents' are blocked until it is back.

        False: it was not there.
        """
        registration = self._by_id.get(definition_id, {}).pop(version, None)
        if registration is None:
            return False
        if not self._by_id[definition_id]:
            del self._by_id[definition_id]
        self._by_key.pop(registration.key, None)
        self._taken_away.add(registration.key)
        for each in self._by_key.values():
            self._resolve(each)  # it may have been the definition of their children
        self._refresh()
        return True

    def register_step(self, name: str, body: object) -> None:
        """Name a body, for definitions whose steps name their type."""
        if not callable(body):
            msg = f"The body of step type {name!r} is a {type(body).__name__}; give a function or a StepBody class."
            raise ConfigurationError(msg)
        self._step_types[name] = cast("Callable[..., Any]", body)
        self._resolve_missing()

    def knows_step_type(self, name: str) -> bool:
        """Whether a body or an executor is registered under this name."""
        return name in self._step_types or name in self._executors

    def register_executor(self, executor: StepExecutor) -> None:
        """Name an executor, for steps of its type."""
        self._executors[executor.step_type] = executor
        self._resolve_missing()

    def _resolve_missing(self) -> None:
        for registration in self._by_key.values():
            if registration.missing:
                self._resolve(registration)
        self._refresh()

    def _resolve(self, registration: Registration) -> None:
        registration.resolve(self._step_types, self._executors, self._knows)

    def _knows(self, definition_id: str, version: int | None) -> bool:
        versions = self._by_id.get(definition_id, {})
        return (bool(versions) if version is None else version in versions) or bool(
            self._recalled(definition_id, version)
        )

    def _recalled(self, definition_id: str, version: int | None) -> list[Registration]:
        return [
            found
            for key, found in self._by_key.items()
            if found.is_recalled and key.id == definition_id and version in {None, key.version}
        ]

    def _refresh(self) -> None:
        self.runnable = frozenset(key for key, found in self._by_key.items() if not found.missing)

    def find(self, definition_id: str, version: int | None = None) -> Registration:
        """Give a definition, the latest version when none is named.

        Raises:
            DefinitionNotFound: It is not registered.
        """
        versions = self._by_id.get(definition_id)
        if versions:
            if version is None:
                return versions[max(versions)]
            if version in versions:
                return versions[version]
        known = [f"{name} v{number}" for name, found in self._by_id.items() for number in found]
        raise DefinitionNotFound(definition_id, version, known)

    def find_child(self, definition_id: str, version: int | None = None) -> Registration:
        """As `find`, for a child: where nobody has registered it, what was recalled with its parent does as well."""
        try:
            return self.find(definition_id, version)
        except DefinitionNotFound:
            recalled = self._recalled(definition_id, version)
            if not recalled:
                raise
            return max(recalled, key=lambda found: found.key.version)

    def by_key(self, key: DefinitionKey) -> Registration | None:
        """Give the definition with exactly this structure, also when this host cannot run it."""
        return self._by_key.get(key)

    def to_run(self, key: DefinitionKey) -> Registration | None:
        """Give the definition with exactly this structure, if this host can run it."""
        return self._by_key[key] if key in self.runnable else None

    def why_not(self, key: DefinitionKey) -> str:
        """Say why this host cannot run instances of a definition; empty if it can."""
        if key == NO_DEFINITION:
            return "state_corrupt: its definition is not in the store"
        registration = self._by_key.get(key)
        if registration is not None and not registration.missing:
            return ""
        if registration is not None and not registration.is_recalled:
            return f"not registered: {'; '.join(registration.missing)}"
        other = self._by_id.get(key.id, {}).get(key.version)
        if other is not None:
            return (
                f"definition {key.id!r} version {key.version} has another structure on the running hosts "
                f"({other.key.hash[:8]}, the instance needs {key.hash[:8]})"
            )
        reason = f"definition {key.id!r} version {key.version} is not registered on any running host"
        if registration is None:
            return reason
        return f"{reason}, and its recorded plan needs what they do not have: {'; '.join(registration.missing)}"

    def __iter__(self) -> Iterator[Registration]:
        """Go through what was registered."""
        return (registration for registration in self._by_key.values() if not registration.is_recalled)


def step_type_name(body: Callable[..., Any] | str) -> str:
    """Give the name under which a body is registered."""
    return body if isinstance(body, str) else step_type_of(body)

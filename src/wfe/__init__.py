"""wfe: durable workflows for Python programs, in one SQLite file or on many hosts with PostgreSQL.

Names are imported when they are first used, so that `import wfe` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wfe.authoring import block as block
    from wfe.authoring.builder import WorkflowBuilder as WorkflowBuilder
    from wfe.authoring.yaml import (
        CompiledWorkflow as CompiledWorkflow,
    )
    from wfe.authoring.yaml import (
        load_workflow as load_workflow,
    )
    from wfe.authoring.yaml import (
        load_workflows as load_workflows,
    )
    from wfe.host.blocking import run_workflow_sync as run_workflow_sync
    from wfe.host.builder import WorkflowHostBuilder as WorkflowHostBuilder
    from wfe.host.data_codec import transient as transient
    from wfe.host.events import LoggingSubscriber as LoggingSubscriber
    from wfe.host.events import Subscription as Subscription
    from wfe.host.views import Page as Page
    from wfe.host.workflow_host import WorkflowHost as WorkflowHost
    from wfe.model.conditions import (
        Condition as Condition,
    )
    from wfe.model.conditions import (
        all_of as all_of,
    )
    from wfe.model.conditions import (
        any_of as any_of,
    )
    from wfe.model.conditions import (
        none_of as none_of,
    )
    from wfe.model.conditions import (
        one_of as one_of,
    )
    from wfe.model.conditions import (
        ref as ref,
    )
    from wfe.model.context import StepExecutionContext as StepExecutionContext
    from wfe.model.definition import WorkflowDefinition as WorkflowDefinition
    from wfe.model.document import Limits as Limits
    from wfe.model.errors import (
        Cancelled as Cancelled,
    )
    from wfe.model.errors import (
        ChildWorkflowFailed as ChildWorkflowFailed,
    )
    from wfe.model.errors import (
        ConfigurationError as ConfigurationError,
    )
    from wfe.model.errors import (
        ContextValueNotFound as ContextValueNotFound,
    )
    from wfe.model.errors import (
        DataError as DataError,
    )
    from wfe.model.errors import (
        DefinitionError as DefinitionError,
    )
    from wfe.model.errors import (
        DefinitionNotFound as DefinitionNotFound,
    )
    from wfe.model.errors import (
        EventTimeout as EventTimeout,
    )
    from wfe.model.errors import (
        HostDied as HostDied,
    )
    from wfe.model.errors import (
        InvalidStateTransition as InvalidStateTransition,
    )
    from wfe.model.errors import (
        LeaseLost as LeaseLost,
    )
    from wfe.model.errors import (
        ProviderUnavailable as ProviderUnavailable,
    )
    from wfe.model.errors import (
        RevisionConflict as RevisionConflict,
    )
    from wfe.model.errors import (
        ShuttingDown as ShuttingDown,
    )
    from wfe.model.errors import (
        StaleToken as StaleToken,
    )
    from wfe.model.errors import (
        StartConflict as StartConflict,
    )
    from wfe.model.errors import (
        StepFailed as StepFailed,
    )
    from wfe.model.errors import (
        StepTimeout as StepTimeout,
    )
    from wfe.model.errors import (
        UnknownOption as UnknownOption,
    )
    from wfe.model.errors import (
        WaitTimeout as WaitTimeout,
    )
    from wfe.model.errors import (
        WfeError as WfeError,
    )
    from wfe.model.errors import (
        WorkflowNotFound as WorkflowNotFound,
    )
    from wfe.model.errors import (
        WorkflowTimeout as WorkflowTimeout,
    )
    from wfe.model.errors import (
        YamlError as YamlError,
    )
    from wfe.model.instance import (
        Heartbeat as Heartbeat,
    )
    from wfe.model.instance import (
        StepError as StepError,
    )
    from wfe.model.instance import (
        StepState as StepState,
    )
    from wfe.model.instance import (
        WorkflowInstance as WorkflowInstance,
    )
    from wfe.model.instance import (
        WorkflowResult as WorkflowResult,
    )
    from wfe.model.lifecycle import LifecycleEvent as LifecycleEvent
    from wfe.model.policies import (
        Compensate as Compensate,
    )
    from wfe.model.policies import (
        CompensateThenRetry as CompensateThenRetry,
    )
    from wfe.model.policies import (
        CompensateThenSuspend as CompensateThenSuspend,
    )
    from wfe.model.policies import (
        Continue as Continue,
    )
    from wfe.model.policies import (
        Exponential as Exponential,
    )
    from wfe.model.policies import (
        Fail as Fail,
    )
    from wfe.model.policies import (
        Fixed as Fixed,
    )
    from wfe.model.policies import (
        Linear as Linear,
    )
    from wfe.model.policies import (
        Retry as Retry,
    )
    from wfe.model.policies import (
        RetryPolicy as RetryPolicy,
    )
    from wfe.model.policies import (
        Suspend as Suspend,
    )
    from wfe.model.policies import (
        Terminate as Terminate,
    )
    from wfe.model.result import AnyResult as AnyResult
    from wfe.model.result import ExecutionResult as ExecutionResult
    from wfe.model.status import (
        LifecycleKind as LifecycleKind,
    )
    from wfe.model.status import (
        PointerStatus as PointerStatus,
    )
    from wfe.model.status import (
        WorkflowStatus as WorkflowStatus,
    )
    from wfe.model.step_body import StepBody as StepBody
    from wfe.model.step_body import step as step
    from wfe.providers.memory import MemoryProvider as MemoryProvider
    from wfe.providers.postgres import PostgresProvider as PostgresProvider
    from wfe.providers.sqlite import SQLiteProvider as SQLiteProvider

__version__ = "0.1.0"

_PLACES = {
    "block": "wfe.authoring",
    "WorkflowBuilder": "wfe.authoring.builder",
    "CompiledWorkflow": "wfe.authoring.yaml",
    "load_workflow": "wfe.authoring.yaml",
    "load_workflows": "wfe.authoring.yaml",
    "run_workflow_sync": "wfe.host.blocking",
    "WorkflowHostBuilder": "wfe.host.builder",
    "transient": "wfe.host.data_codec",
    "LoggingSubscriber": "wfe.host.events",
    "Subscription": "wfe.host.events",
    "Page": "wfe.host.views",
    "WorkflowHost": "wfe.host.workflow_host",
    "Condition": "wfe.model.conditions",
    "all_of": "wfe.model.conditions",
    "any_of": "wfe.model.conditions",
    "none_of": "wfe.model.conditions",
    "one_of": "wfe.model.conditions",
    "ref": "wfe.model.conditions",
    "StepBody": "wfe.model.step_body",
    "StepExecutionContext": "wfe.model.context",
    "step": "wfe.model.step_body",
    "WorkflowDefinition": "wfe.model.definition",
    "Limits": "wfe.model.document",
    "Cancelled": "wfe.model.errors",
    "ChildWorkflowFailed": "wfe.model.errors",
    "ConfigurationError": "wfe.model.errors",
    "ContextValueNotFound": "wfe.model.errors",
    "DataError": "wfe.model.errors",
    "DefinitionError": "wfe.model.errors",
    "DefinitionNotFound": "wfe.model.errors",
    "EventTimeout": "wfe.model.errors",
    "HostDied": "wfe.model.errors",
    "InvalidStateTransition": "wfe.model.errors",
    "LeaseLost": "wfe.model.errors",
    "ProviderUnavailable": "wfe.model.errors",
    "RevisionConflict": "wfe.model.errors",
    "ShuttingDown": "wfe.model.errors",
    "StaleToken": "wfe.model.errors",
    "StartConflict": "wfe.model.errors",
    "StepFailed": "wfe.model.errors",
    "StepTimeout": "wfe.model.errors",
    "UnknownOption": "wfe.model.errors",
    "WaitTimeout": "wfe.model.errors",
    "WfeError": "wfe.model.errors",
    "WorkflowNotFound": "wfe.model.errors",
    "WorkflowTimeout": "wfe.model.errors",
    "YamlError": "wfe.model.errors",
    "Heartbeat": "wfe.model.instance",
    "StepError": "wfe.model.instance",
    "StepState": "wfe.model.instance",
    "WorkflowInstance": "wfe.model.instance",
    "WorkflowResult": "wfe.model.instance",
    "LifecycleEvent": "wfe.model.lifecycle",
    "Compensate": "wfe.model.policies",
    "CompensateThenRetry": "wfe.model.policies",
    "CompensateThenSuspend": "wfe.model.policies",
    "Continue": "wfe.model.policies",
    "Exponential": "wfe.model.policies",
    "Fail": "wfe.model.policies",
    "Fixed": "wfe.model.policies",
    "Linear": "wfe.model.policies",
    "Retry": "wfe.model.policies",
    "RetryPolicy": "wfe.model.policies",
    "Suspend": "wfe.model.policies",
    "Terminate": "wfe.model.policies",
    "AnyResult": "wfe.model.result",
    "ExecutionResult": "wfe.model.result",
    "LifecycleKind": "wfe.model.status",
    "PointerStatus": "wfe.model.status",
    "WorkflowStatus": "wfe.model.status",
    "MemoryProvider": "wfe.providers.memory",
    "PostgresProvider": "wfe.providers.postgres",
    "SQLiteProvider": "wfe.providers.sqlite",
}

__all__ = [
    "AnyResult",
    "Cancelled",
    "ChildWorkflowFailed",
    "Compensate",
    "CompensateThenRetry",
    "CompensateThenSuspend",
    "CompiledWorkflow",
    "Condition",
    "ConfigurationError",
    "ContextValueNotFound",
    "Continue",
    "DataError",
    "DefinitionError",
    "DefinitionNotFound",
    "EventTimeout",
    "ExecutionResult",
    "Exponential",
    "Fail",
    "Fixed",
    "Heartbeat",
    "HostDied",
    "InvalidStateTransition",
    "LeaseLost",
    "LifecycleEvent",
    "LifecycleKind",
    "Limits",
    "Linear",
    "LoggingSubscriber",
    "MemoryProvider",
    "Page",
    "PointerStatus",
    "PostgresProvider",
    "ProviderUnavailable",
    "Retry",
    "RetryPolicy",
    "RevisionConflict",
    "SQLiteProvider",
    "ShuttingDown",
    "StaleToken",
    "StartConflict",
    "StepBody",
    "StepError",
    "StepExecutionContext",
    "StepFailed",
    "StepState",
    "StepTimeout",
    "Subscription",
    "Suspend",
    "Terminate",
    "UnknownOption",
    "WaitTimeout",
    "WfeError",
    "WorkflowBuilder",
    "WorkflowDefinition",
    "WorkflowHost",
    "WorkflowHostBuilder",
    "WorkflowInstance",
    "WorkflowNotFound",
    "WorkflowResult",
    "WorkflowStatus",
    "WorkflowTimeout",
    "YamlError",
    "all_of",
    "any_of",
    "block",
    "load_workflow",
    "load_workflows",
    "none_of",
    "one_of",
    "ref",
    "run_workflow_sync",
    "step",
    "transient",
]


def __getattr__(name: str) -> object:
    place = _PLACES.get(name)
    if place is None:
        from difflib import get_close_matches

        near = get_close_matches(name, __all__, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        msg = f"module 'wfe' has no attribute {name!r}{hint}"
        raise AttributeError(msg)
    from importlib import import_module

    found: object = getattr(import_module(place), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*globals(), *__all__]

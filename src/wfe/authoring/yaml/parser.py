"""From nodes to the documents of a file: each key read as the tables of `schema` say."""

from __future__ import annotations

import re
from datetime import timedelta

from wfe.authoring.yaml.checks import INVALID, Checker, join
from wfe.authoring.yaml.documents import Declaration, Rules, StepDoc, StepForm, WorkflowDoc
from wfe.authoring.yaml.nodes import Entry, ListNode, MapNode, Node, ScalarNode, plain_value
from wfe.authoring.yaml.problems import nearest_name
from wfe.authoring.yaml.schema import (
    CARRIED_OUT_TYPES,
    DECLARED_OUTPUT,
    DECLARED_WORKFLOW_INPUT,
    DECLARED_WORKFLOW_OUTPUT,
    ERROR_BEHAVIOR,
    FILE,
    KNOWN_TYPES,
    RETRY,
    STEP,
    WORKFLOW,
    Table,
)
from wfe.model.policies import (
    Backoff,
    Compensate,
    Continue,
    ErrorBehavior,
    Exponential,
    Fail,
    Fixed,
    Linear,
    Retry,
    RetryPolicy,
    Suspend,
    Terminate,
)
from wfe.model.value_types import checked_value, typed_value

__all__ = ["parse_file"]

_TYPE_NAMES = ("string", "number", "integer", "int", "bool", "any")
_MAX_NAME = 200
_DATA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,127}")
_RULE_TYPES = ("retry", "suspend", "terminate", "fail", "compensate", "continue")
_BACKOFFS = ("fixed", "linear", "exponential")
_ENDS: dict[str, ErrorBehavior] = {
    "suspend": Suspend(),
    "terminate": Terminate(),
    "fail": Fail(),
    "compensate": Compensate(),
    "continue": Continue(),
}


def parse_file(root: Node, check: Checker) -> list[WorkflowDoc]:
    """Give the workflows of a file; what is wrong is collected by *check*."""
    entries = check.entries(root, "", FILE)
    one, several = entries.get("workflow"), entries.get("workflows")
    if one is not None and several is not None:
        check.error(
            several.position, "workflows", "a file has either 'workflow' or 'workflows'", expected="one of the two"
        )
    if one is not None:
        return [_workflow(one.value, "workflow", check)]
    if several is not None and isinstance(several.value, ListNode):
        if not several.value.items:
            check.error(several.value.position, "workflows", "the list is empty", expected="at least one workflow")
        return [_workflow(item, f"workflows[{number}]", check) for number, item in enumerate(several.value.items)]
    if isinstance(root, MapNode) and root.get("workflow") is None and root.get("workflows") is None:
        check.error(
            root.position,
            "",
            "the key 'workflow' is missing",
            expected="workflow: a map (or workflows: a list of maps)",
        )
    return []


def _workflow(node: Node, path: str, check: Checker) -> WorkflowDoc:
    entries = check.entries(node, path, WORKFLOW)
    inputs = entries.get("inputs")
    return WorkflowDoc(
        id=_name(entries.get("id"), join(path, "id"), check),
        version=check.integer(entries.get("version"), join(path, "version"), 1, least=1),
        path=path,
        position=node.position,
        name=check.text(entries.get("name"), join(path, "name")),
        description=check.text(entries.get("description"), join(path, "description")),
        inputs=_declarations(inputs, join(path, "inputs"), DECLARED_WORKFLOW_INPUT, check) if inputs else None,
        outputs=_declarations(entries.get("outputs"), join(path, "outputs"), DECLARED_WORKFLOW_OUTPUT, check),
        rules=_rules(entries, path, check),
        env=_map(entries.get("env")),
        defaults=_map(entries.get("defaults")),
        steps=_steps(entries.get("steps"), join(path, "steps"), check),
    )


def _map(entry: Entry | None) -> MapNode | None:
    return entry.value if entry is not None and isinstance(entry.value, MapNode) else None


def _name(entry: Entry | None, path: str, check: Checker) -> str:
    text = check.text(entry, path)
    if entry is not None and (not text.strip() or len(text) > _MAX_NAME or not text.isprintable()):
        check.error(
            entry.value.position,
            path,
            f"{text[:40]!r} is not a name",
            expected=f"1 to {_MAX_NAME} printable characters",
        )
    return text


# --- declarations


def _declarations(entry: Entry | None, path: str, table: Table, check: Checker) -> tuple[Declaration, ...]:
    node = _map(entry)
    if node is None:
        return ()
    return tuple(
        _declaration(item, join(path, item.key), table, check) for item in node.entries if not item.key.startswith("x-")
    )


def _declaration(entry: Entry, path: str, table: Table, check: Checker) -> Declaration:
    _check_data_name(entry.key, entry, path, check)
    if isinstance(entry.value, ScalarNode):
        type_name = "" if entry.value.value is None else _type(entry, path, check)
        return Declaration(entry.key, type_name, entry.position)
    entries = check.entries(entry.value, path, table)
    default = entries.get("default")
    type_name = _type(entries.get("type"), join(path, "type"), check)
    return Declaration(
        entry.key,
        type_name,
        entry.position,
        has_default=default is not None,
        default=None if default is None else _default(default.value, type_name, join(path, "default"), check),
        description=check.text(entries.get("description"), join(path, "description")),
    )


def _default(node: Node, type_name: str, path: str, check: Checker) -> object:
    """Read a default, which has to be of the declared type. Text may be written as it comes: `1.10`, `true`."""
    before = len(check.problems.found)
    value = _constant_tree(node, path, check)
    if len(check.problems.found) > before:
        return None
    is_literal = value == plain_value(node)
    if isinstance(node, ScalarNode) and is_literal and value is not None and type_name.removesuffix("?") == "string":
        return node.text
    try:
        # Config from a command line is text.
        return checked_value(value, type_name) if is_literal or not type_name else typed_value(value, type_name)
    except ValueError as error:
        check.error(node.position, path, f"the default is not of the type {type_name}: {error}")
        return None


def _constant_tree(node: Node, path: str, check: Checker) -> object:
    match node:
        case ScalarNode():
            value = check.constant(node, path)
            return None if value is INVALID else value
        case ListNode():
            return [_constant_tree(item, f"{path}[{number}]", check) for number, item in enumerate(node.items)]
        case MapNode():
            return {entry.key: _constant_tree(entry.value, join(path, entry.key), check) for entry in node.entries}


def _check_data_name(name: str, entry: Entry, path: str, check: Checker) -> None:
    if not _DATA_NAME.fullmatch(name) or name.startswith("_wfe"):
        check.error(
            entry.position,
            path,
            f"{name[:40]!r} cannot be the name of an input or output",
            expected="letters, digits, _ and -, not beginning with a digit or _wfe",
        )


def _type(entry: Entry | None, path: str, check: Checker) -> str:
    if entry is None:
        return ""
    name = check.text(entry, path).replace(" ", "")
    inner = name
    while match := re.fullmatch(r"(?:list|map)<(.+)>\??", inner):
        inner = match[1]
    if inner.removesuffix("?") not in _TYPE_NAMES:
        check.error(
            entry.value.position,
            path,
            f"{name[:40]!r} is not a type",
            expected="string, number, integer, bool, any, list<T> or map<T>, each with ? for 'or null'",
            nearest=nearest_name(inner.removesuffix("?"), _TYPE_NAMES),
        )
        return ""
    return name


# --- steps


def _steps(entry: Entry | None, path: str, check: Checker) -> tuple[StepDoc, ...]:
    if entry is None or not isinstance(entry.value, ListNode):
        return ()
    if not entry.value.items:
        check.error(entry.value.position, path, "the list is empty", expected="at least one step")
    return tuple(_step(item, f"{path}[{number}]", check) for number, item in enumerate(entry.value.items))


def _step(node: Node, path: str, check: Checker) -> StepDoc:
    entries = check.entries(node, path, STEP)
    form, type_name = _form(node, entries, path, check)
    inputs, outputs = entries.get("inputs"), entries.get("outputs")
    children = {StepForm.PARALLEL: "parallel", StepForm.SEQUENCE: "steps"}.get(form, "")
    _check_fail_fast(form, entries, path, check)
    return StepDoc(
        name=_name(entries.get("name"), join(path, "name"), check),
        path=path,
        position=node.position,
        form=form,
        type=type_name,
        config=_map(entries.get("config")),
        steps=_steps(entries.get(children), join(path, children), check) if children else (),
        when=entries.get("when"),
        rules=_rules(entries, path, check),
        inputs=tuple(item.name for item in _listed(inputs, join(path, "inputs"), check)) if inputs else None,
        outputs=_listed(outputs, join(path, "outputs"), check) if outputs else None,
        fail_fast=check.boolean(entries.get("fail_fast"), join(path, "fail_fast")),
    )


def _form(node: Node, entries: dict[str, Entry], path: str, check: Checker) -> tuple[StepForm, str]:
    """Tell what kind of step it is, and the type of one that has a type."""
    written = [entry.key for entry in node.entries] if isinstance(node, MapNode) else []
    kinds = [
        key for key in ("parallel", "steps", "config") if key in written or (key == "config" and "type" in written)
    ]
    if len(kinds) != 1 and isinstance(node, MapNode):
        got = f"has {' and '.join(kinds)}" if kinds else "says nothing of what to do"
        check.error(node.position, path, f"the step {got}", expected="one of config (with type), parallel, steps")
    if "parallel" in kinds:
        return StepForm.PARALLEL, ""
    if "steps" in kinds:
        return StepForm.SEQUENCE, ""
    if not kinds or ("config" in written and "config" not in entries):
        return StepForm.TYPED, ""
    type_name = check.text(entries.get("type"), join(path, "type"), "shell")
    _warn_of_type(type_name, entries.get("type"), join(path, "type"), check)
    return StepForm.TYPED, type_name


def _warn_of_type(type_name: str, entry: Entry | None, path: str, check: Checker) -> None:
    if entry is None or not type_name or type_name in CARRIED_OUT_TYPES:
        return
    why = "this version has nothing that runs it" if type_name in KNOWN_TYPES else "the language has no such type"
    check.warn(
        entry.value.position,
        path,
        f"steps of type {type_name!r}: {why}, so a program has to register it: host.register_step({type_name!r}, body)",
        nearest="" if type_name in KNOWN_TYPES else nearest_name(type_name, KNOWN_TYPES),
    )


def _check_fail_fast(form: StepForm, entries: dict[str, Entry], path: str, check: Checker) -> None:
    entry = entries.get("fail_fast")
    if entry is not None and form is not StepForm.PARALLEL:
        check.error(entry.position, join(path, "fail_fast"), "the key 'fail_fast' belongs to parallel steps")


def _listed(entry: Entry, path: str, check: Checker) -> tuple[Declaration, ...]:
    """Read a list of names, or of maps with `name` and `type`."""
    if not isinstance(entry.value, ListNode):
        return ()
    found: list[Declaration] = []
    for number, item in enumerate(entry.value.items):
        where = f"{path}[{number}]"
        if isinstance(item, ScalarNode):
            name, type_name = check.text(Entry("", item.position, item), where), ""
        else:
            entries = check.entries(item, where, DECLARED_OUTPUT)
            name = check.text(entries.get("name"), join(where, "name"))
            type_name = _type(entries.get("type"), join(where, "type"), check)
        if name:
            _check_data_name(name, Entry(name, item.position, item), where, check)
            found.append(Declaration(name, type_name, item.position))
    return tuple(found)


# --- rules


def _rules(entries: dict[str, Entry], path: str, check: Checker) -> Rules:
    retry, behavior = entries.get("retry"), entries.get("error_behavior")
    error = _behavior(behavior.value, join(path, "error_behavior"), check) if behavior is not None else None
    if retry is not None and isinstance(error, Retry):
        check.error(
            retry.position,
            join(path, "retry"),
            "the step has both 'retry' and an error_behavior of type retry",
            expected="one of the two",
        )
    return Rules(
        error=error,
        retry=_retry(retry.value, join(path, "retry"), check) if retry is not None else None,
        timeout=check.duration(entries.get("timeout"), join(path, "timeout")),
    )


def _behavior(node: Node, path: str, check: Checker, *, is_last: bool = False) -> ErrorBehavior | None:
    if isinstance(node, ScalarNode) and is_last:
        word = check.choice(Entry("", node.position, node), path, tuple(_ENDS), "fail")
        _refuse_compensate(word, node, path, check)
        return _ENDS[word]
    entries = check.entries(node, path, ERROR_BEHAVIOR)
    if "type" not in entries:
        return None
    allowed = tuple(_ENDS) if is_last else _RULE_TYPES
    kind = check.choice(entries["type"], join(path, "type"), allowed, "fail")
    _refuse_compensate(kind, entries["type"].value, join(path, "type"), check)
    if kind != "retry":
        for key in entries.keys() - {"type"}:
            check.error(entries[key].position, join(path, key), f"the key {key!r} belongs to rules of type retry")
        return _ENDS[kind]
    then = entries.get("then")
    interval = check.duration(entries.get("interval"), join(path, "interval"))
    longest = check.duration(entries.get("max_interval"), join(path, "max_interval"))
    last = _behavior(then.value, join(path, "then"), check, is_last=True) if then is not None else None
    return Retry(
        interval=interval or timedelta(seconds=60),
        max_retries=check.integer(entries.get("max_retries"), join(path, "max_retries"), 3),
        backoff=_backoff(
            entries, path, check, interval=interval or timedelta(seconds=60), longest=longest, default="fixed"
        ),
        max_interval=longest,
        jitter=check.number(entries.get("jitter"), join(path, "jitter")),
        then=last or Fail(),
    )


def _refuse_compensate(word: str, node: Node, path: str, check: Checker) -> None:
    if word == "compensate":
        check.error(
            node.position, path, "the rule 'compensate' is not supported by this version", code="unsupported_key"
        )


def _retry(node: Node, path: str, check: Checker) -> RetryPolicy | None:
    if isinstance(node, ScalarNode):
        retries = check.integer(Entry("", node.position, node), path, 0)
        return RetryPolicy(retries + 1, Exponential(1))
    entries = check.entries(node, path, RETRY)
    interval = check.duration(entries.get("interval"), join(path, "interval")) or timedelta(seconds=1)
    longest = check.duration(entries.get("max_interval"), join(path, "max_interval"))
    return RetryPolicy(
        check.integer(entries.get("max_retries"), join(path, "max_retries"), 3) + 1,
        _backoff(entries, path, check, interval=interval, longest=longest, default="exponential"),
        check.number(entries.get("jitter"), join(path, "jitter")),
    )


def _backoff(
    entries: dict[str, Entry],
    path: str,
    check: Checker,
    *,
    interval: timedelta,
    longest: timedelta | None,
    default: str,
) -> Backoff:
    kind = check.choice(entries.get("backoff"), join(path, "backoff"), _BACKOFFS, default)
    limit = longest or timedelta(hours=1)
    if kind == "exponential":
        return Exponential(interval, limit)
    if kind == "linear":
        return Linear(interval, limit)
    return Fixed(interval)

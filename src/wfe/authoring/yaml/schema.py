"""The keys of the language: one table per kind of map, from which files are checked.

A key that belongs to the language but is not carried out yet is listed with `is_supported=False`, so that a file which
uses it fails with that message instead of running without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "CARRIED_OUT_TYPES",
    "CONDITION",
    "DECLARED_OUTPUT",
    "DECLARED_WORKFLOW_INPUT",
    "DECLARED_WORKFLOW_OUTPUT",
    "ERROR_BEHAVIOR",
    "FILE",
    "KNOWN_TYPES",
    "RETRY",
    "SHELL_CONFIG",
    "STEP",
    "WORKFLOW",
    "Form",
    "Key",
    "Table",
]


class Form(StrEnum):
    """What a value has to look like; the text stands in messages after "expected"."""

    ANY = "a value"
    TEXT = "text"
    INTEGER = "an integer"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    DURATION = "a duration such as 250ms, 30s, 5m, 2h, 1d or 1h30m, or an integer of milliseconds"
    MAP = "a map"
    LIST = "a list"
    NAMES = "a list of names"


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a map."""

    name: str
    form: Form
    doc: str
    is_required: bool = False
    is_supported: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """The keys that a kind of map has. Keys beginning with `_` or `x-` are always free."""

    what: str
    keys: tuple[Key, ...]

    def get(self, name: str) -> Key | None:
        """Give a key by its name, or None."""
        return next((key for key in self.keys if key.name == name), None)

    @property
    def names(self) -> list[str]:
        """The names of all keys."""
        return [key.name for key in self.keys]


def _later(name: str, form: Form, doc: str) -> Key:
    return Key(name, form, doc, is_supported=False)


FILE = Table(
    "a file",
    (
        Key("workflow", Form.MAP, "The one workflow of the file."),
        Key("workflows", Form.LIST, "Several workflows."),
        _later("include", Form.LIST, "Files whose workflows belong to this one."),
    ),
)

WORKFLOW = Table(
    "a workflow",
    (
        Key("id", Form.TEXT, "What the workflow is started by.", is_required=True),
        Key("version", Form.INTEGER, "Version of the definition, from 1.", is_required=True),
        Key("name", Form.TEXT, "For display."),
        Key("description", Form.TEXT, "For display."),
        Key("inputs", Form.MAP, "Name → type, or {type, default, description}."),
        Key("outputs", Form.MAP, "Name → type."),
        Key("strict_outputs", Form.BOOLEAN, "Whether a missing output fails the workflow.", is_supported=False),
        Key("error_behavior", Form.MAP, "What the failure of a step means, where the step does not say."),
        Key("timeout", Form.DURATION, "How long a run may take."),
        Key("env", Form.MAP, "Variables for all steps."),
        Key("defaults", Form.MAP, "Step type → config that its steps start from."),
        _later("services", Form.MAP, "Services started for the run."),
        _later("shared_volume", Form.MAP, "A directory that all steps share."),
        _later("concurrency", Form.MAP, "How many runs there may be at once."),
        _later("triggers", Form.ANY, "What starts runs."),
        Key("steps", Form.LIST, "What to do.", is_required=True),
    ),
)

STEP = Table(
    "a step",
    (
        Key("name", Form.TEXT, "Unique in the workflow.", is_required=True),
        Key("type", Form.TEXT, "What runs it; shell where there is only config."),
        Key("config", Form.MAP, "Settings of the type."),
        Key("parallel", Form.LIST, "Steps that run at the same time."),
        Key("steps", Form.LIST, "Steps that run one after another."),
        Key("when", Form.ANY, "Condition; the step is skipped where it is false."),
        Key("inputs", Form.LIST, "Names of data given to the step."),
        Key("outputs", Form.LIST, "Names of what the step hands on, with types."),
        Key("error_behavior", Form.MAP, "What its failure means."),
        Key("retry", Form.ANY, "How often it is tried again: a number, or a map."),
        Key("timeout", Form.DURATION, "How long one attempt may take."),
        Key("fail_fast", Form.BOOLEAN, "Of parallel: whether a failure cancels the other branches."),
        _later("on_success", Form.ANY, "Steps that run after it succeeded."),
        _later("on_failure", Form.ANY, "Steps that run after it failed."),
        _later("ensure", Form.ANY, "Steps that run in any case."),
        _later("depends_on", Form.NAMES, "Steps that have to end before."),
        _later("depends_on_any", Form.NAMES, "Steps of which one has to end before."),
        _later("for_each", Form.ANY, "Runs it once per item."),
        _later("while", Form.ANY, "Runs it as long as a condition is true."),
        _later("matrix", Form.MAP, "Runs it once per combination."),
        _later("max_parallel", Form.INTEGER, "Of for_each: how many at once."),
        _later("compensate", Form.ANY, "How it is undone."),
        _later("saga", Form.BOOLEAN, "Whether the group is undone as a unit."),
        _later("concurrency", Form.MAP, "How many may run at once."),
        _later("delay", Form.DURATION, "Wait before it."),
        _later("schedule_at", Form.TEXT, "Time before which it does not run."),
    ),
)

SHELL_CONFIG = Table(
    "the config of a shell step",
    (
        Key("run", Form.TEXT, "The script."),
        Key("file", Form.TEXT, "Path of a script."),
        Key("shell", Form.TEXT, "The program that runs it; sh by default."),
        Key("env", Form.MAP, "Variables of the script."),
        Key("working_dir", Form.TEXT, "Where it runs."),
        Key("timeout", Form.DURATION, "How long one attempt may take."),
        Key("stdin", Form.TEXT, "What it reads."),
        Key("env_passthrough", Form.NAMES, "Variables of the host that it gets."),
        _later("inputs", Form.MAP, "Artifact → mount point."),
    ),
)

ERROR_BEHAVIOR = Table(
    "a rule for errors",
    (
        Key("type", Form.TEXT, "retry, suspend, terminate, fail, compensate or continue.", is_required=True),
        Key("interval", Form.DURATION, "Of retry: the pause between attempts."),
        Key("max_retries", Form.INTEGER, "Of retry: attempts after the first."),
        Key("backoff", Form.TEXT, "Of retry: fixed, linear or exponential."),
        Key("max_interval", Form.DURATION, "Of retry: the longest pause."),
        Key("jitter", Form.NUMBER, "Of retry: share by which a pause may be shorter, 0 to 1."),
        Key("then", Form.ANY, "Of retry: the rule once attempts are used up."),
    ),
)

RETRY = Table(
    "retry",
    tuple(key for key in ERROR_BEHAVIOR.keys if key.name not in {"type", "then"}),
)

CONDITION = Table(
    "a condition",
    (
        Key("field", Form.TEXT, "Path of a field of the data."),
        Key("equals", Form.ANY, "The field has this value."),
        Key("not_equals", Form.ANY, "The field has another value."),
        Key("gt", Form.ANY, "The field is greater."),
        Key("gte", Form.ANY, "The field is greater or equal."),
        Key("lt", Form.ANY, "The field is less."),
        Key("lte", Form.ANY, "The field is less or equal."),
        Key("contains", Form.ANY, "The text has this part, the list this element, the map this key."),
        Key("is_null", Form.BOOLEAN, "The field is null or missing."),
        Key("is_not_null", Form.BOOLEAN, "The field is there and not null."),
        Key("exists", Form.BOOLEAN, "The field is there."),
        Key("matches", Form.TEXT, "The text matches this pattern."),
        Key("all", Form.LIST, "All of these conditions."),
        Key("any", Form.LIST, "At least one of these conditions."),
        Key("none", Form.LIST, "None of these conditions."),
        Key("one_of", Form.LIST, "Exactly one of these conditions."),
        Key("not", Form.MAP, "Not this condition."),
    ),
)

DECLARED_WORKFLOW_INPUT = Table(
    "a declared input",
    (
        Key("type", Form.TEXT, "Type of the value."),
        Key("default", Form.ANY, "Value where none is given."),
        Key("description", Form.TEXT, "For display."),
    ),
)

DECLARED_WORKFLOW_OUTPUT = Table(
    "a declared output",
    tuple(key for key in DECLARED_WORKFLOW_INPUT.keys if key.name != "default"),
)

DECLARED_OUTPUT = Table(
    "an input or output of a step",
    (
        Key("name", Form.TEXT, "Its name.", is_required=True),
        Key("type", Form.TEXT, "Its type."),
        _later("path", Form.TEXT, "File or directory that becomes an artifact."),
        _later("json_path", Form.TEXT, "Part of a JSON value."),
    ),
)

KNOWN_TYPES = (
    "shell",
    "deno",
    "git-repo",
    "workflow",
    "delay",
    "wait_for",
    "poll",
    "http",
    "decide",
    "saga",
    "recur",
    "schedule",
    "activity",
    "user_task",
    "end",
    "python",
    "containerd",
    "buildkit",
    "kubernetes",
)
"""Types that the language names; a host may register more."""

CARRIED_OUT_TYPES = frozenset({"shell"})
"""Those that this version has something for."""

"""From the documents of a file to workflow definitions.

What a definition holds of a file: a typed step becomes a step of that type whose config is filled in as far as it is
known, `parallel:` and `steps:` become containers. Data lies as follows: each input and each output is a key at the top
of the data, so an output with the name of an input replaces it; what expressions ask of a step (`steps.<name>.stdout`
…) lies under the key `steps.<name>`, and is recorded only where some expression asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from wfe.authoring.yaml.checks import Checker, join
from wfe.authoring.yaml.conditions import read_condition
from wfe.authoring.yaml.documents import Declaration, StepDoc, StepForm, WorkflowDoc, all_steps
from wfe.authoring.yaml.interpolation import BadExpression, Scope, UnknownName, interpolate
from wfe.authoring.yaml.nodes import Entry, ListNode, MapNode, Node, ScalarNode, describe
from wfe.authoring.yaml.problems import nearest_name
from wfe.authoring.yaml.schema import SHELL_CONFIG
from wfe.authoring.yaml.scripts import compile_script
from wfe.model.definition import Block, ConditionTree, Policies, Step, StepKind, WorkflowDefinition
from wfe.model.inputs import Input
from wfe.model.templates import MARK

__all__ = ["compile_workflow"]

_PRINTED_OUTPUT = re.compile(r"##wfe\[output ([A-Za-z_][A-Za-z0-9_-]*)(?:=|<<)")


def compile_workflow(doc: WorkflowDoc, check: Checker) -> WorkflowDefinition[dict[str, object]]:
    """Give the definition of a workflow; what is wrong is collected by *check*."""
    return _Compiler(doc, check).compile()


@dataclass
class _Compiler:
    doc: WorkflowDoc
    check: Checker
    policies: dict[str, Policies] = field(default_factory=dict)

    def __post_init__(self) -> None:
        steps = all_steps(self.doc.steps)
        inputs = self.doc.inputs
        self.scope = Scope(
            config=self.check.config,
            inputs=frozenset(item.name for item in inputs) if inputs is not None else None,
            outputs=frozenset(_output_names(self.doc, steps)),
            steps=frozenset(step.name for step in steps if step.form is StepForm.TYPED),
        )
        self.input_names = [item.name for item in inputs or ()]

    def compile(self) -> WorkflowDefinition[dict[str, object]]:
        self._check_names()
        self._check_outputs()
        self.defaults = self._defaults()
        self.scope.env = self._settings(self.doc.env, join(self.doc.path, "env"), self.scope)
        block = Block(tuple(self._step(step) for step in self.doc.steps))
        rules = self.doc.rules
        return WorkflowDefinition(
            id=self.doc.id,
            version=self.doc.version,
            root=_with_records(block, self.scope.recorded),
            name=self.doc.name,
            description=self.doc.description,
            data_type=dict[str, object],
            policies=self.policies,
            default_policies=Policies(error=rules.error, retry=rules.retry),
            workflow_timeout=rules.timeout,
            inputs=None if self.doc.inputs is None else tuple(map(_input, self.doc.inputs)),
            source="yaml",
        )

    def _check_names(self) -> None:
        seen: dict[str, StepDoc] = {}
        for step in all_steps(self.doc.steps):
            first = seen.setdefault(step.name, step)
            if first is not step and step.name:
                at = first.position
                self.check.error(
                    step.position,
                    join(step.path, "name"),
                    f"the name {step.name!r} is used twice; first by the step at line {at.line}, column {at.column}",
                    expected="names that are unique in the workflow",
                )

    def _check_outputs(self) -> None:
        produced = frozenset(_produced_names(all_steps(self.doc.steps)))
        for item in self.doc.outputs:
            if item.name not in produced:
                self.check.error(
                    item.position,
                    f"{self.doc.path}.outputs.{item.name}",
                    f"no step has an output {item.name!r}",
                    expected="it to be named under the outputs of a step",
                )

    def _defaults(self) -> dict[str, MapNode]:
        """Give the usable defaults of each type. Those of a type that no step has do nothing: a slip, or left over."""
        used = {step.type for step in all_steps(self.doc.steps) if step.form is StepForm.TYPED}
        found: dict[str, MapNode] = {}
        for entry in self.doc.defaults.entries if self.doc.defaults is not None else ():
            where = f"{self.doc.path}.defaults.{entry.key}"
            if entry.key.startswith(("_", "x-")):
                continue
            if entry.key not in used:
                self.check.error(
                    entry.position,
                    where,
                    f"no step has the type {entry.key!r}, so these defaults have no effect",
                    expected=f"one of the types that steps have: {', '.join(sorted(used))}" if used else "",
                    nearest=nearest_name(entry.key, used),
                )
            elif not isinstance(entry.value, MapNode):
                got = describe(entry.value)
                self.check.error(entry.value.position, where, f"{got} is not right here", expected="a map")
            elif entry.key == "shell":
                usable = self.check.entries(entry.value, where, SHELL_CONFIG)
                found[entry.key] = MapNode(tuple(usable.values()), entry.value.position)
            else:
                found[entry.key] = entry.value
        return found

    # --- steps

    def _step(self, doc: StepDoc) -> Step:
        rules = doc.rules
        if rules.error is not None or rules.retry is not None or rules.timeout is not None:
            self.policies[doc.name] = Policies(error=rules.error, retry=rules.retry, timeout=rules.timeout)
        values = {}
        if doc.when is not None:
            condition = read_condition(doc.when.value, join(doc.path, "when"), self.check, self.scope)
            values["when"] = ConditionTree(condition.to_plain())
        if doc.form is StepForm.TYPED:
            config = self._config(doc)
            return Step(id=doc.name, name=doc.name, step_type=doc.type, config=config, values=dict(values))
        children = [self._step(child) for child in doc.steps]
        if doc.form is StepForm.SEQUENCE:
            blocks: tuple[Block, ...] = (Block(tuple(children)),)
            return Step(id=doc.name, name=doc.name, kind=StepKind.SEQUENCE, blocks=blocks, values=dict(values))
        blocks = tuple(Block((child,)) for child in children)
        options: dict[str, object] = {"fail_fast": True} if doc.fail_fast else {}
        return Step(
            id=doc.name, name=doc.name, kind=StepKind.PARALLEL, blocks=blocks, options=options, values=dict(values)
        )

    def _config(self, doc: StepDoc) -> dict[str, object]:
        node = self._with_defaults(doc)
        path = join(doc.path, "config")
        if doc.type == "shell":
            return self._shell_config(doc, node, path)
        return self._settings(node, path, self.scope)

    def _with_defaults(self, doc: StepDoc) -> MapNode:
        """Give the step's config on top of the workflow's defaults for its type; maps such as env are joined."""
        own = doc.config or MapNode((), doc.position)
        base = self.defaults.get(doc.type)
        return own if base is None else _joined(base, own)

    def _settings(self, node: MapNode | None, path: str, scope: Scope) -> dict[str, object]:
        if node is None:
            return {}
        return {entry.key: self._setting(entry.value, join(path, entry.key), scope) for entry in node.entries}

    def _setting(self, node: Node, path: str, scope: Scope) -> object:
        match node:
            case ListNode():
                return [self._setting(item, f"{path}[{number}]", scope) for number, item in enumerate(node.items)]
            case MapNode():
                if node.get(MARK) is not None:
                    self.check.error(node.position, path, f"the key {MARK!r} is reserved")
                return self._settings(node, path, scope)
            case ScalarNode():
                return self._scalar(node, path, scope)

    def _scalar(self, node: ScalarNode, path: str, scope: Scope) -> object:
        try:
            value = interpolate(node.text, scope)
        except BadExpression as error:
            self.check.error(node.position, path, str(error), expected="a dotted path such as ${{ inputs.name }}")
        except UnknownName as error:
            self.check.error(node.position, path, str(error), expected=error.expected, nearest=error.nearest)
        else:
            return node.value if value is node.text else value
        return None

    # --- shell

    def _shell_config(self, doc: StepDoc, node: MapNode, path: str) -> dict[str, object]:
        entries = self.check.entries(node, path, SHELL_CONFIG)
        config: dict[str, object] = {}
        shell = self.check.text(entries.get("shell"), join(path, "shell"), "sh")
        if shell != "sh":
            config["shell"] = shell
        env = self._env(entries.get("env"), join(path, "env"))
        if env:
            config["env"] = env
        scope = Scope(
            self.scope.config,
            self.scope.inputs,
            self.scope.outputs,
            self.scope.steps,
            env,
            self.scope.has_item,
            self.scope.recorded,
        )
        if not self._has_one_script(entries, node, path):
            return config
        self._script(entries, path, shell, scope, config)
        for key in ("working_dir", "stdin"):
            value = entries[key].value if key in entries else None
            if isinstance(value, ScalarNode):
                config[key] = self._scalar(value, join(path, key), scope)
        timeout = self.check.duration(entries.get("timeout"), join(path, "timeout"))
        if timeout is not None:
            config["timeout_ms"] = round(timeout.total_seconds() * 1000)
        if passed := self.check.names(entries.get("env_passthrough"), join(path, "env_passthrough")):
            config["env_passthrough"] = passed
        inputs = list(doc.inputs) if doc.inputs is not None else self.input_names
        if inputs:
            config["inputs"] = inputs
        if doc.outputs is not None:
            config["outputs"] = {item.name: item.type or self._declared_type(item) for item in doc.outputs}
        return config

    def _declared_type(self, output: Declaration) -> str | None:
        return next((item.type for item in self.doc.outputs if item.name == output.name and item.type), None)

    def _env(self, entry: Entry | None, path: str) -> dict[str, object]:
        own = entry.value if entry is not None and isinstance(entry.value, MapNode) else None
        for item in own.entries if own is not None else ():
            if not isinstance(item.value, ScalarNode):
                self.check.error(
                    item.value.position,
                    join(path, item.key),
                    f"{describe(item.value)} is not right here",
                    expected="text",
                )
        return {**self.scope.env, **self._settings(own, path, self.scope)}

    def _has_one_script(self, entries: Mapping[str, Entry], node: MapNode, path: str) -> bool:
        present = [key for key in ("run", "file") if node.get(key) is not None]
        if len(present) != 1:
            got = "both 'run' and 'file'" if present else "neither 'run' nor 'file'"
            self.check.error(node.position, path, f"the step has {got}", expected="one of them")
        return len([key for key in present if key in entries]) == 1

    def _script(
        self, entries: Mapping[str, Entry], path: str, shell: str, scope: Scope, config: dict[str, object]
    ) -> None:
        run, file = entries.get("run"), entries.get("file")
        if file is not None and isinstance(file.value, ScalarNode):
            config["file"] = self._scalar(file.value, join(path, "file"), scope)
        if run is None or not isinstance(run.value, ScalarNode):
            return
        compiled = compile_script(run.value.text, scope, shell)
        for problem in compiled.problems:
            self.check.problems.add(
                run.value.position,
                join(path, "run"),
                f"line {problem.line} of the script: {problem.message}",
                expected=problem.expected,
                nearest=problem.nearest,
                code=problem.code,
                is_warning=problem.is_warning,
            )
        config["run"] = compiled.text
        if compiled.expressions:
            config["expressions"] = compiled.expressions


def _input(item: Declaration) -> Input:
    return Input(item.name, item.type, item.has_default, item.default, item.description)


def _joined(base: MapNode, own: MapNode) -> MapNode:
    entries = {entry.key: entry for entry in base.entries}
    for entry in own.entries:
        below = entries.get(entry.key)
        value = entry.value
        if below is not None and isinstance(below.value, MapNode) and isinstance(value, MapNode):
            value = _joined(below.value, value)
        entries[entry.key] = Entry(entry.key, entry.position, value)
    return MapNode(tuple(entries.values()), own.position)


def _produced_names(steps: Iterable[StepDoc]) -> Iterable[str]:
    """Give what steps declare as outputs, and what scripts print as outputs under a literal name."""
    for step in steps:
        if step.outputs is not None:
            yield from (item.name for item in step.outputs)
        run = step.config.get("run") if step.config is not None else None
        if run is not None and isinstance(run.value, ScalarNode):
            yield from _PRINTED_OUTPUT.findall(run.value.text)


def _output_names(doc: WorkflowDoc, steps: Iterable[StepDoc]) -> Iterable[str]:
    yield from (item.name for item in doc.outputs)
    yield from _produced_names(steps)


def _with_records(block: Block, recorded: Mapping[str, set[str]]) -> Block:
    """Tell each step what of it to record."""
    if not recorded:
        return block
    steps: list[Step] = []
    for step in block.steps:
        blocks = tuple(_with_records(inner, recorded) for inner in step.blocks)
        config = step.config
        if step.kind is StepKind.BODY and step.id in recorded:
            config = {**config, "record": sorted(recorded[step.id])}
        steps.append(
            Step(
                id=step.id,
                kind=step.kind,
                name=step.name,
                step_type=step.step_type,
                blocks=blocks,
                values=step.values,
                options=step.options,
                config=config,
            )
        )
    return Block(tuple(steps), block.label, block.is_default)

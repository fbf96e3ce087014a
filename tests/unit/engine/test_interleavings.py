"""Whatever the order of answers, events, timers, requests and crashes: the end is that of a sequential run."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.engine.harness import Answers, World, body, plan, terminal
from wfe.model.definition import Block, Code, Literal, Step, StepKind, WorkflowDefinition
from wfe.model.document import Limits
from wfe.model.message import Answered, BodyStopped, Control, ControlVerb, Failed, Message, TimePassed
from wfe.model.pointer import ErrorRecord, Pointer
from wfe.model.policies import Continue, ErrorBehavior, Fail, Fixed, Retry, RetryPolicy, Suspend
from wfe.model.result import NEXT, AnyResult, Branch, Outcome, Persist, Skip, Sleep, WaitForEvent
from wfe.model.status import LifecycleKind, PointerStatus, WorkflowStatus

Path = tuple[int, ...]


class Ended(Exception):
    """The workflow has ended itself."""


@dataclass
class Script:
    """What the body of one step does: stages, then its end; and how often it fails first."""

    stages: tuple[str, ...] = ()
    end: object = None
    """None: next; `skip`; or the value of an outcome."""
    failures: int = 0
    branches: int = 0


@dataclass
class Program:
    """A random workflow: its plan, what its bodies do, and what its conditions say."""

    steps: list[Step] = field(default_factory=list)
    scripts: dict[str, Script] = field(default_factory=dict)
    table: dict[tuple[str, str], Answers] = field(default_factory=dict)
    error: dict[str, ErrorBehavior] = field(default_factory=dict)
    retry: dict[str, RetryPolicy] = field(default_factory=dict)
    resets: set[str] = field(default_factory=set)
    ticks: dict[str, str] = field(default_factory=dict)
    """Steps at the head of a loop's block → the loop that they count for."""
    size: int = 0

    def definition(self) -> WorkflowDefinition[Any]:
        return plan(*self.steps, error=self.error, retry=self.retry)


class Generator:
    """Draws a program."""

    def __init__(self, rng: random.Random, budget: int, *, orderly: bool) -> None:
        self.rng = rng
        self.budget = budget
        self.orderly = orderly
        self.program = Program()

    def make(self) -> Program:
        for _ in range(self.rng.randint(1, 6)):
            self.program.steps.extend(self.node(0))
        return self.program

    def new_id(self) -> str:
        self.program.size += 1
        return f"s{self.program.size}"

    def block(self, depth: int, *, first: Step | None = None, label: object = None) -> Block:
        steps = [] if first is None else [first]
        for _ in range(self.rng.choice([0, 1, 1, 2, 2, 3])):
            if self.budget <= 0:
                break
            self.budget -= 1
            steps.extend(self.node(depth))
        return Block(tuple(steps), label)

    def node(self, depth: int) -> list[Step]:
        kinds = ["body"] * 4 + ["delay", "wait"]
        if depth < 4:
            kinds += ["sequence", "if", "while", "each", "each", "parallel", "parallel", "decide"]
        kind = self.rng.choice(kinds)
        steps: list[Step] = getattr(self, f"_{kind}")(depth)
        self._policies(steps[-1])
        return steps

    def _policies(self, step: Step) -> None:
        """A rule for errors: the same number of attempts for every way in which the step may be reached."""
        script = self.program.scripts.get(step.id)
        if script is not None and script.failures:
            attempts = self.rng.choice([script.failures, script.failures + 1])
            rule: ErrorBehavior = Fail() if self.rng.random() < 0.5 else Continue()
            if attempts == 1:
                self.program.error[step.id] = rule
            elif self.rng.random() < 0.5:
                pause = self.rng.choice([0, 5])
                self.program.error[step.id] = Retry(interval=pause, max_retries=attempts - 1, then=rule)
            else:
                self.program.retry[step.id] = RetryPolicy(attempts, Fixed(self.rng.choice([0, 3])))
                self.program.error[step.id] = rule
        elif script is None and self.rng.random() < 0.3:
            again = Retry(interval=2, max_retries=1, then=Continue())
            self.program.error[step.id] = Continue() if self.rng.random() < 0.5 else again

    def _when(self, step_id: str) -> dict[str, Any]:
        if self.rng.random() < 0.15:
            wanted = self.rng.random() < 0.5
            self.program.table[step_id, "when"] = lambda data, path: wanted
            return {"when": Code()}
        return {}

    def _body(self, depth: int) -> list[Step]:
        step_id = self.new_id()
        stages = tuple(self.rng.choice(["sleep", "wait", "persist"]) for _ in range(self.rng.choice([0, 0, 0, 1, 2])))
        script = Script(stages, failures=self.rng.choice([0, 0, 0, 1, 2]))
        extra: dict[str, Any] = {}
        if depth < 4 and self.rng.random() < 0.2:
            script.end = self.rng.choice(["a", "b", "other", "skip"])
            extra["blocks"] = (self.block(depth + 1, label="a"), self.block(depth + 1, label="b"))
        if depth < 4 and self.rng.random() < 0.15:
            script.stages = (*script.stages, self.rng.choice(["branch", "branch in order"]))
            script.branches = self.rng.randint(0, 3)
            extra["children"] = self.block(depth + 1)
        self.program.scripts[step_id] = script
        return [body(step_id, values=self._when(step_id), **extra)]

    def _delay(self, depth: int) -> list[Step]:
        step_id = self.new_id()
        seconds = self.rng.choice([0, 1, 60])
        return [Step(id=step_id, kind=StepKind.DELAY, values={"duration": Literal(seconds)})]

    def _wait(self, depth: int) -> list[Step]:
        step_id = self.new_id()
        values = {"event_name": Literal("event"), "event_key": Literal(step_id)}
        return [Step(id=step_id, kind=StepKind.WAIT_FOR, values={**values, **self._when(step_id)})]

    def _sequence(self, depth: int) -> list[Step]:
        return [Step(id=self.new_id(), kind=StepKind.SEQUENCE, blocks=(self.block(depth + 1),))]

    def _if(self, depth: int) -> list[Step]:
        step_id = self.new_id()
        wanted = self.rng.random() < 0.5
        self.program.table[step_id, "condition"] = lambda data, path: wanted
        blocks = [self.block(depth + 1) for _ in range(self.rng.randint(1, 2))]
        return [Step(id=step_id, kind=StepKind.IF, blocks=tuple(blocks), values={"condition": Code()})]

    def _while(self, depth: int) -> list[Step]:
        reset, step_id, tick = self.new_id(), self.new_id(), self.new_id()
        turns = self.rng.randint(0, 3)
        self.program.resets.add(reset)
        self.program.ticks[reset] = self.program.ticks[tick] = step_id
        self.program.table[step_id, "condition"] = lambda data, path: data.get(key(step_id, path), 0) < turns
        self.program.scripts[reset] = self.program.scripts[tick] = Script()
        inner = self.block(depth + 1, first=body(tick))
        return [body(reset), Step(id=step_id, kind=StepKind.WHILE, blocks=(inner,), values={"condition": Code()})]

    def _each(self, depth: int) -> list[Step]:
        options: dict[str, object] = self.rng.choice([{}, {}, {"parallel": False}, {"max_parallel": 2}])
        if not self.orderly and self.rng.random() < 0.5:
            options = {**options, "fail_fast": True}
        items = list(range(self.rng.randint(0, 4)))
        return [
            Step(
                id=self.new_id(),
                kind=StepKind.FOR_EACH,
                blocks=(self.block(depth + 1),),
                values={"collection": Literal(items)},
                options=options,
            )
        ]

    def _parallel(self, depth: int) -> list[Step]:
        blocks = [self.block(depth + 1) for _ in range(self.rng.randint(0, 3))]
        options: dict[str, object] = {}
        if not self.orderly and self.rng.random() < 0.5:
            options = {"fail_fast": True}
        return [Step(id=self.new_id(), kind=StepKind.PARALLEL, blocks=tuple(blocks), options=options)]

    def _decide(self, depth: int) -> list[Step]:
        step_id = self.new_id()
        value = self.rng.choice([1, 2.0, "else"])
        self.program.table[step_id, "selector"] = lambda data, path: value
        blocks = [self.block(depth + 1, label=1), self.block(depth + 1, label=2)]
        if self.rng.random() < 0.5:
            blocks.append(msgspec_replace(self.block(depth + 1)))
        return [Step(id=step_id, kind=StepKind.DECIDE, blocks=tuple(blocks), values={"selector": Code()})]


def msgspec_replace(plain: Block) -> Block:
    return Block(plain.steps, None, is_default=True)


def key(step: str, path: Path) -> str:
    return f"{step}{list(path)}" if path else step


class Reference:
    """Runs a program step by step, without engine: what the data are in the end, and whether it failed."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.data: Counter[str] = Counter()

    def run(self) -> WorkflowStatus:
        done = self.block(tuple(self.program.steps), ())
        return WorkflowStatus.COMPLETE if done else WorkflowStatus.FAILED

    def block(self, steps: tuple[Step, ...], path: Path) -> bool:
        return all(self.step(step, path) for step in steps)

    def step(self, step: Step, path: Path) -> bool:
        """Run a step with its rules; False: its branch has failed."""
        if "when" in step.values and not self.program.table[step.id, "when"]({}, path):
            return True
        rule, policy = self.program.error.get(step.id), self.program.retry.get(step.id)
        attempts = 1
        if policy is not None:
            attempts = policy.max_attempts
        elif isinstance(rule, Retry):
            attempts = rule.max_attempts
        final = rule.then if isinstance(rule, Retry) else rule
        for attempt in range(1, attempts + 1):
            done = self.attempt(step, path, attempt)
            if done:
                return True
            if done is None:
                return False  # where its outcome led has failed: that is no failure of its body
        return isinstance(final, Continue)

    def attempt(self, step: Step, path: Path, attempt: int) -> bool | None:
        if step.kind is StepKind.BODY:
            return self.body(step, path, attempt)
        if step.kind is StepKind.WHILE:
            while self.program.table[step.id, "condition"](self.data, path):
                if not self.block(step.blocks[0].steps, path):
                    return False
            return True
        if step.kind is StepKind.FOR_EACH:
            return self.each(step, path)
        if step.kind is StepKind.PARALLEL:
            return all([self.block(each.steps, path) for each in step.blocks])  # noqa: C419 - all are run
        return self.chosen(step, path)

    def each(self, step: Step, path: Path) -> bool:
        collection = step.values["collection"]
        assert isinstance(collection, Literal)
        items = collection.value
        assert isinstance(items, list)
        if step.option("parallel", default=True) is False:
            return all(self.block(step.blocks[0].steps, (*path, index)) for index in range(len(items)))
        return all([self.block(step.blocks[0].steps, (*path, index)) for index in range(len(items))])  # noqa: C419

    def chosen(self, step: Step, path: Path) -> bool:
        if step.kind is StepKind.SEQUENCE:
            return self.block(step.blocks[0].steps, path)
        if step.kind is StepKind.IF:
            number = 0 if self.program.table[step.id, "condition"](self.data, path) else 1
            return self.block(step.blocks[number].steps, path) if number < len(step.blocks) else True
        if step.kind is StepKind.DECIDE:
            value = self.program.table[step.id, "selector"](self.data, path)
            for each in step.blocks:
                if each.label == value or each.is_default:
                    return self.block(each.steps, path)
        return True

    def body(self, step: Step, path: Path, attempt: int) -> bool | None:
        script = self.program.scripts[step.id]
        if attempt <= script.failures:
            return False
        for stage in script.stages:
            if not stage.startswith("branch"):
                continue
            assert step.children is not None
            branches = (self.block(step.children.steps, (*path, index)) for index in range(script.branches))
            if not all(branches if stage == "branch in order" else list(branches)):
                return False
        written = write(self.program, step.id, path)
        self.data[written[0]] = written[1](self.data[written[0]])
        for each in step.blocks:
            if each.label == script.end:
                return True if self.block(each.steps, path) else None
        return True


def write(program: Program, step: str, path: Path) -> tuple[str, Any]:
    """What a body writes: the field, and its new value from the old one."""
    counted = program.ticks.get(step)
    if counted is None:
        return key(step, path), lambda old: old + 1
    return key(counted, path), (lambda old: 0) if step in program.resets else (lambda old: old + 1)


class Play:
    """Runs a program in the engine, in an order drawn at random."""

    def __init__(self, program: Program, rng: random.Random, *, limits: Limits | None = None) -> None:
        self.program = program
        self.rng = rng
        self.world = World(program.definition(), program.table, limits=limits)

    def run(self) -> World:
        world = self.world
        for _ in range(20_000):
            if world.ended:
                return world
            self.move()
        raise AssertionError(f"it does not end; live: {world.live}")

    def move(self) -> None:
        world = self.world
        if self.rng.random() < 0.1:
            world.reload()
            return
        if world.status is WorkflowStatus.SUSPENDED and self.rng.random() < 0.5:
            world.control(ControlVerb.RESUME)
            return
        messages: list[Message] = []
        if world.status is WorkflowStatus.RUNNABLE and self.rng.random() < 0.05:
            messages.append(Control(ControlVerb.SUSPEND))
        answering = [number for number in sorted(world.running) if self.rng.random() < 0.5]
        messages.extend(self.answer(world.state.pointers[number]) for number in answering)
        while world.subscriptions and self.rng.random() < 0.4:
            messages.append(world.matching())
        self.rng.shuffle(messages)
        wake = world.state.timers.earliest()
        if wake is not None and self.rng.random() < 0.3:
            world.now = max(world.now, wake)
            messages.append(TimePassed())
        if not messages:
            return
        first, again = world.decide(*messages), world.decide(*messages)
        assert first.changes == again.changes, "the same decision was made differently"
        kept, world.state = world.state, world.loaded(world.head_bytes)
        reloaded = world.decide(*messages)
        world.state = kept
        assert reloaded.changes == first.changes, "decided from the stored state, the transition is another (T10)"
        world.advance(*messages)

    def answer(self, pointer: Pointer) -> Answered | Failed:
        script = self.program.scripts[pointer.step]
        if pointer.attempt <= script.failures:
            return Failed(pointer.id, pointer.attempt, ErrorRecord("step_failed", "scripted"), classes=("E",))
        stage = int(pointer.persisted or b"0")
        if stage < len(script.stages):
            return self.world.answering(pointer.id, self.stage(script, stage, pointer))
        path = self.world.path(pointer)
        name, change = write(self.program, pointer.step, path)
        result: AnyResult = NEXT
        if script.end == "skip":
            result = Skip()
        elif script.end is not None:
            result = Outcome(script.end)
        return self.world.answering(pointer.id, result, **{name: change(self.world.data.get(name, 0))})

    def stage(self, script: Script, stage: int, pointer: Pointer) -> AnyResult:
        what = script.stages[stage]
        if what == "sleep":
            return Sleep(timedelta(seconds=2), stage + 1)
        if what == "persist":
            return Persist(stage + 1, timedelta(seconds=1))
        if what == "wait":
            return WaitForEvent("event", pointer.step, data=stage + 1)
        return Branch(tuple(range(script.branches)), stage + 1, parallel=what == "branch")


_SETTINGS = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
SEEDS = st.integers(min_value=0, max_value=2**32)


@_SETTINGS
@given(SEEDS, st.integers(min_value=0, max_value=40))
def test_every_interleaving_ends_as_the_sequential_run(seed: int, size: int) -> None:
    """Random nested plans, answered in random order, with suspensions, crashes and retries: same data, same status."""
    program = Generator(random.Random(seed), size, orderly=True).make()
    reference = Reference(program)
    expected = reference.run()

    world = Play(program, random.Random(seed + 1)).run()

    assert (world.status, world.data) == (expected, dict(reference.data))
    assert len(terminal(world.log)) == 1


@_SETTINGS
@given(SEEDS, st.integers(min_value=5, max_value=40))
def test_short_transitions_end_as_long_ones(seed: int, size: int) -> None:
    """A transition that may begin very few steps leaves the others to the next ones, and loses none."""
    program = Generator(random.Random(seed), size, orderly=True).make()
    reference = Reference(program)
    expected = reference.run()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wfe.engine.transition.MAX_DECISIONS", 2)
        world = Play(program, random.Random(seed + 1)).run()

    assert (world.status, world.data) == (expected, dict(reference.data))


@_SETTINGS
@given(SEEDS, st.integers(min_value=5, max_value=40))
def test_fail_fast_leaves_nothing_behind(seed: int, size: int) -> None:
    """With branches cut short at random, scopes keep counting right, and nothing lives after the end."""
    program = Generator(random.Random(seed), size, orderly=False).make()

    world = Play(program, random.Random(seed + 1)).run()

    assert world.status in {WorkflowStatus.COMPLETE, WorkflowStatus.FAILED}
    assert len(terminal(world.log)) == 1
    begun = {record.pointer for record in world.log if record.kind is LifecycleKind.STEP_STARTED}
    ended = {
        record.pointer
        for record in world.log
        if record.kind
        in {
            LifecycleKind.STEP_SUCCEEDED,
            LifecycleKind.STEP_FAILED,
            LifecycleKind.STEP_SKIPPED,
            LifecycleKind.STEP_CANCELLED,
        }
    }
    assert begun <= ended


@_SETTINGS
@given(SEEDS, st.integers(min_value=5, max_value=30), st.integers(min_value=1, max_value=20))
def test_cancel_at_any_moment_ends_everything_once(seed: int, size: int, moves: int) -> None:
    """A cancel at a random moment: nothing begins after it, and one end is announced."""
    program = Generator(random.Random(seed), size, orderly=False).make()
    play = Play(program, random.Random(seed + 1))
    world = play.world
    for _ in range(moves):
        if not world.ended:
            play.move()
    if world.ended:
        return
    begun = world.count(LifecycleKind.STEP_STARTED)

    world.control(ControlVerb.CANCEL)
    while world.running:
        for number in sorted(world.state.running):
            stopped = play.rng.random() < 0.5
            world.advance(BodyStopped(number) if stopped else play.answer(world.state.pointers[number]))

    assert world.status is WorkflowStatus.CANCELLED
    assert world.count(LifecycleKind.STEP_STARTED) == begun
    assert terminal(world.log) == [LifecycleKind.WORKFLOW_CANCELLED]


@_SETTINGS
@given(SEEDS, st.integers(min_value=5, max_value=30))
def test_a_step_that_suspends_is_tried_again_until_it_succeeds(seed: int, size: int) -> None:
    """With `Suspend` everywhere, every failure holds the instance; resumed each time, all bodies succeed in the end."""
    program = Generator(random.Random(seed), size, orderly=True).make()
    for step_id, script in program.scripts.items():
        if script.failures:
            program.error[step_id] = Suspend()
            program.retry.pop(step_id, None)
    forgiving = Program(**{**program.__dict__, "scripts": {}, "error": dict(program.error)})
    forgiving.scripts = {
        step_id: Script(each.stages, each.end, 0, each.branches) for step_id, each in program.scripts.items()
    }
    reference = Reference(forgiving)
    expected = reference.run()

    world = Play(program, random.Random(seed + 1)).run()

    assert (world.status, world.data) == (expected, dict(reference.data))
    assert all(pointer.status is PointerStatus.FAILED for pointer in world.state.pointers.values())

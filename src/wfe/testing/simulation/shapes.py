"""Random workflow definitions as plain values.

What is to be built, and what a reference can follow without an engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import TypeAlias

__all__ = [
    "MANY_ATTEMPTS",
    "Block",
    "Child",
    "Choice",
    "Each",
    "End",
    "Fork",
    "If",
    "Node",
    "Pause",
    "Plan",
    "Rule",
    "Wait",
    "While",
    "Work",
    "draw_plans",
    "inner_blocks",
    "nodes_of",
    "with_block",
]


MANY_ATTEMPTS = 60
"""More than an instance is taken: a step that counts crashes does not use them up."""
_PATIENCE = 6.0
"""Longer than any body takes that does not hang."""


@dataclass(frozen=True)
class Rule:
    """What a failure of a step means."""

    attempts: int = 1
    pause: float = 0.5
    final: str = "fail"
    """`fail`, `continue`, `suspend` or `terminate`, once the attempts are used up."""
    way: str = "policy"
    """How retries are said: `policy` (`retry(RetryPolicy)` and `on_error`), or one `on_error(Retry(…, then=…))`."""
    backoff: str = "fixed"
    """`fixed`, `linear` or `exponential`; the last with jitter."""


@dataclass(frozen=True)
class Work:
    """A step with a body. It counts its runs that succeed in a field of the data of its own."""

    id: str
    fails: int = 0
    """Attempts that fail."""
    how: str = "raise"
    """How they fail: `raise`, `answer` (`ExecutionResult.fail`), `fatal` (the same, and not retryable) or `not on`
    (raises what the rule does not retry)."""
    hangs: int = 0
    """Attempts, after those that raise, that take longer than their timeout."""
    rule: Rule = Rule()
    answer: str = "next"
    """`next`, `output`, `sleep`, `until`, `persist`, `skip`, `end`, `wait`, `outcome` or `branch`."""
    times: int = 1
    """How many pauses or polls; how many values to branch into."""
    in_order: bool = False
    blocks: tuple[Block, ...] = ()
    """Of `outcome`: one for each outcome 0, 1, …; of `branch`: the children."""
    when: bool = True
    """False: its `when` is false, so it is skipped."""
    back_to: str = ""
    """Jumps there `jumps` times (`go_to`)."""
    jumps: int = 0
    slow: float = 0.02
    """Its body takes up to so many seconds."""
    timeout: float | None = None
    """Of `wait`: how long for an event."""
    claims: bool = False
    """It also writes a field that others write too."""
    kills: int = 0
    """So many times its body takes its host down as it begins."""
    counts: bool = False
    """It counts crashes: each use an attempt up."""


@dataclass(frozen=True)
class If:
    id: str
    truth: bool
    then: Block
    otherwise: Block | None


@dataclass(frozen=True)
class While:
    """Turns until a counter, which its last step counts up, has reached `turns`."""

    id: str
    turns: int
    body: Block


@dataclass(frozen=True)
class Each:
    id: str
    items: tuple[int, ...]
    body: Block
    parallel: bool = True
    max_parallel: int | None = None
    fail_fast: bool = False
    rule: Rule = Rule()


@dataclass(frozen=True)
class Fork:
    """Parallel blocks."""

    id: str
    blocks: tuple[Block, ...]
    fail_fast: bool = False
    rule: Rule = Rule()


@dataclass(frozen=True)
class Choice:
    """`decide`."""

    id: str
    chosen: int
    cases: tuple[Block, ...]
    default: Block | None


@dataclass(frozen=True)
class Pause:
    id: str
    seconds: float
    until: bool = False
    """Until so many seconds after the beginning of the run, instead of from when it is reached."""


@dataclass(frozen=True)
class Wait:
    id: str
    shared: bool = False
    """Waits for a key that many instances wait for; what it gets depends on the moment."""
    timeout: float | None = None
    rule: Rule = Rule()
    as_of: str = ""
    """`any`, or seconds after the beginning of the run from which on events count; empty: by position."""


@dataclass(frozen=True)
class Child:
    id: str
    definition: str
    abandon: bool = False
    rule: Rule = Rule()


@dataclass(frozen=True)
class End:
    id: str


Node: TypeAlias = Work | If | While | Each | Fork | Choice | Pause | Wait | Child | End
Block: TypeAlias = tuple[Node, ...]


@dataclass(frozen=True)
class Plan:
    """One definition."""

    id: str
    root: Block
    default: Rule = Rule()
    """The workflow's own rule, for steps that say nothing."""
    children: tuple[str, ...] = field(default=())
    limit: float | None = None
    """Seconds that an instance may take (`workflow_timeout`)."""
    patience: float | None = None
    """Seconds that an attempt may take (`default_timeout`)."""


def nodes_of(block: Block) -> Iterator[Node]:
    """Go over all nodes, outer before inner."""
    for node in block:
        yield node
        for inner in inner_blocks(node):
            yield from nodes_of(inner)


def inner_blocks(node: Node) -> tuple[Block, ...]:
    """Give the blocks of a node."""
    match node:
        case Work() | Fork():
            return node.blocks
        case If():
            return (node.then,) if node.otherwise is None else (node.then, node.otherwise)
        case While() | Each():
            return (node.body,)
        case Choice():
            return node.cases if node.default is None else (*node.cases, node.default)
        case _:
            return ()


def with_block(node: Node, old: Block, new: Block) -> Node:
    """Give a node with another block in place of one of its own."""

    def exchanged(block: Block) -> Block:
        return new if block is old else block

    match node:
        case Work() | Fork():
            return replace(node, blocks=tuple(exchanged(block) for block in node.blocks))
        case If():
            otherwise = None if node.otherwise is None else exchanged(node.otherwise)
            return replace(node, then=exchanged(node.then), otherwise=otherwise)
        case While() | Each():
            return replace(node, body=exchanged(node.body))
        case Choice():
            default = None if node.default is None else exchanged(node.default)
            return replace(node, cases=tuple(exchanged(block) for block in node.cases), default=default)
        case _:
            return node


def draw_plans(random: Random, count: int) -> list[Plan]:
    """Draw definitions; later ones may use earlier ones as children."""
    plans: list[Plan] = []
    for number in range(count):
        draw = _Draw(random, [plan.id for plan in plans])
        root = draw.block(depth=0, length=random.randint(1, 5))
        attempts = random.choice([1] * 7 + [2, 3])
        default = Rule(attempts, 0.4, random.choice(["fail"] * 8 + ["continue", "suspend"]))
        limit = random.choice([None] * 9 + [1.5, 6.0])
        patience = random.choice([None] * 4 + [_PATIENCE])
        plans.append(Plan(f"flow{number}", root, default, tuple(draw.used), limit, patience))
    return plans


class _Draw:
    """Draws the blocks of one definition."""

    def __init__(self, random: Random, children: list[str]) -> None:
        self._random = random
        self._children = children
        self._count = 0
        self._budget = random.choice([4, 8, 14, 22])
        self.used: list[str] = []

    def block(self, depth: int, length: int, *, simple: bool = False) -> Block:
        nodes: list[Node] = []
        for _ in range(length):
            if self._budget <= 0 and nodes:
                break
            nodes.append(self._node(depth, simple=simple, first=not nodes))
        self._maybe_jump(nodes)
        return tuple(nodes)

    def _id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"

    def _maybe_jump(self, nodes: list[Node]) -> None:
        random = self._random
        if random.random() < 0.08 and nodes:
            target = random.randrange(len(nodes))
            # What is jumped over must be repeatable to the reference's eyes: no jump out of a jump.
            if not any(isinstance(node, Work) and node.back_to for node in nodes[target:]):
                nodes.append(Work(self._id("jump"), back_to=nodes[target].id, jumps=random.randint(1, 2)))

    def _inside(self, depth: int, *, simple: bool = False) -> Block:
        return self.block(depth + 1, self._random.choice([1, 1, 2, 2, 3]), simple=simple)

    def _node(self, depth: int, *, simple: bool, first: bool) -> Node:
        self._budget -= 1
        random = self._random
        if depth >= 3 or random.random() < 0.42:
            return self._work(depth, simple=simple)
        kind = random.choice(
            ["if", "while", "each", "each", "fork", "fork", "choice", "pause", "wait", "wait", "child", "child", "end"]
        )
        match kind:
            case "if":
                otherwise = self._inside(depth, simple=simple) if random.random() < 0.5 else None
                return If(self._id("if"), random.random() < 0.6, self._inside(depth, simple=simple), otherwise)
            case "while":
                return While(self._id("while"), random.randint(0, 3), self._inside(depth, simple=simple))
            case "each":
                return self._each(depth, simple=simple)
            case "fork":
                blocks = tuple(self._inside(depth, simple=simple) for _ in range(random.randint(1, 3)))
                rule = Rule(final="continue") if random.random() < 0.2 else Rule()
                return Fork(self._id("fork"), blocks, random.random() < 0.2, rule)
            case "choice":
                cases = tuple(self._inside(depth, simple=simple) for _ in range(random.randint(1, 2)))
                default = self._inside(depth, simple=simple) if random.random() < 0.5 else None
                return Choice(self._id("decide"), random.randint(0, 2), cases, default)
            case "pause":
                return Pause(self._id("delay"), random.choice([0.0, 0.05, 0.5, 2.0, 7.0]), random.random() < 0.25)
            case "wait":
                return self._wait(simple=simple)
            case "child" if self._children:
                child = random.choice(self._children)
                self.used.append(child)
                rule = Rule(random.choice([1, 1, 2]), 0.5, random.choice(["fail", "fail", "continue"]))
                return Child(self._id("child"), child, random.random() < 0.3, rule)
            case "end" if not simple and random.random() < 0.35:
                return End(self._id("end"))
            case _:
                return self._work(depth, simple=simple)

    def _each(self, depth: int, *, simple: bool) -> Node:
        random = self._random
        items = tuple(random.randint(1, 9) for _ in range(random.choice([0, 1, 2, 3, 5])))
        parallel = random.random() < 0.7
        limit = random.randint(1, 3) if parallel and random.random() < 0.4 else None
        rule = Rule(final="continue") if random.random() < 0.2 else Rule()
        body = self._inside(depth, simple=simple)
        return Each(self._id("each"), items, body, parallel, limit, random.random() < 0.2, rule)

    def _wait(self, *, simple: bool) -> Node:
        random = self._random
        if random.random() < 0.3:
            timeout = random.choice([0.2, 1.0, 4.0])
            rule = Rule(random.choice([1, 2]), 0.3, random.choice(["continue", "continue", "fail"]))
            return Wait(self._id("wait"), timeout=timeout, rule=rule, shared=random.random() < 0.3)
        as_of = random.choice([""] * 6 + ["any", "0.0", "6.0"])
        return Wait(self._id("wait"), random.random() < 0.25, as_of=as_of)

    def _work(self, depth: int, *, simple: bool) -> Node:
        random = self._random
        slow = random.choice([0.0, 0.01, 0.05, 0.05, 0.5, 3.0, 3.0])
        draw = random.random()
        if draw < 0.06:
            return self._counting(depth, slow)
        if draw < 0.5:
            return Work(self._id("work"), when=random.random() > 0.06, slow=slow, claims=random.random() < 0.35)
        if draw < 0.7:
            return self._failing(slow, simple=simple)
        if depth == 0 and random.random() < 0.15:
            return Work(self._id("work"), kills=random.choice([1, 3, 7, 7, 7, 7]), slow=slow)
        answers = ["output", "output", "sleep", "until", "persist", "skip", "wait", "wait"]
        if not simple:
            answers.append("end")
        if depth < 3:
            answers += ["outcome", "branch", "branch"]
        answer = random.choice(answers)
        if answer == "end" and random.random() < 0.4:
            answer = "output"
        made = Work(self._id("work"), answer=answer, times=random.randint(0, 3), slow=slow)
        if answer == "wait" and random.random() < 0.5:
            rule = Rule(random.choice([1, 2]), 0.3, random.choice(["continue", "continue", "fail"]))
            return Work(made.id, answer=answer, slow=slow, timeout=random.choice([0.3, 2.0]), rule=rule)
        if answer == "outcome":
            blocks = tuple(self._inside(depth, simple=simple) for _ in range(random.randint(1, 2)))
            return Work(made.id, answer=answer, times=random.randint(0, 2), blocks=blocks, slow=slow)
        if answer == "branch":
            in_order = random.random() < 0.4
            return Work(
                made.id, answer=answer, times=made.times, blocks=(self._inside(depth, simple=True),),
                in_order=in_order, slow=slow,
            )  # fmt: skip
        return made

    def _counting(self, depth: int, slow: float) -> Work:
        random = self._random
        rule = Rule(random.choice([2, MANY_ATTEMPTS]), 0.2, random.choice(["fail", "continue", "continue", "suspend"]))
        kills = random.choice([1, 2, 7]) if depth == 0 and random.random() < 0.3 else 0
        answer = random.choice(["next", "next", "sleep", "persist"])
        return Work(self._id("work"), counts=True, rule=rule, kills=kills, answer=answer, slow=slow)

    def _failing(self, slow: float, *, simple: bool) -> Work:
        random = self._random
        fails = random.choice([0, 1, 1, 2, 3])
        hangs = random.choice([0, 0, 1]) if fails else 1
        attempts = random.choice([1, 2, 3, 4])
        finals = ["fail", "continue", "continue", "suspend"]
        if not simple:
            finals.append("terminate")
        backoff = random.choice(["fixed", "fixed", "linear", "exponential"])
        pause = random.choice([0.0, 0.2, 1.0] if backoff == "fixed" else [0.2, 0.5])
        way = random.choice(["policy", "retry"])
        rule = Rule(attempts, pause, random.choice(finals), way, backoff)
        how = random.choice(["raise"] * 4 + ["answer", "fatal", "not on"])
        return Work(self._id("work"), fails=fails, how=how, hangs=hangs, rule=rule, slow=min(slow, 0.3))

"""What a step costs: counted, not timed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

import wfe.engine.merging
import wfe.engine.transition
from tests.unit.engine.harness import T0, World, block, body, plan
from wfe.engine.advance import advance
from wfe.engine.state import InstanceState
from wfe.engine.timers import Timers, wake_time
from wfe.model.definition import Code, Literal, Step, StepKind
from wfe.model.message import Answered, Started, TimePassed
from wfe.model.moment import to_datetime
from wfe.model.pointer import Pointer
from wfe.model.result import NEXT, Sleep


class Counter:
    """Counts how many pointers are written and looked at."""

    def __init__(self) -> None:
        self.made = 0
        self.found = 0
        self.listed = 0

    @property
    def all(self) -> int:
        return self.made + self.found + self.listed


@contextmanager
def counted() -> Iterator[Counter]:
    """Count what drafts do."""
    counter = Counter()
    draft = wfe.engine.transition.Draft
    put, find, live = draft.put, draft.find, draft.live

    def counting_put(self: Any, pointer: Pointer) -> None:
        counter.made += 1
        put(self, pointer)

    def counting_find(self: Any, number: int) -> Pointer | None:
        counter.found += 1
        return find(self, number)

    def counting_live(self: Any) -> list[Pointer]:
        found = live(self)
        counter.listed += len(found)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draft, "put", counting_put)
        patch.setattr(draft, "find", counting_find)
        patch.setattr(draft, "live", counting_live)
        yield counter


class Fast:
    """A world without checks, for many steps."""

    def __init__(self, *steps: Step, table: dict[tuple[str, str], Any] | None = None) -> None:
        self.definition = plan(*steps)
        self.world = World(self.definition, table, start=False)
        self.state = InstanceState("i", self.definition.key, created_at=T0)
        self.rows = 0
        self.advance(Started())

    def advance(self, *messages: Any) -> list[int]:
        run: list[int] = []
        pending: tuple[Any, ...] = messages
        while pending:
            transition = advance(self.definition, self.state, pending, now=T0, asker=self.world.asker)
            self.rows += len(transition.changes.pointers)
            self.state.apply(transition)
            run += transition.run
            pending = (TimePassed(),) if transition.again else ()
        return run

    def answer(self, *numbers: int) -> None:
        self.advance(*(Answered(number, 1, NEXT) for number in numbers))


def wide(width: int, **options: object) -> Step:
    return Step(
        id="f",
        kind=StepKind.FOR_EACH,
        blocks=(block(body("a")),),
        values={"collection": Literal(list(range(width)))},
        options=options,
    )


@pytest.mark.parametrize("options", [{}, {"max_parallel": 50}, {"parallel": False}])
@pytest.mark.parametrize("portion", [1, 100])
def test_the_cost_of_a_branch_does_not_grow_with_the_width(options: dict[str, object], portion: int) -> None:
    """10,000 items cost ten times what 1,000 do: pointers written and looked at, rows stored."""

    def cost(width: int) -> tuple[float, float]:
        with counted() as counter:
            fast = Fast(wide(width, **options))
            while fast.state.running:
                fast.answer(*sorted(fast.state.running)[:portion])
        return counter.all / width, fast.rows / width

    small, large = cost(1_000), cost(10_000)

    assert large[0] <= small[0] * 1.1
    assert large[1] <= small[1] * 1.1
    assert large[0] < 20
    assert large[1] <= 4


def test_the_cost_of_a_turn_does_not_grow_with_the_history() -> None:
    """10,000 turns of a loop: each costs the same, and leaves nothing behind."""
    turns = iter(range(10_000))
    step = Step(id="w", kind=StepKind.WHILE, values={"condition": Code()}, blocks=(block(body("a")),))
    costs: list[int] = []

    fast = Fast(step, table={("w", "condition"): lambda data, path: next(turns, None) is not None})
    with counted() as counter:
        while fast.state.running:
            before = counter.all
            fast.answer(*fast.state.running)
            costs.append(counter.all - before)
            assert len(fast.state.pointers) <= 2

    assert len(costs) == 10_000
    assert max(costs) == min(costs[:-1])
    assert costs[0] <= 8


def test_a_step_of_a_chain_writes_one_pointer_and_reads_none() -> None:
    """One row, in the place of the step before; no list of pointers is walked."""
    fast = Fast(*(body(f"s{number}") for number in range(100)))
    before = fast.rows

    with counted() as counter:
        for _ in range(99):
            fast.answer(*fast.state.running)

    assert fast.rows - before == 99
    assert counter.made == 99
    assert counter.listed == 0


def test_a_wide_loop_inside_one_transition_splits_its_items_once() -> None:
    """Conditions in a wide loop look at their item without reading the whole collection each time."""
    decoded = 0
    step = Step(
        id="f",
        kind=StepKind.FOR_EACH,
        blocks=(block(body("a", values={"when": Code()})),),
        values={"collection": Literal(list(range(1_000)))},
    )

    class Counting:
        def decode(self, text: bytes) -> Any:
            nonlocal decoded
            decoded += 1
            return decoder.decode(text)

    with pytest.MonkeyPatch.context() as patch:
        decoder = wfe.engine.transition._list_decoder
        patch.setattr(wfe.engine.transition, "_list_decoder", Counting())
        Fast(step, table={("a", "when"): lambda data, path: True})

    assert decoded == 1


def test_timers_of_waits_that_ended_early_do_not_pile_up() -> None:
    """A long loop of sleeps beside one long timer keeps a heap of bounded size."""
    pointers: dict[int, Pointer] = {1: Pointer(1, 1, "long", wake=1)}
    timers = Timers(pointers)

    for number in range(2, 10_000):
        pointers.pop(number - 1, None) if number > 2 else None
        pointers[number] = Pointer(number, 2, "short", wake=1_000 + number)
        timers.add(pointers[number])

    assert len(timers._heap) < 200
    assert timers.earliest() == 1
    assert timers.due(1_000_000) == [1, 9_999]


def test_looking_at_timers_changes_nothing() -> None:
    """What is due stays due until its pointer changes; entries left out are found again."""
    pointers = {number: Pointer(number, number, "s", wake=number * 10) for number in (1, 2, 3)}
    timers = Timers(pointers)

    assert timers.due(25) == [1, 2]
    assert timers.due(25) == [1, 2]
    assert timers.earliest({1, 2}) == 30
    assert timers.earliest() == 10
    del pointers[1]
    assert timers.earliest() == 20


def test_a_wake_time_is_never_the_sign_for_none() -> None:
    """Zero says "not by time"; the end of time is one that people's datetimes can hold."""
    assert wake_time(0) == 1
    assert wake_time(-5) == 1
    assert to_datetime(wake_time(2**70)).year == 9999


def test_many_sleepers_cost_no_more_each() -> None:
    """1,000 branches that wake together are begun in one look each."""

    def cost(width: int) -> float:
        fast = Fast(wide(width))
        fast.advance(*(Answered(number, 1, Sleep(timedelta(0))) for number in sorted(fast.state.running)))
        with counted() as counter:
            fast.advance(TimePassed())
        assert len(fast.state.running) == width
        return counter.all / width

    assert cost(2_000) <= cost(200) * 1.1


def test_answers_that_write_are_joined_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many answers one transition takes, the data document is split once and joined once."""
    width = 50
    blocks = tuple(block(body(f"b{number}")) for number in range(width))
    world = World(plan(Step(id="p", kind=StepKind.PARALLEL, blocks=blocks)))
    answers = [world.answering(f"b{number}", NEXT, **{f"x{number}": number}) for number in range(width)]
    splits: list[bytes] = []
    joins: list[int] = []
    real = wfe.engine.merging.Merging

    class Counting(real):  # type: ignore[misc, valid-type]  # the class of the module, whatever it is
        def __init__(self, document: bytes) -> None:
            splits.append(document)
            super().__init__(document)

        @property
        def document(self) -> bytes:
            joins.append(self._joined is None)
            found: bytes = super().document
            return found

    monkeypatch.setattr(wfe.engine.transition, "Merging", Counting)

    world.advance(*answers)

    assert world.data == {f"x{number}": number for number in range(width)}
    assert len(splits) == 1
    assert sum(joins) == 1

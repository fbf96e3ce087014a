"""Execution pointers: what may happen to one, and what is stored of it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from wfe.model.errors import InvalidStateTransition
from wfe.model.pointer import ErrorRecord, Pointer
from wfe.model.status import PointerStatus

ERROR = ErrorRecord("step_failed", "broken")

MOVES: dict[str, Callable[[Pointer], Pointer]] = {
    "began": lambda pointer: pointer.began(5),
    "slept": lambda pointer: pointer.slept(5),
    "waited": lambda pointer: pointer.waited(5),
    "received": lambda pointer: pointer.received(b"1", 7),
    "held": lambda pointer: pointer.held(),
    "retrying": lambda pointer: pointer.retrying(ERROR, 5),
    "gave_up": lambda pointer: pointer.gave_up(ERROR),
    "rearmed": lambda pointer: pointer.rearmed(),
}

S = PointerStatus
ALLOWED = {
    "began": {S.PENDING, S.SLEEPING, S.WAITING_FOR_EVENT, S.RUNNING},
    "slept": {S.RUNNING, S.PENDING},
    "waited": {S.RUNNING, S.PENDING},
    "received": {S.WAITING_FOR_EVENT},
    "held": {S.RUNNING, S.SLEEPING, S.WAITING_FOR_EVENT},
    "retrying": {S.RUNNING, S.WAITING_FOR_EVENT, S.PENDING},
    "gave_up": {S.RUNNING, S.WAITING_FOR_EVENT, S.PENDING, S.SLEEPING},
    "rearmed": {S.FAILED},
}


@pytest.mark.parametrize("status", list(PointerStatus))
@pytest.mark.parametrize("move", list(MOVES))
def test_illegal_moves_are_refused(move: str, status: PointerStatus) -> None:
    """Each move is possible from some states only; the message names pointer, step and state."""
    pointer = Pointer(1, 1, "pay", status=status)

    if status in ALLOWED[move]:
        MOVES[move](pointer)
        return
    with pytest.raises(InvalidStateTransition, match=rf"Pointer 1 of step 'pay' is {status}"):
        MOVES[move](pointer)


def test_a_move_leaves_the_pointer_as_it_was() -> None:
    """Pointers are values."""
    pointer = Pointer(1, 1, "pay")

    pointer.slept(5)

    assert pointer == Pointer(1, 1, "pay")


def test_the_attempt_is_the_recorded_failures_and_one() -> None:
    """A failure counts, sleeping and waiting do not; re-arming gives a fresh budget and goes on counting."""
    pointer = Pointer(1, 1, "pay").slept(5).began(5).waited(0).received(b"1", 1).began(6)
    assert pointer.attempt == 1

    pointer = pointer.retrying(ERROR, 7).began(7).gave_up(ERROR)

    assert (pointer.attempt, pointer.budget) == (3, 2)
    assert (pointer.rearmed().attempt, pointer.rearmed().budget) == (3, 0)


def test_a_failed_attempt_keeps_the_event_and_the_persisted_data() -> None:
    """The next attempt is for the same event."""
    pointer = Pointer(1, 1, "pay").waited(0, b'"kept"').received(b'"event"', 1).began(1).retrying(ERROR, 5).began(5)

    assert (pointer.event, pointer.persisted) == (b'"event"', b'"kept"')


def test_a_new_pause_or_wait_forgets_the_event() -> None:
    """It woke the body once."""
    pointer = Pointer(1, 1, "pay").waited(0).received(b'"event"', 1).began(1)

    assert pointer.slept(5).event == b""
    assert pointer.waited(0).event == b""
    assert pointer.waited(0).waits == 2


def test_a_container_runs_no_body() -> None:
    """Only a running pointer without open branches does."""
    assert Pointer(1, 1, "pay").runs_body
    assert not Pointer(1, 1, "pay", open=1).runs_body
    assert not Pointer(1, 1, "pay", status=PointerStatus.PENDING).runs_body


def test_a_stored_pointer_comes_back_equal() -> None:
    """Every field, also those that were left out as defaults."""
    full = Pointer(
        3,
        2,
        "pay",
        1,
        4,
        PointerStatus.FAILED,
        2,
        1,
        99,
        7,
        1,
        2,
        3,
        1,
        5,
        "branch",
        2,
        3,
        b"1",
        b"2",
        8,
        9,
        ERROR,
        "c",
    )

    for pointer in (full, Pointer(1, 1, "x")):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(pointer), type=Pointer) == pointer


def test_a_plain_pointer_is_stored_in_few_bytes() -> None:
    """One is written with every step."""
    assert len(msgspec.msgpack.encode(Pointer(1, 1, "pay", started=1_700_000_000_000_000))) <= 32


def test_unknown_fields_of_a_stored_pointer_are_accepted() -> None:
    """What a newer engine wrote can be read."""
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(Pointer(1, 1, "x")))
    stored["new"] = 5

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(stored), type=Pointer) == Pointer(1, 1, "x")

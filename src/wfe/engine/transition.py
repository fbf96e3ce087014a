"""One transition while it is being decided (`Draft`), and decided (`Transition`).

A draft lies over a state like a sheet of glass: it reads what is below and writes only on itself. Thrown away, nothing
has happened; that makes a decision a pure function although its rules write step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from wfe.engine.asking import LoopItem
from wfe.engine.merging import Merging, Writer
from wfe.engine.state import encode_head, encode_pointer
from wfe.model.document import Limits, Patch, check_size, merge
from wfe.model.errors import DataError
from wfe.model.instance import Head
from wfe.model.lifecycle import LogRecord, encode_records
from wfe.model.pointer import ROOT_SCOPE, ErrorRecord, Pointer
from wfe.model.status import LifecycleKind, PointerStatus, WorkflowStatus
from wfe.ports.store import Changes, ErrorRow, InboxInsert, ItemsRow, PointerRow, Start, Subscribe, Unsubscribe

if TYPE_CHECKING:
    from wfe.engine.asking import Asker
    from wfe.engine.state import InstanceState
    from wfe.model.definition import Step, WorkflowDefinition
    from wfe.model.moment import Moment

__all__ = ["Draft", "Transition"]

_error_encoder = msgspec.msgpack.Encoder()
_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_NOTHING: Mapping[Any, Any] = {}
"""In place of empty mappings: thousands of transitions may be under way, each of them visited by the collector."""

MAX_DECISIONS = 2_000
"""Steps reached in one transition before it is committed: a loop whose turns run no body must not hold up the host."""


class Transition:
    """A decision: what to write, and what to do once it is written."""

    __slots__ = (
        "again", "changed", "changes", "data", "gone", "head", "items", "notes", "run", "stop", "values", "waits",
        "writers",
    )  # fmt: skip

    def __init__(
        self,
        *,
        changes: Changes,
        head: Head,
        data: bytes,
        values: bytes,
        changed: list[Pointer],
        gone: Collection[int],
        items: Mapping[int, bytes],
        writers: Mapping[str, Writer],
        run: Sequence[int],
        stop: Sequence[int],
        again: bool,
        waits: bool,
        notes: Sequence[LogRecord],
    ) -> None:
        self.changes = changes
        """What the store writes."""
        self.head = head
        self.data = data
        self.values = values
        self.changed = changed
        self.gone = gone
        """Ids of pointers that have ended."""
        self.items = items
        self.writers = writers
        self.run = run
        """Pointers whose bodies are to be run after the commit."""
        self.stop = stop
        """Pointers whose bodies, if they run, are to be cancelled after the commit."""
        self.again = again
        """Whether to decide again at once: some pointers are pending only because this decision was long enough."""
        self.waits = waits
        """Whether nothing of the instance is left to run, now: it has ended, or goes on only by time or a message."""
        self.notes = notes
        """The announcements of this transition."""


class Draft:
    """A transition in the making."""

    __slots__ = (
        "again",
        "asker",
        "budget",
        "cancel_children",
        "changed",
        "children",
        "consumed",
        "definition",
        "ended",
        "error",
        "errors",
        "failed",
        "first_failed",
        "fresh_slot",
        "gone",
        "gone_slots",
        "head",
        "is_overdue",
        "items",
        "limits",
        "merging",
        "messages",
        "next_pointer",
        "next_slot",
        "now",
        "open",
        "places",
        "positions",
        "random",
        "reason",
        "records",
        "run",
        "split",
        "state",
        "status",
        "stop",
        "stopping",
        "subscribe",
        "time_limit",
        "todo",
        "unsubscribe",
        "values",
    )

    def __init__(
        self,
        definition: WorkflowDefinition | None,
        state: InstanceState,
        *,
        now: Moment,
        asker: Asker,
        random: Callable[[], float],
        limits: Limits,
    ) -> None:
        head = state.head
        self.definition = definition
        self.places = {} if definition is None else definition.places
        self.state = state
        self.now = now
        self.asker = asker
        self.random = random
        self.limits = limits
        self.head = head
        self.status = head.status
        self.stopping = head.stopping
        self.reason = head.reason
        self.time_limit = head.time_limit
        self.error = head.error
        self.next_pointer = head.next_pointer
        self.next_slot = self.fresh_slot = head.next_slot
        self.open = head.open
        self.failed = head.failed
        self.first_failed = head.first_failed
        self.merging: Merging | None = None
        self.values = state.values
        self.changed: dict[int, Pointer] = {}
        self.gone: dict[int, Pointer] = {}
        self.gone_slots: set[int] = set()
        self.items: dict[int, bytes] = {}
        self.split: dict[int, list[msgspec.Raw]] = {}
        self.run: list[int] = []
        self.stop: list[int] = []
        self.todo: list[tuple[int, Callable[[], None]]] = []
        """Moves still to be made, each with the scope that it belongs to: it is dropped with its scope."""
        self.records: list[LogRecord] = []
        self.errors: list[ErrorRecord] = []
        self.subscribe: list[Subscribe] = []
        self.unsubscribe: list[Unsubscribe] = []
        self.consumed: list[int] = []
        self.positions: list[tuple[str, str, int]] = []
        self.children: list[Start] = []
        self.messages: list[InboxInsert] = []
        self.cancel_children = False
        self.ended = False
        self.is_overdue = False
        """Whether timers may be due although no `TimePassed` says so."""
        self.again = False
        self.budget = MAX_DECISIONS

    # What is there

    @property
    def halted(self) -> bool:
        """Whether nothing may begin: suspended, stopping, ended, or without the code."""
        return (
            self.ended
            or self.stopping is not None
            or self.status is not WorkflowStatus.RUNNABLE
            or self.definition is None
        )

    @property
    def data(self) -> bytes:
        """The data document, with what this draft has merged."""
        merging = self.merging
        return self.state.data if merging is None or not merging.has_changed else merging.document

    def find(self, pointer_id: int) -> Pointer | None:
        """Give a live pointer as this draft sees it."""
        found = self.changed.get(pointer_id)
        if found is not None:
            return found
        return None if pointer_id in self.gone else self.state.pointers.get(pointer_id)

    def live(self) -> list[Pointer]:
        """List all live pointers. Costs as much as there are: for rare moves only."""
        merged = {**self.state.pointers, **self.changed}
        # In the order of their ids, so that a decision is the same after the state was loaded anew.
        return [merged[number] for number in sorted(merged) if number not in self.gone]

    @property
    def steps_left(self) -> int:
        """How many more branches may begin in this transition, which must stay short."""
        return max(0, self.budget - len(self.todo))

    @property
    def places_left(self) -> int:
        """How many more branches may begin before the instance has as many live pointers as it may have."""
        made = self.next_pointer - self.head.next_pointer
        live = len(self.state.pointers) + made - len(self.gone) + len(self.todo)
        return max(0, self.limits.max_live_pointers - live)

    def step_of(self, pointer: Pointer) -> Step:
        """Give the step that a pointer stands on."""
        return self.places[pointer.step].step

    def loops(self, pointer: Pointer | None, scope: int, index: int) -> tuple[LoopItem, ...]:
        """Give the loops around a place, nearest first."""
        found: list[LoopItem] = []
        if pointer is not None:
            scope, index = pointer.scope, pointer.index
        while scope != ROOT_SCOPE:
            container = self.find(scope)
            if container is None:
                break
            if index >= 0:
                found.append(LoopItem(self._item(scope, index), index))
            scope, index = container.scope, container.index
        return tuple(found)

    def _item(self, container: int, index: int) -> bytes:
        own = self.items.get(container)
        if own is None:
            return self.state.item(container, index)
        split = self.split.get(container)
        if split is None:
            split = self.split[container] = _list_decoder.decode(own)
        return bytes(split[index])

    # What changes

    def new_pointer(self, step_id: str, scope: int, index: int, slot: int) -> Pointer:
        """Make a pointer; it counts once it is put. `slot`: one to take over from a pointer that ended, or 0."""
        if not slot:
            slot = self.next_slot
            self.next_slot += 1
        number = self.next_pointer
        self.next_pointer += 1
        return Pointer(number, slot, step_id, scope, index=index, started=self.now)

    def put(self, pointer: Pointer) -> None:
        """Write a pointer."""
        self.changed[pointer.id] = pointer
        self.gone_slots.discard(pointer.slot)

    def remove(self, pointer: Pointer) -> None:
        """A pointer has ended. Its slot is free for its successor."""
        self.changed.pop(pointer.id, None)
        self.gone[pointer.id] = pointer
        self.gone_slots.add(pointer.slot)

    def note(
        self,
        kind: LifecycleKind,
        pointer: Pointer | None = None,
        *,
        duration: int = -1,
        error: ErrorRecord | None = None,
        detail: str = "",
    ) -> None:
        """Announce something."""
        if pointer is None:
            self.records.append(LogRecord(kind, "", 0, 0, duration, error, detail))
        else:
            self.records.append(
                LogRecord(kind, pointer.step, pointer.id, pointer.failures + 1, duration, error, detail)
            )

    def took(self, pointer: Pointer) -> int:
        """Give the time since a pointer's attempt, or what it contains, began: for a body, began here."""
        again = self.state.begun_again
        return max(0, self.now - (max(pointer.started, again.get(pointer.id, 0)) if again else pointer.started))

    def merge_data(self, patch: Patch, *, base: int, pointer: Pointer) -> None:
        """Merge fields into the data.

        Raises:
            DataError: The data would be too large, or (strict_data) a parallel branch has written a field since `base`.
        """
        merging = self.merging
        if merging is None:
            merging = self.merging = Merging(self.state.data)
        clashes = []
        for field in (*patch.changed, *patch.removed) if patch.removed else patch.changed:
            last = merging.writers.get(field) or self.state.writers.get(field)
            if last is not None and last[0] > base and last[1] != pointer.id:
                clashes.append((field, last[2]))
        if clashes:
            text = ", ".join(f"{field!r} (also written by {step!r})" for field, step in clashes)
            if self.definition is not None and self.definition.strict_data:
                msg = f"Step {pointer.step!r} and a parallel branch both wrote {text}, against strict_data."
                raise DataError(msg, path=f"$.{clashes[0][0]}", reason="overwritten")
            self.note(LifecycleKind.DATA_OVERWRITTEN, pointer, detail=f"{pointer.step!r} overwrote {text}")
        merging.write(
            patch,
            (self.state.revision + 1, pointer.id, pointer.step),
            limit=self.limits.max_data_bytes,
            what=f"The data of instance {self.state.id!r}",
        )

    def merged(self) -> tuple[int, bytes, int]:
        """Give what merging changes, for `unmerge`."""
        return 0 if self.merging is None else self.merging.mark(), self.values, len(self.records)

    def unmerge(self, before: tuple[int, bytes, int]) -> None:
        """Drop what an answer merged: its attempt failed after all."""
        mark, self.values, count = before
        if self.merging is not None:
            self.merging.undo(mark)
        del self.records[count:]

    def merge_values(self, patch: Patch) -> None:
        """Merge context values."""
        values = merge(self.values, patch)
        check_size(values, self.limits.max_data_bytes, f"The values of instance {self.state.id!r}")
        self.values = values

    # The decision

    def decided(self) -> Transition:
        """Close the draft."""
        head = self.head
        sequence = head.sequence + len(self.records)
        new_head = Head(
            self.status,
            self.next_pointer,
            self.next_slot,
            sequence,
            head.run,
            self.open,
            self.failed,
            self.first_failed,
            head.errors + len(self.errors),
            self.stopping,
            self.reason,
            self.error,
            head.start_at,
            self.time_limit,
        )
        data = self.data
        changed = list(self.changed.values())
        run = [number for number in self.run if number in self.changed and self.changed[number].runs_body]
        busy = not self.ended and (bool(run) or self.again or self._still_running())
        if self.items:
            self.items = {number: text for number, text in self.items.items() if number in self.changed}
        if self.children:
            self.children = [start for start in self.children if start.parent and start.parent.pointer in self.changed]
        gone_slots = [slot for slot in self.gone_slots if slot < self.fresh_slot]
        known_items = self.state.items
        first_error = head.errors + 1
        changes = Changes(
            status=self.status,
            run=head.run,
            head=encode_head(new_head),
            wake_at=self._wake(new_head, busy=busy),
            hold=busy and self.definition is not None,
            ended=self.ended,
            pointers=[PointerRow(pointer.slot, encode_pointer(pointer)) for pointer in changed],
            pointers_gone=gone_slots,
            data=None if data is self.state.data else data,
            values=None if self.values is self.state.values else self.values,
            items=[ItemsRow(number, text) for number, text in self.items.items()] if self.items else (),
            items_gone=[number for number in self.gone if number in known_items] if known_items else (),
            consumed=self.consumed or (),
            positions=self.positions if self.positions and not self.ended else (),  # no wait comes after the end
            subscribe=[wait for wait in self.subscribe if wait.pointer in self.changed] if self.subscribe else (),
            unsubscribe=self.unsubscribe or (),
            first_sequence=head.sequence + 1,
            record_count=len(self.records),
            records=encode_records(self.records),
            errors=[
                ErrorRow(first_error + number, _error_encoder.encode(error)) for number, error in enumerate(self.errors)
            ]
            if self.errors
            else (),
            children=self.children or (),
            messages=self.messages or (),
            cancel_children=_CANCEL_CHILD if self.cancel_children else None,
        )
        return Transition(
            changes=changes,
            head=new_head,
            data=data,
            values=self.values,
            changed=changed,
            gone=list(self.gone) if self.gone else (),
            items=self.items or _NOTHING,
            writers=_NOTHING if self.merging is None else self.merging.writers,
            run=run,
            stop=self.stop,
            again=self.again and not self.ended,
            waits=not busy,
            notes=self.records,
        )

    def _still_running(self) -> bool:
        """Whether a body that was running before this draft may still be running after it."""
        for number in self.state.running:
            if number in self.gone:
                continue
            pointer = self.changed.get(number)
            if pointer is None or pointer.runs_body:
                return True
        return False

    def _is_pending(self) -> bool:
        """Whether a pointer was reached that has not begun."""
        if any(pointer.status is PointerStatus.PENDING for pointer in self.changed.values()):
            return True
        return any(number not in self.changed and number not in self.gone for number in self.state.pending)

    def _wake(self, head: Head, *, busy: bool) -> Moment | None:
        if self.ended:
            return None
        if busy:
            return 0
        if self.status is not WorkflowStatus.RUNNABLE:
            return None
        if self.next_pointer == 1:
            return self.head.start_at  # 0: at once
        if self._is_pending():
            return 0  # only code that is missing here can be in the way: whoever has it may go on at once
        own = [pointer.wake for pointer in self.changed.values() if pointer.wake]
        below = self.state.timers.earliest(_Either(self.changed, self.gone))
        if below is not None:
            own.append(below)
        if self.time_limit:
            own.append(head.deadline(self.state.created_at))
        return min(own, default=None)


class _Either:
    """Membership in one of two maps, without joining them."""

    __slots__ = ("_first", "_second")

    def __init__(self, first: dict[int, Pointer], second: dict[int, Pointer]) -> None:
        self._first = first
        self._second = second

    def __contains__(self, key: object) -> bool:
        return key in self._first or key in self._second


def _packed_cancel() -> bytes:
    from wfe.engine.inbox import pack
    from wfe.model.message import Control, ControlVerb

    return pack(Control(ControlVerb.CANCEL, "its parent has ended"))


_CANCEL_CHILD = _packed_cancel()

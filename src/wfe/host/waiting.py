"""Who waits for the end of which instance, and what is told to them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Coroutine, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from wfe.engine.state import encode_head, encode_pointer
from wfe.model.durations import format_duration
from wfe.model.errors import ShuttingDown, WaitTimeout, WfeError, WorkflowNotFound
from wfe.model.status import WorkflowStatus
from wfe.ports.store import EndedRow

if TYPE_CHECKING:
    from wfe.engine.state import InstanceState
    from wfe.host.core import HostCore
    from wfe.host.runner import Runner

__all__ = ["Waiters", "ended_row", "wait_for_end"]

LOOK_SECONDS = 1.0
"""How long the store may take, beyond the time given, to tell of an instance that is waited for."""
_SLOW = "The store did not answer in time."

_CACHE_BYTES = 16 * 1024 * 1024
_ROW_OVERHEAD = 600

_T = TypeVar("_T")
_GOES_ON = frozenset({WorkflowStatus.RUNNABLE, WorkflowStatus.SUSPENDED})


def ended_row(state: InstanceState) -> EndedRow:
    """Give what waiters are told of an instance in its present state."""
    return EndedRow(
        id=state.id,
        definition=state.definition_key,
        status=state.head.status,
        head=encode_head(state.head),
        data=state.data,
        pointers=[encode_pointer(pointer) for pointer in state.pointers.values()] if state.pointers else (),
    )


class Waiters:
    """Futures by instance, and the latest results in a bounded cache, so that waiting after the end costs no read."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._futures: dict[str, list[tuple[asyncio.Future[EndedRow], Collection[str]]]] = {}
        self._results: OrderedDict[str, EndedRow] = OrderedDict()
        self._bytes = 0
        self._to_look: set[str] = set()
        """Instances that a hint said to have ended elsewhere."""
        self._is_closed = False

    def result(self, instance_id: str) -> EndedRow | None:
        """Give the end of an instance, if it was here and is remembered."""
        return self._results.get(instance_id)

    def add(self, instance_id: str, until: Collection[str]) -> asyncio.Future[EndedRow]:
        """Wait for the end of an instance (or one of further statuses)."""
        future: asyncio.Future[EndedRow] = self._loop.create_future()
        if self._is_closed:  # while its name was looked up
            _refuse(future)
            return future
        self._futures.setdefault(instance_id, []).append((future, until))
        return future

    def discard(self, instance_id: str, future: asyncio.Future[EndedRow]) -> None:
        """Stop waiting."""
        left = [pair for pair in self._futures.get(instance_id, ()) if pair[0] is not future]
        if left:
            self._futures[instance_id] = left
        else:
            self._futures.pop(instance_id, None)

    def waited_for(self) -> list[str]:
        """List the instances that somebody waits for."""
        return list(self._futures)

    def untils(self) -> set[str]:
        """Give all further statuses that somebody waits for."""
        return {status for pairs in self._futures.values() for _, until in pairs for status in until}

    def ended(self, row: EndedRow) -> None:
        """An instance has ended: tell, and remember."""
        old = self._results.pop(row.id, None)
        if old is not None:
            self._bytes -= _size(old)
        self._results[row.id] = row
        self._bytes += _size(row)
        while self._bytes > _CACHE_BYTES:
            _, dropped = self._results.popitem(last=False)
            self._bytes -= _size(dropped)
        self._tell(row, ended=True)

    def changed(self, runner: Runner) -> None:
        """An instance was given back with some status: tell those who wait for that status."""
        pairs = self._futures.get(runner.id)
        if pairs and any(runner.state.head.status in until for _, until in pairs):
            self._tell(ended_row(runner.state), ended=False)

    def found(self, rows: Iterable[EndedRow]) -> None:
        """Rows were read from the store for those who wait."""
        for row in rows:
            self._tell(row, ended=row.status not in _GOES_ON)  # a damaged status is one that nobody waits for longer

    def _tell(self, row: EndedRow, *, ended: bool) -> None:
        pairs = self._futures.get(row.id)
        if not pairs:
            return
        left: list[tuple[asyncio.Future[EndedRow], Collection[str]]] = []
        for future, until in pairs:
            if ended or row.status in until:
                if not future.done():
                    future.set_result(row)
            else:
                left.append((future, until))
        if left:
            self._futures[row.id] = left
        else:
            del self._futures[row.id]

    def close(self) -> None:
        """The host stops: nobody is told of an end any more."""
        self._is_closed = True
        for pairs in self._futures.values():
            for future, _ in pairs:
                if not future.done():
                    _refuse(future)
        self._futures.clear()

    def look(self, ids: Iterable[str]) -> bool:
        """A hint says that these have ended somewhere. True: somebody waits for one of them."""
        self._to_look.update(each for each in ids if each in self._futures)
        return bool(self._to_look)

    def take_to_look(self) -> list[str]:
        """Give the instances to look for in the store, once."""
        ids, self._to_look = sorted(self._to_look), set()
        return ids


def _refuse(future: asyncio.Future[EndedRow]) -> None:
    future.set_exception(ShuttingDown("The host was stopped while the end of an instance was awaited."))
    future.exception()  # who waits gets it; if nobody does any more, that is no error


def _size(row: EndedRow) -> int:
    return len(row.data) + len(row.head) + sum(map(len, row.pointers)) + _ROW_OVERHEAD


async def wait_for_end(core: HostCore, given: str, timeout: timedelta | None, until: frozenset[str]) -> EndedRow:
    """Wait until an instance, given by id or else by name, has ended, or has one of further statuses.

    With a timeout it takes at most `LOOK_SECONDS` longer than that, however slow the store is: so long may it take to
    say how the instance stands.

    Raises:
        WaitTimeout: Not in time.
        WorkflowNotFound: There is no such instance.
        ShuttingDown: The host was stopped meanwhile.
    """
    due = None if timeout is None else core.loop.time() + timeout.total_seconds()
    instance_id = given
    if given not in core.runners and core.waiters.result(given) is None:
        found, _ = await _in_time(_id_of(core, given), due)
        if found is None:
            raise _not_in_time(given, timeout, _SLOW)
        instance_id = found
    row = core.waiters.result(instance_id)
    if row is not None:
        return row
    future = core.waiters.add(instance_id, until)
    try:
        row, answered = await _in_time(_look(core, instance_id, until), due)
        if row is not None:
            return row
        if due is None:
            return await future
        await asyncio.wait([future], timeout=max(0.0, due - core.loop.time()))
        if future.done():
            return future.result()
    finally:
        core.waiters.discard(instance_id, future)
    standing, told = await _in_time(_standing(core, instance_id), due) if answered else (None, False)
    raise _not_in_time(instance_id, timeout, (standing or "") if told else _SLOW)


def _not_in_time(instance_id: str, timeout: timedelta | None, standing: str) -> WaitTimeout:
    within = "" if timeout is None else f" within {format_duration(timeout)}"
    return WaitTimeout(f"Workflow instance {instance_id!r} has not ended{within}. {standing}".rstrip())


async def _id_of(core: HostCore, given: str) -> str:
    if await core.store.known([given]):
        return given
    named = await core.store.get(given)
    if named is None:
        raise WorkflowNotFound(given)
    return named.id


async def _in_time(work: Coroutine[Any, Any, _T], due: float | None) -> tuple[_T | None, bool]:
    """Await what the store is asked, until `LOOK_SECONDS` after a time at most. The second value: whether it came."""
    clock = asyncio.timeout_at(None if due is None else due + LOOK_SECONDS)
    try:
        async with clock:
            return await work, True
    except TimeoutError:
        if not clock.expired():
            raise
    return None, False


async def _look(core: HostCore, instance_id: str, until: frozenset[str]) -> EndedRow | None:
    """Look in the store, unless this host would know of the end."""
    if instance_id in core.runners and not until:
        return None
    found = await core.store.ended([instance_id], until=until)
    return found[0] if found else None


async def _standing(core: HostCore, instance_id: str) -> str:
    try:
        row = await core.store.get(instance_id)
    except WfeError:
        return ""
    if row is None:
        return ""
    reason = row.blocked_reason or ("" if row.owner is not None else core.registry.why_not(row.definition))
    why = f" ({reason})" if reason and row.ended_at is None else ""
    return f"It is {row.status}{why}."

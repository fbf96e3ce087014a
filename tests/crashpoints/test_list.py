"""The list of failpoints has every call of every port, and each call of a provider goes through the gate."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

import wfe
from wfe import ProviderUnavailable, StartConflict
from wfe.ports import gaps
from wfe.ports.gaps import Gap
from wfe.testing.failpoints import PORTS, Blow, FailpointProvider, Gate, Mode, failpoints

if TYPE_CHECKING:
    from wfe.ports.provider import Provider

_SOURCE = Path(wfe.__file__).parent


class _Survivor:
    """A process that is told to die, and remembers."""

    def __init__(self) -> None:
        self.died: list[str] = []

    @property
    def is_dead(self) -> bool:
        return bool(self.died)

    def die(self, why: str) -> None:
        self.died.append(why)


class _Anything:
    """Answers every call, and writes it down."""

    def __init__(self, calls: list[str], prefix: str) -> None:
        self._calls = calls
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        point = f"{self._prefix}.{name}"
        port = PORTS[self._prefix]
        if inspect.iscoroutinefunction(getattr(port, name)):

            async def answer(*args: Any, **kwargs: Any) -> str:
                self._calls.append(point)
                return point

            return answer

        def answer_now(*args: Any, **kwargs: Any) -> Any:
            self._calls.append(point)
            return _Anything(self._calls, "renewer") if point == "lease.renewer" else point

        return answer_now


def _calls() -> Iterator[str]:
    """Name every method of every port, those that it may inherit included."""
    for prefix, port in PORTS.items():
        yield from (f"{prefix}.{name}" for name in dir(port) if not name.startswith("_"))


async def _use(provider: FailpointProvider, point: str) -> object:
    prefix, _, name = point.partition(".")
    owner: Any = provider.lease.renewer("s", cast("Any", None)) if prefix == "renewer" else getattr(provider, prefix)
    if point == "lifecycle.subscribe":
        return owner.subscribe()
    call = getattr(owner, name)
    takes = len(inspect.signature(getattr(PORTS[prefix], name)).parameters) - 1
    answer = call(*[None] * takes) if point != "lease.begin" else call("s", name="n", ttl=None)
    return await answer if inspect.isawaitable(answer) else answer


def _provider(gate: Gate, victim: _Survivor, calls: list[str]) -> FailpointProvider:
    parts = {prefix: _Anything(calls, prefix) for prefix in PORTS if prefix != "renewer"}
    return FailpointProvider(cast("Provider", SimpleNamespace(url="memory:", **parts)), gate, victim)


def test_list_has_every_method_of_every_port_and_every_gap() -> None:
    """No call of a port and no gap is without a failpoint, and no failpoint is there twice."""
    names = [point.name for point in failpoints()]

    assert set(names) == {*_calls(), *Gap, "lifecycle.next"}
    assert len(names) == len(set(names))


def test_ports_of_the_list_are_all_ports_of_a_provider() -> None:
    """A port that is added to providers is in the list."""
    from wfe.ports.provider import Provider

    parts = {name for name, value in vars(Provider).items() if isinstance(value, property)} - {"url"}

    assert parts | {"renewer"} == set(PORTS)


@pytest.mark.parametrize("gap", list(Gap))
def test_every_gap_is_passed_somewhere(gap: Gap) -> None:
    """Each gap of the list is marked at exactly one place of the program, which asks first whether anybody watches."""
    marks = [
        found
        for path in _SOURCE.rglob("*.py")
        for found in re.findall(
            rf"if gaps\.reached is not None:\n +gaps\.reached\(Gap\.{gap.name}\)", path.read_text("utf-8")
        )
    ]

    assert len(marks) == 1


def test_nobody_watches_gaps_by_default() -> None:
    """Outside of these tests gaps are off."""
    assert gaps.reached is None


@pytest.mark.parametrize("point", sorted(_calls()))
async def test_every_call_goes_through_the_gate(point: str) -> None:
    """A call is counted under the name of its failpoint, and reaches the provider once."""
    gate, calls = Gate(), list[str]()

    await _use(_provider(gate, _Survivor(), calls), point)

    assert gate.passages[point] == 1
    assert calls.count(point) == 1


@pytest.mark.parametrize("mode", [Mode.REFUSED, Mode.REPLY_LOST])
@pytest.mark.parametrize(
    "point", [each for each in failpoints() if Mode.REPLY_LOST in each.modes], ids=lambda p: p.name
)
async def test_calls_fail_as_told(point: Any, mode: Mode) -> None:
    """A refused call does not reach the provider, one whose reply is lost does; the caller gets an error both times."""
    calls: list[str] = []
    gate = Gate(Blow(point.name, 1, mode))

    with pytest.raises(ProviderUnavailable):
        await _use(_provider(gate, _Survivor(), calls), point.name)

    assert calls.count(point.name) == (mode is Mode.REPLY_LOST)
    assert gate.has_struck


async def test_process_dies_after_a_call_that_fails() -> None:
    """An error is an answer of which a process that dies is not told: it dies, and the blow has struck."""
    gate, victim = Gate(Blow("store.get", 1, Mode.CRASH_AFTER)), _Survivor()

    async def fail() -> None:
        raise StartConflict("as planned")

    call = asyncio.create_task(gate.call(victim, "store.get", fail))
    await asyncio.wait([call], timeout=0)

    assert victim.died == ["crash after store.get"]
    assert gate.has_struck
    await _give_up(call)


@pytest.mark.parametrize("mode", [Mode.CRASH_BEFORE, Mode.CRASH_AFTER])
async def test_process_dies_in_a_call_that_is_given_up(mode: Mode) -> None:
    """A process that was to die in a call dies in it, too, when it gives the call up while that is under way."""
    gate, victim = Gate(Blow("store.get", 1, mode), latency=_for_ever), _Survivor()
    call = asyncio.create_task(gate.call(victim, "store.get", _for_ever))
    await asyncio.wait([call], timeout=0)

    call.cancel()
    await asyncio.wait([call], timeout=0)

    assert victim.died == [f"{mode} store.get"]
    assert gate.has_struck
    await _give_up(call)


async def test_blow_counts_when_it_has_had_its_effect() -> None:
    """A call that is given up before it fails leaves the blow for the next passage, where one may take its place."""
    gate, victim = Gate(Blow("store.get", 1, Mode.REPLY_LOST), open_end=True), _Survivor()
    call = asyncio.create_task(gate.call(victim, "store.get", _for_ever))
    await asyncio.wait([call], timeout=0)

    await _give_up(call)

    assert not gate.has_struck
    with pytest.raises(ProviderUnavailable):
        await gate.call(victim, "store.get", _at_once)
    assert gate.has_struck


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def _at_once() -> None:
    return


async def _give_up(call: asyncio.Task[None]) -> None:
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)

"""Makes test classes of the conformance tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from inspect import getdoc
from typing import TypeAlias

from wfe.testing.conformance.world import Advance, Disconnect, Factory, Surroundings, Twin, World

__all__ = ["lifecycle_suite", "lock_suite", "persistence_suite", "queue_suite"]

Promise: TypeAlias = Callable[[object, World], Awaitable[None]]


def persistence_suite(
    factory: Factory,
    *,
    twin: Twin | str | None = None,
    advance: Advance | None = None,
    disconnect: Disconnect | str | None = None,
    scale: int = 10_000,
) -> type:
    """Make the class of tests that every store passes.

    Args:
        factory: Makes an open provider on an empty storage, as an async context manager that closes it. Called once per
            test.
        twin: Makes a second open provider on the storage of the given one, as another process does; also used to
            open a storage again that was closed. Where there can be none, say why, as text: tests that need it are
            skipped with that reason.
        advance: Lets store time and session time pass by a duration, at once. Without it, tests wait for the few
            milliseconds that they need.
        disconnect: Cuts the provider's connections while the backend stays up; or why there are none to cut, as for
            `twin`.
        scale: How many rows the heaviest tests write in one batch.
    """
    from wfe.testing.conformance.persistence import SUBJECTS

    around = Surroundings(factory=factory, twin=twin, advance=advance, disconnect=disconnect, scale=scale)
    return _class_of("PersistenceConformance", "What every store promises.", SUBJECTS, around)


def lock_suite(
    factory: Factory,
    *,
    twin: Twin | str | None = None,
    advance: Advance | None = None,
    disconnect: Disconnect | str | None = None,
) -> type:
    """Make the class of tests that every lease provider passes. The arguments are those of `persistence_suite`."""
    from wfe.testing.conformance.lease import SUBJECTS

    around = Surroundings(factory=factory, twin=twin, advance=advance, disconnect=disconnect)
    return _class_of("LockConformance", "What every lease provider promises.", SUBJECTS, around)


def queue_suite(
    factory: Factory, *, twin: Twin | str | None = None, disconnect: Disconnect | str | None = None
) -> type:
    """Make the class of tests that every carrier of hints passes. The arguments are those of `persistence_suite`."""
    from wfe.testing.conformance.hints import SUBJECTS

    around = Surroundings(factory=factory, twin=twin, disconnect=disconnect)
    return _class_of("QueueConformance", "What every carrier of hints promises.", SUBJECTS, around)


def lifecycle_suite(
    factory: Factory, *, twin: Twin | str | None = None, disconnect: Disconnect | str | None = None
) -> type:
    """Make the class of tests that every lifecycle publisher passes. The arguments are those of `persistence_suite`."""
    from wfe.testing.conformance.lifecycle import SUBJECTS

    around = Surroundings(factory=factory, twin=twin, disconnect=disconnect)
    return _class_of("LifecycleConformance", "What every lifecycle publisher promises.", SUBJECTS, around)


def _class_of(name: str, doc: str, subjects: Sequence[type], around: Surroundings) -> type:
    methods: dict[str, object] = {}
    for subject in subjects:
        for test_name, promise in _promises_of(subject):
            if test_name in methods:
                msg = f"two conformance tests are named {test_name}; the second is in {subject.__qualname__}"
                raise ValueError(msg)
            methods[test_name] = _method_of(promise, subject(), around)
    return type(name, (), {"__doc__": doc, "__module__": __name__, **methods})


def _promises_of(subject: type) -> Iterator[tuple[str, Promise]]:
    for name, value in vars(subject).items():
        if name.startswith("test_"):
            yield name, value


def _method_of(promise: Promise, subject: object, around: Surroundings) -> Callable[[object], Awaitable[None]]:
    # A runner takes the parameters of a test for things that it must supply, so the world is made in here.
    check = partial(promise, subject)

    async def test(_self: object) -> None:
        async with around.world() as world:
            await check(world)

    test.__name__ = promise.__name__
    test.__qualname__ = promise.__qualname__
    test.__module__ = promise.__module__
    test.__doc__ = getdoc(promise)
    return test

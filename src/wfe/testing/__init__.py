"""Help for tests: suites that state what each port promises, a check of stores, a clock to move, a faulty store.

Nothing in wfe imports this package, and it needs no test runner:

    TestPersistence = persistence_suite(make_provider)

makes a class of async test methods without arguments, one promise each, that any runner of async tests collects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wfe.testing.checking import Finding, fsck
    from wfe.testing.clock import TestClock
    from wfe.testing.faults import Fault, FaultyStore, When
    from wfe.testing.suites import lifecycle_suite, lock_suite, persistence_suite, queue_suite

__all__ = [
    "Fault",
    "FaultyStore",
    "Finding",
    "TestClock",
    "When",
    "fsck",
    "lifecycle_suite",
    "lock_suite",
    "persistence_suite",
    "queue_suite",
]

_HOMES = {
    "Fault": "wfe.testing.faults",
    "FaultyStore": "wfe.testing.faults",
    "Finding": "wfe.testing.checking",
    "TestClock": "wfe.testing.clock",
    "When": "wfe.testing.faults",
    "fsck": "wfe.testing.checking",
    "lifecycle_suite": "wfe.testing.suites",
    "lock_suite": "wfe.testing.suites",
    "persistence_suite": "wfe.testing.suites",
    "queue_suite": "wfe.testing.suites",
}


def __getattr__(name: str) -> object:
    """Load a public name when it is first asked for."""
    from importlib import import_module

    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES[name]), name)

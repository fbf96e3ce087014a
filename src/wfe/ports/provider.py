"""A provider bundles the ports that one backend serves."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from wfe.ports.hints import Hints
from wfe.ports.lease import Lease
from wfe.ports.lifecycle import LifecyclePublisher
from wfe.ports.store import Store

__all__ = ["Provider"]


@runtime_checkable
class Provider(Protocol):
    """One backend. `store` is the truth; the others may be replaced by those of another backend."""

    url: str
    """For messages; without password."""
    store: Store
    lease: Lease
    hints: Hints
    lifecycle: LifecyclePublisher

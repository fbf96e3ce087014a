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

    @property
    def url(self) -> str:
        """Where it is, for messages; without password."""
        ...

    @property
    def store(self) -> Store:
        """The truth."""
        ...

    @property
    def lease(self) -> Lease:
        """Which hosts are alive."""
        ...

    @property
    def hints(self) -> Hints:
        """Wake-up hints between hosts."""
        ...

    @property
    def lifecycle(self) -> LifecyclePublisher:
        """What is announced."""
        ...

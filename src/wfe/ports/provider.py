"""A provider bundles the ports that one backend serves."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias, get_args, runtime_checkable

from wfe.model.errors import ConfigurationError
from wfe.ports.hints import Hints
from wfe.ports.lease import Lease
from wfe.ports.lifecycle import LifecyclePublisher
from wfe.ports.store import Store

__all__ = ["Provider", "StoreMode", "check_mode", "no_store", "older_store", "only_read"]

StoreMode: TypeAlias = Literal["create", "write", "read"]
"""What opening a store may do.

`create`: it is made where there is none. `write`: it has to be there; an older one is brought up to date. `read`: it
has to be there as this version knows it, and nothing is made or changed: no file, table, schema or setting.
"""


def check_mode(mode: str) -> None:
    """Refuse what is no `StoreMode`.

    Raises:
        ConfigurationError: It is none.
    """
    if mode not in get_args(StoreMode):
        raise ConfigurationError(f"Expected mode {' or '.join(map(repr, get_args(StoreMode)))}, got {mode!r}.")


def no_store(url: str, why: str) -> ConfigurationError:
    """Give the error for a place where a store has to be, and is none."""
    return ConfigurationError(
        f"There is no wfe store at {url} ({why}). Name another place, or let a host (or `wfe run FILE`) make one there."
    )


def older_store(url: str, version: int, newest: int) -> ConfigurationError:
    """Give the error for a store that can only be read after a host has brought it up to date."""
    return ConfigurationError(
        f"The store at {url} has schema {version}, made by an older wfe; this one reads {newest}. Nothing was changed. "
        "Begin a host on it once, which brings it up to date."
    )


def only_read(url: str) -> ConfigurationError:
    """Give the error for asking a store that was opened with mode `read` to write."""
    return ConfigurationError(
        f'The store at {url} was opened for reading only (mode="read"). Nothing was changed. Open it without that.'
    )


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

"""Finds the provider for a URL or an object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wfe.model.errors import ConfigurationError
from wfe.ports.provider import Provider, StoreMode, check_mode, no_store

if TYPE_CHECKING:
    from typing import Literal

    from wfe.ports.clock import Clock

__all__ = ["connect", "refuse_foreign"]

_SUPPORTED = "memory:, sqlite:///file.db, sqlite:///:memory:, postgresql://user@host/db"


def connect(
    place: object,
    *,
    durability: Literal["power", "process"] = "power",
    mode: StoreMode = "create",
    clock: Clock | None = None,
) -> Provider:
    """Make the provider that a URL names; a provider object is given back as it is.

    Args:
        place: The URL or the object.
        durability: What an acknowledged commit survives.
        mode: What opening may do, see `StoreMode`.
        clock: Gives store time where the backend has none of its own.

    Raises:
        ConfigurationError: The URL is not one that is supported, or an extra is not installed.
    """
    if not isinstance(place, str):
        if isinstance(place, Provider):
            return place
        msg = f"A provider object or a URL is needed, got a {type(place).__qualname__}. Supported URLs: {_SUPPORTED}."
        raise ConfigurationError(msg)
    if durability not in {"power", "process"}:
        msg = f"durability is 'power' or 'process', got {durability!r}."
        raise ConfigurationError(msg)
    check_mode(mode)
    scheme = place.partition(":")[0].lower() if ":" in place else ""
    if scheme == "memory":
        from wfe.providers.memory import MemoryProvider

        if mode != "create":
            raise no_store(place, "what is in memory ends with its process")
        return MemoryProvider(clock=clock)
    if scheme == "sqlite":
        from wfe.providers.sqlite import SQLiteProvider

        return SQLiteProvider(_checked(place), durability=durability, mode=mode, clock=clock)
    if scheme in {"postgresql", "postgres"}:
        from wfe.providers.postgres import PostgresProvider

        return PostgresProvider(place, durability=durability, mode=mode)
    what = f"the scheme {scheme!r}" if scheme else f"{place!r} (no URL)"
    msg = f"No provider serves {what}. Supported: {_SUPPORTED}."
    raise ConfigurationError(msg)


_OWN = {
    "lease": "a store asks its own sessions which hosts are alive",
    "lifecycle": "what a store announces is its own log",
}
"""Settings that name a backend, and why only the store itself can serve them."""


def refuse_foreign(setting: str, chosen: Provider, store: Provider) -> None:
    """Refuse a backend beside the store for something that the store has to do itself.

    Raises:
        ConfigurationError: It is another provider than the store's.
    """
    if chosen is store or (chosen.url == store.url and "memory:" not in store.url):
        return
    msg = (
        f"{setting}={chosen.url} does not go with the store {store.url}: {_OWN[setting]}. Supported beside a store: "
        f"queue (any of {_SUPPORTED}); lease and lifecycle only by the store itself, so leave {setting} out."
    )
    raise ConfigurationError(msg)


def _checked(url: str) -> str:
    """Make sure of SQLAlchemy's slashes: three for a relative path, four for an absolute one."""
    rest = url.partition(":")[2]
    if not rest.startswith("///") or rest == "///":
        msg = (
            f"{url!r} names no file. Write sqlite:///relative.db (three slashes), sqlite:////absolute/path.db "
            "(four), or "
            "sqlite:///:memory:."
        )
        raise ConfigurationError(msg)
    return f"sqlite:{rest}"

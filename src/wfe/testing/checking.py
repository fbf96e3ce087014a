"""The check of a store, for tests: `assert await fsck(store) == []`."""

from __future__ import annotations

from wfe.host.connect import connect
from wfe.host.fsck import Finding, check_store
from wfe.ports.provider import Provider
from wfe.ports.store import Store

__all__ = ["Finding", "fsck"]


async def fsck(place: Store | Provider | str) -> list[Finding]:
    """Check the rules of the engine over what a store keeps, and list what is broken.

    Hosts may be at work on it. Nothing is written.

    Args:
        place: A store, its provider or its URL. The built-in stores are read whether they are open or not.

    Raises:
        ConfigurationError: There is no store, or one that does not offer to be inspected.
        ProviderUnavailable: The backend did not answer.
    """
    if not isinstance(place, str):
        store = place.store if isinstance(place, Provider) else place
        return (await check_store(store)).findings
    store = connect(place, mode="read").store
    await store.open()
    try:
        return (await check_store(store)).findings
    finally:
        await store.close()

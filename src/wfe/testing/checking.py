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
        place: An open store, the provider of one, or a URL, which is opened and closed again.

    Raises:
        ConfigurationError: The place is not possible, or its store does not offer to be inspected.
        ProviderUnavailable: The backend did not answer.
    """
    if not isinstance(place, str):
        store = place.store if isinstance(place, Provider) else place
        return (await check_store(store)).findings
    store = connect(place).store
    await store.open()
    try:
        return (await check_store(store)).findings
    finally:
        await store.close()

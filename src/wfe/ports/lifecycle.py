"""The lifecycle publisher port: announces what happened, in order per instance, at least once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from wfe.model.lifecycle import LifecycleEvent

__all__ = ["LifecyclePublisher"]


class LifecyclePublisher(Protocol):
    """Gives the announcements of a store to subscribers anywhere, resumable by an opaque cursor.

    A provider that reads the store's log (as the built-in ones do) needs no publishing side: the log row is committed
    with the transition.
    """

    def subscribe(
        self, *, workflow_id: str | None = None, since: str | None = None
    ) -> AsyncIterator[tuple[str, LifecycleEvent]]:
        """Iterate over (cursor, event) pairs from `since` on (None: from now on; `"start"`: from the oldest kept).

        Events of one instance come in the order of their sequence numbers, without a gap. A reader that passes the
        cursor of the last event it handled gets everything after it; a repeat is possible, a loss is not.

        Once it has begun, the iterator waits for a backend that does not answer, and goes on when it does.

        Raises:
            ConfigurationError: The cursor is not one of this publisher's.
            ProviderUnavailable: From the iterator: the end, from which "now" is counted, could not be found out; or the
                store was closed.
        """
        ...

    async def position(self) -> str:
        """Give the cursor of "now": from it on, what is committed after this call comes, and nothing that was before.

        Raises:
            ProviderUnavailable: The backend did not answer.
        """
        ...

    def wake(self) -> None:
        """Tell the publisher that something was committed in this process, so that it need not wait for its poll."""
        ...

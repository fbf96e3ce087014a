"""Named gaps: places before, within and after a commit where a test may let a process die or a backend fail.

What lies between two calls of a port, a wrapper around the port can reach; what lies inside of the committer or of a
provider's transaction, it cannot. Those places are listed here. Outside of such tests `reached` is None, and a gap
costs one comparison per batch or transaction, none per step.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

__all__ = ["Gap", "reached"]


class Gap(StrEnum):
    """One place. Whoever passes it says so: `if gaps.reached is not None: gaps.reached(Gap.…)`."""

    BATCH_TAKEN = "committer.taken"
    """The committer has taken what is ready; the store has not been asked."""
    BATCH_ANSWERED = "committer.answered"
    """The store has answered; no runner and no caller has been told."""
    BATCH_TOLD = "committer.told"
    """Runners and callers have been told; what the batch caused for others has not been passed on."""
    SQLITE_BEGUN = "sqlite.begun"
    """The write lock is taken, nothing is written."""
    SQLITE_WRITTEN = "sqlite.written"
    """Everything of a transaction is written but the COMMIT."""
    SQLITE_COMMITTED = "sqlite.committed"
    """The COMMIT has happened; the writer does not know it yet."""
    POSTGRES_SENDING = "postgres.sending"
    """A batch is packed, a connection is there, nothing is sent."""
    POSTGRES_ANSWERED = "postgres.answered"
    """The server has committed the batch and answered; the answer has not been read."""


reached: Callable[[Gap], None] | None = None
"""Called at each gap while a test watches; what it raises is raised there."""

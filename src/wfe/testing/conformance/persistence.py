"""The subjects of the store's suite, in reading order."""

from __future__ import annotations

from collections.abc import Sequence

from wfe.testing.conformance.events import (
    FutureEventPromises,
    PositionPromises,
    PublishPromises,
    RacePromises,
    WaitPromises,
)
from wfe.testing.conformance.start import StartPromises
from wfe.testing.conformance.transitions import GuardPromises, TransitionPromises

__all__ = ["SUBJECTS"]

SUBJECTS: Sequence[type] = (
    StartPromises,
    GuardPromises,
    TransitionPromises,
    WaitPromises,
    PositionPromises,
    PublishPromises,
    FutureEventPromises,
    RacePromises,
)

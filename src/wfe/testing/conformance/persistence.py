"""The subjects of the store's suite, in reading order."""

from __future__ import annotations

from collections.abc import Sequence

from wfe.testing.conformance import claim, events, inbox, start, transitions

__all__ = ["SUBJECTS"]

SUBJECTS: Sequence[type] = (
    start.StartPromises,
    transitions.GuardPromises,
    transitions.TransitionPromises,
    claim.ClaimPromises,
    claim.TimerPromises,
    claim.ReleasePromises,
    claim.BlockPromises,
    claim.ClaimRacePromises,
    inbox.InboxPromises,
    inbox.TakenPromises,
    inbox.ChildPromises,
    events.WaitPromises,
    events.PositionPromises,
    events.PublishPromises,
    events.FutureEventPromises,
    events.RacePromises,
)

"""The subjects of the store's suite, in reading order."""

from __future__ import annotations

from collections.abc import Sequence

from wfe.testing.conformance import claim, durability, events, inbox, log, odd_values, queries, start, transitions

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
    log.HistoryPromises,
    log.OutboxPromises,
    queries.ReadPromises,
    queries.ListPromises,
    queries.DefinitionPromises,
    queries.PurgePromises,
    odd_values.OddValuePromises,
    odd_values.BigValuePromises,
    durability.RestartPromises,
    durability.LostConnectionPromises,
)

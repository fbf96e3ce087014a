"""The subjects of the store's suite, in reading order."""

from __future__ import annotations

from collections.abc import Sequence

from wfe.testing.conformance import (
    children,
    claim,
    durability,
    events,
    guards,
    inbox,
    log,
    odd_values,
    positions,
    queries,
    races,
    release,
    start,
    timers,
    transitions,
    unclaimed,
    waits,
)

__all__ = ["SUBJECTS"]

SUBJECTS: Sequence[type] = (
    start.StartPromises,
    guards.GuardPromises,
    transitions.TransitionPromises,
    claim.ClaimPromises,
    timers.TimerPromises,
    release.ReleasePromises,
    unclaimed.BlockPromises,
    races.ClaimRacePromises,
    inbox.InboxPromises,
    inbox.TakenPromises,
    children.ChildPromises,
    waits.WaitPromises,
    positions.PositionPromises,
    events.PublishPromises,
    events.FutureEventPromises,
    races.RacePromises,
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

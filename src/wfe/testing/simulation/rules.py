"""The rules of the simulation by name, and where each is checked. The names are those of `docs/guarantees.md`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NOT_HERE", "RULES", "Rule"]

_PACKAGE = "wfe.testing.simulation"


@dataclass(frozen=True)
class Rule:
    """One invariant, and the functions that check it."""

    sentence: str
    checkers: tuple[str, ...]
    """Modules of this package with the function or method in each: `watching.Watching.begun`."""

    def paths(self) -> tuple[str, ...]:
        """Give the checkers' full names."""
        return tuple(f"{_PACKAGE}.{each}" for each in self.checkers)


def _rule(sentence: str, *checkers: str) -> Rule:
    return Rule(sentence, checkers)


RULES: dict[str, Rule] = {
    "S1": _rule("An acknowledged start is there, whatever happens afterwards.", "verdict.Judge.starts"),
    "S2": _rule(
        "For one id there is one instance, with the data of its start; any other is refused.", "verdict.Judge.starts"
    ),
    "S3": _rule(
        "What nobody was told of is there whole or not at all.", "verdict.Judge.starts", "watching.Watching.created"
    ),
    "T1": _rule(
        "A transition is written whole, a refused one not at all; an end leaves nothing behind.",
        "watching.Watching.after_commit",
        "verdict.Judge.ends",
    ),
    "T2": _rule("A recorded result is never overwritten.", "watching.Watching.after_commit"),
    "T3": _rule("The revisions of an instance form a chain without gaps.", "announced.Announcements.histories"),
    "T4": _rule(
        "A body begins at least once; again with the same key and attempt, only if its host lost the instance. One "
        "that counts crashes begins after that is recorded by its holder.",
        "watching.Watching.begun",
        "announced.Announcements.bodies",
    ),
    "T5": _rule(
        "After a result is recorded, no body for it begins on a host whose session lives.", "watching.Watching.begun"
    ),
    "T7": _rule(
        "In an ended instance nothing is written; nothing begins where the session lives; its end is announced once.",
        "watching.Watching.begun",
        "watching.Watching.after_commit",
        "announced.Announcements.histories",
    ),
    "T8": _rule(
        "Joins fire once, loops run once per item: status and data are those of the plan, followed without an engine.",
        "verdict.Judge.results",
    ),
    "T9": _rule(
        "Announcements are without gaps and say what is stored; so do answers to who waits.",
        "announced.Announcements.histories",
        "verdict.Judge.answers",
    ),
    "T10": _rule(
        "What is stored is what its holder believes, and leads to the same decision.",
        "watching.Watching.before_commit",
        "redeciding.decided_twice",
        "stored.shape_problems",
    ),
    "E1": _rule("An acknowledged event is there.", "verdict.Judge.events"),
    "E2": _rule("A wait gets one event.", "deliveries.Deliveries.after_commit", "watching.Watching.after_commit"),
    "E3": _rule(
        "A wait gets what was published before it began, from its position or time on.",
        "deliveries.Deliveries.after_commit",
        "verdict.Judge.events",
    ),
    "E4": _rule(
        "It gets the first event that it waits for.", "deliveries.Deliveries.after_commit", "verdict.Judge.results"
    ),
    "E5": _rule("Events of one name and key are in the order of their commits.", "verdict.Judge.events"),
    "E6": _rule("Every wait that matches gets the event, and no other.", "deliveries.Deliveries.after_commit"),
    "E7": _rule("One id is published once, whoever repeats it.", "verdict.Judge.events"),
    "E8": _rule("A wait that has ended gets nothing.", "deliveries.Deliveries.after_commit"),
    "M1": _rule(
        "No timer fires before its time by the store's clock.",
        "watching.Watching.after_commit",
        "verdict.Judge.results",
    ),
    "M2": _rule("What is due happens: timers, and future events.", "verdict.Judge.ends", "verdict.Judge.events"),
    "M4": _rule("A due time is stored once, and never begins again.", "watching.Watching.after_commit"),
    "M5": _rule("Store time never goes back, whatever its clock does.", "watching.Watching.after_commit"),
    "A1": _rule(
        "After a cancel no body begins on a host whose session lives.",
        "watching.Watching.begun",
        "verdict.Judge.controls",
    ),
    "A2": _rule(
        "Suspended, no body begins on a host whose session lives.", "watching.Watching.begun", "verdict.Judge.controls"
    ),
    "A4": _rule(
        "Of cancel, terminate and end one wins, and who asked is told which, whoever applied it.",
        "verdict.Judge.controls",
    ),
    "A5": _rule(
        "An acknowledged request is there until it is applied or its instance ends.", "requests.Requests.after_commit"
    ),
    "L1": _rule(
        "One session holds an instance, and every taking raises its fence.",
        "watching.Watching.after_claim",
        "watching.Watching.after_commit",
    ),
    "L2": _rule("A write with an old fence changes nothing.", "watching.Watching.after_commit"),
    "L3": _rule(
        "L1 and L2 hold for hosts whose clocks are wrong, and whose lease service always says yes.",
        "watching.Watching.after_commit",
    ),
    "L4": _rule("A host that could not renew begins nothing.", "watching.Watching.begun"),
    "L5": _rule("Each session has an id of its own, whatever its host is called.", "watching.Watching.session_begun"),
    "L6": _rule(
        "A host that stops keeps its session, and what it holds, until it is done.",
        "ownership.Ownership.after_taking",
        "ownership.Ownership.requested",
    ),
    "L7": _rule(
        "What a dead host held is taken within TTL and sweep interval, once the store works and a host has room.",
        "ownership.Ownership.look",
    ),
    "Q1": _rule("What can go on by itself has a wake time in the store.", "stored.wake_problems"),
    "Q2": _rule("What is due is taken in time, by hints or without.", "running._check_due"),
    "Q3": _rule(
        "Nothing is taken, asked for or written because of a hint alone, whatever it says.",
        "ownership.Ownership.before_taking",
        "ownership.Ownership.after_taking",
        "watching.Watching.after_commit",
    ),
    "Q4": _rule(
        "After five activations without a commit nothing of an instance begins on a host whose session lives.",
        "watching.Watching.begun",
    ),
    "Q5": _rule("Every activation without a commit is counted in the store.", "watching.Watching.after_claim"),
    "Q6": _rule(
        "A host runs no more bodies at once than it may, and every end frees a place.",
        "watching.Watching.begun",
        "verdict.Judge.places",
    ),
    "Q7": _rule(
        "An attempt that failed is recorded before the next one begins, and before its step has failed.",
        "announced.Announcements.failures",
    ),
    "K1": _rule("An attempt of a step starts one child.", "announced.Announcements.children"),
    "V1": _rule("An instance stays on the definition that it began with.", "watching.Watching.after_commit"),
    "V2": _rule("An instance without code gives its reason, and goes on when the code is there.", "faults.Faults.heal"),
    "H1": _rule(
        "Who follows the announcements hears each once in order, also after their host died.",
        "announced.Announcements.heard",
    ),
    "W1": _rule(
        "When faults have ended, everything ends, and who waits is told.", "verdict.Judge.ends", "verdict.Judge.answers"
    ),
    "W2": _rule("Bodies of one instance kill six hosts in a row at most.", "watching.Watching.killed"),
    "crash": _rule(
        "No callback raises what nobody catches, and no task ends with an error that nobody asks for.",
        "running.simulate",
    ),
    "log": _rule(
        "No host logs an error of its own, nor one of the program: any that is no `WfeError`.", "running._Listener"
    ),
}
"""Every rule that a run may break."""

NOT_HERE: dict[str, str] = {
    "timers fire once": "T2 and M1 say it: a second firing would record a second result, or wake a pointer early",
    "outages lose nothing": "the store is out of reach for a while; every other rule has to hold. No disks",
    "purge": "hosts have no verb for it yet; the store's has its conformance suite",
    "processes of steps": "beyond a simulation: no shell, no threads to wait for (Q8), no memory limits",
    "throughput beside poison": "no seed is long enough; tests/simulation/test_poison.py measures it (W2)",
    "sagas, schedules, transactional steps, secrets, tenants": "they do not exist yet",
    "two versions of the engine": "there is one",
}
"""What is no rule here, and why."""

"""Ids of steps: those that the author gives, and those derived from what a step is."""

from __future__ import annotations

from collections.abc import Sequence

from wfe.authoring.builder_drafts import DraftPlace, StepDraft

__all__ = ["RESERVED_PREFIX", "give_ids", "id_problem"]

RESERVED_PREFIX = "_wfe"
_MAX_LENGTH = 200


def give_ids(places: Sequence[DraftPlace]) -> tuple[dict[StepDraft, str], list[str]]:
    """Give every step its id, and the problems with ids.

    An id that the author gave is never taken away by a derived one. Derived ids are numbered in the order in which the
    steps are written, so the same program gives the same ids.
    """
    ids: dict[StepDraft, str] = {}
    problems: list[str] = []
    given: set[str] = set()
    for draft in (place.step for place in places):
        if draft.id is None:
            continue
        ids[draft] = draft.id
        problem = id_problem(draft.id, "a step id")
        if problem is not None:
            problems.append(problem)
        elif draft.id in given:
            problems.append(f"two steps have the id {draft.id!r}; give each its own")
        else:
            given.add(draft.id)
    _derive([place.step for place in places], given, ids)
    return ids, problems


def _derive(drafts: Sequence[StepDraft], taken: set[str], ids: dict[StepDraft, str]) -> None:
    numbers: dict[str, int] = {}
    for draft in drafts:
        if draft.id is not None:
            continue
        number = numbers.get(draft.stem, 0) + 1
        while (derived := draft.stem if number == 1 else f"{draft.stem}-{number}") in taken:
            number += 1
        numbers[draft.stem] = number
        taken.add(derived)
        ids[draft] = derived


def id_problem(value: object, what: str) -> str | None:
    """Say what is wrong with an id, or None."""
    if not isinstance(value, str):
        return f"{what} is text, got {value!r:.80}"
    if not value:
        return f"{what} must not be empty"
    if value != value.strip() or not value.isprintable():
        return f"{what} must not begin or end with blanks nor contain control characters, got {value!r:.80}"
    if len(value) > _MAX_LENGTH:
        return f"{what} has at most {_MAX_LENGTH} characters, got {len(value)}: {value[:40]!r}…"
    if value.startswith(RESERVED_PREFIX):
        return f"ids that start with {RESERVED_PREFIX} are reserved, got {value!r}"
    return None

"""Writing into the data document while a transition is decided."""

from __future__ import annotations

import pytest

from wfe.engine.merging import Merging
from wfe.model.document import Patch
from wfe.model.errors import DataError

WRITER = (2, 1, "step")


def write(merging: Merging, changed: dict[str, bytes], removed: tuple[str, ...] = (), *, limit: int = 1000) -> None:
    merging.write(Patch(changed, removed), WRITER, limit=limit, what="The data")


def test_fields_are_written_and_removed() -> None:
    """What is not written stays as it was; every field written or removed has its writer."""
    merging = Merging(b'{"a":1,"b":2,"c":3}')

    write(merging, {"b": b"20", "d": b"40"}, ("c",))

    assert merging.document == b'{"a":1,"b":20,"d":40}'
    assert merging.writers == dict.fromkeys(("b", "c", "d"), WRITER)


def test_undo_gives_back_values_and_writers() -> None:
    """What was written since a mark is gone; what was written before it stays."""
    merging = Merging(b'{"a":1,"b":2}')
    write(merging, {"a": b"10"})
    mark = merging.mark()
    write(merging, {"a": b"11", "c": b"3"}, ("b",))

    merging.undo(mark)

    assert merging.document == b'{"a":10,"b":2}'
    assert merging.writers == {"a": WRITER}
    assert merging.has_changed


def test_undone_wholly_is_unchanged() -> None:
    """Taken back from the start, nothing counts as written."""
    merging = Merging(b'{"a":1}')
    write(merging, {"a": b"2"})

    merging.undo(0)

    assert not merging.has_changed


def test_limit_is_exact() -> None:
    """A document of exactly the limit is taken, one byte more is refused, however many writes led to it."""
    exact = b'{"aaaa":1,"b":22}'
    for number in range(20):
        merging = Merging(b'{"aaaa":1}')
        for _ in range(number):
            write(merging, {"b": b"22"}, limit=len(exact))

        write(merging, {"b": b"22"}, limit=len(exact))

        assert merging.document == exact
        with pytest.raises(DataError, match="the limit is 17"):
            write(merging, {"b": b"222"}, limit=len(exact))

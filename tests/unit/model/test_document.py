"""Documents: workflow data as bytes, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wfe.model.document import (
    Patch,
    check_size,
    decode_plain,
    document_of,
    encode_typed,
    encode_value,
    fields_of,
    merge,
    patch_between,
)
from wfe.model.errors import DataError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.sampled_from("ab_é"), max_size=3), inner),
    max_leaves=15,
)
DOCUMENTS = st.dictionaries(st.text(st.sampled_from("abcd"), max_size=2), JSON, max_size=6)


@given(DOCUMENTS)
def test_json_values_come_back_as_they_went_in(data: dict[str, Any]) -> None:
    """Text, numbers to the last digit, nesting."""
    assert decode_plain(encode_value(data)) == data


@given(DOCUMENTS)
def test_a_document_is_split_and_joined_without_loss(data: dict[str, Any]) -> None:
    """Field by field, in order."""
    document = encode_value(data)

    assert document_of(fields_of(document)) == document


@given(DOCUMENTS, DOCUMENTS)
def test_merging_the_difference_gives_the_other_document(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Fields added, changed and removed."""
    old, new = encode_value(before), encode_value(after)

    patch = patch_between(old, new)

    merged = old if patch is None else merge(old, patch)
    assert decode_plain(merged) == after


@given(DOCUMENTS, DOCUMENTS, DOCUMENTS)
def test_patches_of_other_fields_commute(base: dict[str, Any], one: dict[str, Any], two: dict[str, Any]) -> None:
    """Two branches that write different fields: the order does not matter."""
    first = Patch({f"1{name}": encode_value(value) for name, value in one.items()})
    second = Patch({f"2{name}": encode_value(value) for name, value in two.items()})
    document = encode_value(base)

    assert decode_plain(merge(merge(document, first), second)) == decode_plain(merge(merge(document, second), first))


def test_a_field_has_changed_when_its_encoding_differs() -> None:
    """1 and 1.0 are equal to Python, and not the same data."""
    assert patch_between(b'{"a":1}', b'{"a":1}') is None
    assert patch_between(b'{"a":1}', b'{"a":1.0}') == Patch({"a": b"1.0"})
    assert patch_between(b'{"a":1,"b":2}', b'{"a":1}') == Patch({}, ("b",))


@dataclass
class Holder:
    value: object = None


BAD = [
    (float("nan"), ""),
    ([1, float("inf")], "[1]"),
    ({"x": {"y": -float("inf")}}, ".x.y"),
    ("\ud800", ""),
    (["a", "b\x00"], "[1]"),
    (object(), ""),
]


@pytest.mark.parametrize(("value", "path"), BAD)
def test_what_cannot_be_stored_names_its_path(value: object, path: str) -> None:
    """In plain data and in a typed class alike."""
    with pytest.raises(DataError) as plain:
        encode_value({"value": value})
    with pytest.raises(DataError) as typed:
        encode_typed(Holder(value))

    assert plain.value.path == typed.value.path == f"$.value{path}"


@pytest.mark.parametrize("value", [Decimal(1), datetime(2024, 1, 1, tzinfo=UTC), b"x", {1}, Holder(), {1: 2}, 2**64])
def test_plain_data_hold_json_values_only(value: object) -> None:
    """The error names the typed alternative where one helps."""
    with pytest.raises(DataError, match=r"typed data class|strings|text"):
        encode_value({"value": value})


@pytest.mark.parametrize("encode", [encode_value, encode_typed])
def test_what_contains_itself_is_refused(encode: Any) -> None:
    """And what is nested beyond measure; with a DataError, not with the interpreter's own error."""
    circle: list[object] = []
    circle.append(circle)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]

    for value in (circle, deep):
        with pytest.raises(DataError, match=r"itself|deeply"):
            encode({"value": value})
    while deep:  # taken apart by hand: dropping it whole would recurse, too
        deep = deep.pop()  # type: ignore[assignment]  # lists all the way down


def test_the_size_is_limited() -> None:
    """The message names what, how large, and the limit."""
    check_size(b"x" * 10, 10, "The data")
    with pytest.raises(DataError, match=r"The data is 11 bytes of JSON; the limit is 10"):
        check_size(b"x" * 11, 10, "The data")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"small": 1, "large": "x" * 50}, "$.large"),
        ({"small": 1, "report": {"title": "t", "lines": ["a", "x" * 50, "b"]}}, "$.report.lines[1]"),
        ({"many": ["x" * 9] * 20, "small": 1}, "$.many"),
        (["x", "x" * 50], "$[1]"),
        ("x" * 50, "$"),
    ],
)
def test_the_largest_part_is_named(value: object, path: str) -> None:
    """Of what is too large, the error has the path of its largest part: as deep as one part is more than half."""
    with pytest.raises(DataError, match="largest part is") as caught:
        check_size(encode_value(value), 40, "The data")

    assert caught.value.path == path
    assert f" {path} with" in str(caught.value)

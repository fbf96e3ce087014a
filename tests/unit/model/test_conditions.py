from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wfe.model.conditions import (
    Compare,
    Condition,
    all_of,
    any_of,
    condition_from_plain,
    format_field_path,
    none_of,
    one_of,
    parse_field_path,
    ref,
)

DATA = {
    "amount": 150,
    "rate": 2.0,
    "price": Decimal("1.50"),
    "name": "order-7",
    "tags": ["a", 1, {"k": 2}],
    "order": {"lines": [{"price": 5}], "1": "one"},
    "nothing": None,
    "flag": True,
    "when": datetime(2024, 1, 1, tzinfo=UTC),
    "odd.name": 1,
}
YES, NO = ref("flag") == True, ref("flag") == False  # noqa: E712 - conditions, not comparisons


@pytest.mark.parametrize(
    ("condition", "answer"),
    [
        (ref(".amount") > 100, True),
        (ref("amount") > 150, False),
        (ref("amount") >= 150.0, True),
        (ref("amount") < 151, True),
        (ref("amount") <= 149, False),
        (ref("rate") == 2, True),
        (ref("price") == 1.5, True),
        (ref("price") > 1, True),
        (ref("amount") == "150", False),
        (ref("amount") != "150", True),
        (ref("amount") > "1", False),
        (ref("name") > "order-6", True),
        (ref("flag") == 1, False),
        (ref("flag") > 0, False),
        (ref("when") > 5, False),
        (ref("order.lines[0].price") == 5, True),
        (ref("order.lines[-1].price") == 5, True),
        (ref("order.lines.0.price") == 5, True),
        (ref("order.lines[1].price") == 5, False),
        (ref("order[1]") == "one", True),
        (ref('."odd.name"') == 1, True),
        (ref("odd.name") == 1, False),
        (ref("name.length") == 7, False),
        (ref("tags") == ["a", 1.0, {"k": 2}], True),
        (ref("tags") == ["a", True, {"k": 2}], False),
        (ref("tags").contains(1.0), True),
        (ref("tags").contains({"k": 2}), True),
        (ref("tags").contains("b"), False),
        (ref("name").contains("der"), True),
        (ref("name").contains(7), False),
        (ref("order").contains("lines"), True),
        (ref("amount").contains(1), False),
        (ref("name").matches("^order-[0-9]+$"), True),
        (ref("amount").matches("1"), False),
        (ref("nothing").is_null(), True),
        (ref("nothing").is_not_null(), False),
        (ref("nothing").exists(), True),
        (ref("nothing") == None, True),  # noqa: E711 - a condition
        (ref("amount").exists(False), False),
    ],
)
def test_comparisons(condition: Condition, answer: bool) -> None:
    """Numbers compare by value, unlike kinds are unequal and unordered, true is not 1."""
    assert condition.evaluate(DATA) is answer


@pytest.mark.parametrize(
    "condition",
    [
        ref("x") == 1,
        ref("x") != 1,
        ref("x") > 1,
        ref("x") < 1,
        ref("x").contains("a"),
        ref("x").matches(""),
        Compare(("x",), "equals", None),
    ],
)
def test_a_missing_field_makes_its_comparison_false(condition: Condition) -> None:
    """Also `!=` is false then; logic around the comparison works as ever."""
    assert condition.evaluate({}) is False
    assert (~condition).evaluate({}) is True


def test_missing_and_null() -> None:
    """A missing field is null and does not exist."""
    assert ref("x").is_null().evaluate({})
    assert ref("x").exists(False).evaluate({})
    assert not ref("x").is_not_null().evaluate({})
    assert not ref("x").exists().evaluate({})


@pytest.mark.parametrize(
    ("condition", "answer"),
    [
        (YES & YES, True),
        (YES & NO, False),
        (YES | NO, True),
        (NO | NO, False),
        (~NO, True),
        (all_of(), True),
        (any_of(), False),
        (none_of(NO, NO), True),
        (none_of(NO, YES), False),
        (one_of(YES, NO), True),
        (one_of(YES, YES), False),
    ],
)
def test_logic(condition: Condition, answer: bool) -> None:
    """Conditions are joined by `&`, `|`, `~` and the four functions."""
    assert condition.evaluate(DATA) is answer


def test_chains_are_flat() -> None:
    """`a & b & c` is one list, so that long chains do not nest."""
    assert (YES & NO & YES).to_plain() == {"all": [YES.to_plain(), NO.to_plain(), YES.to_plain()]}


@pytest.mark.parametrize("use", [bool, lambda c: c and c, lambda c: not c, lambda c: 1 if c else 2])
def test_a_condition_has_no_truth_value(use: object) -> None:
    """`and`, `or`, `not` and `if` would silently decide without data, so they raise with advice."""
    with pytest.raises(TypeError, match=r"join conditions with & \| ~"):
        use(YES)  # type: ignore[operator]  # each of the ways
    with pytest.raises(TypeError, match="compare the field"):
        use(ref("x"))  # type: ignore[operator]


def test_only_conditions_are_joined() -> None:
    """A forgotten comparison is told at once."""
    with pytest.raises(TypeError, match="expected conditions such as"):
        all_of(ref("x"))  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TypeError, match="expected conditions such as"):
        YES & ref("x")  # type: ignore[operator]  # the mistake


@pytest.mark.parametrize(
    "value", [object(), float("nan"), float("inf"), {1: 2}, [object()], datetime(2024, 1, 1, tzinfo=UTC), b"x"]
)
def test_only_values_that_can_be_stored(value: object) -> None:
    """A condition is part of the stored plan, so its values are JSON."""
    with pytest.raises(ValueError, match=r"a condition|takes"):
        ref("x") == value  # noqa: B015 - raises


CONDITIONS = st.recursive(
    st.builds(
        Compare,
        st.lists(st.one_of(st.text(min_size=1, max_size=4), st.integers(0, 5)), min_size=1, max_size=3).map(tuple),
        st.sampled_from(["equals", "not_equals", "contains"]),
        st.recursive(
            st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
            lambda s: st.lists(s, max_size=2),
            max_leaves=3,
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: all_of(*items)),
        st.lists(inner, max_size=3).map(lambda items: any_of(*items)),
        st.lists(inner, max_size=3).map(lambda items: one_of(*items)),
        st.lists(inner, max_size=3).map(lambda items: none_of(*items)),
        inner.map(lambda condition: ~condition),
    ),
    max_leaves=6,
)


@given(CONDITIONS)
def test_the_plain_form_keeps_everything(condition: Condition) -> None:
    """Through JSON and back, a condition is the same."""
    text = msgspec.json.encode(condition.to_plain())

    assert condition_from_plain(msgspec.json.decode(text)) == condition


@given(
    CONDITIONS,
    st.dictionaries(st.text(max_size=3), st.recursive(st.none() | st.integers() | st.text(max_size=3), st.lists)),
)
def test_evaluation_never_raises(condition: Condition, data: dict[str, object]) -> None:
    """Whatever the data, the answer is true or false."""
    assert condition.evaluate(data) in {True, False}


@given(st.lists(st.one_of(st.text(min_size=1, max_size=5), st.integers(-9, 9)), min_size=1, max_size=5))
def test_paths_are_written_so_that_they_can_be_read(path: list[str | int]) -> None:
    """Any names, also with dots and quotes in them, survive the text form."""
    assert parse_field_path(format_field_path(tuple(path))) == tuple(path)


@pytest.mark.parametrize("text", ["", ".", "a.", "a..b", "a b", "a[", "a[x]", '"a', ".a.b.", "[", 'a"b"'])
def test_malformed_paths(text: str) -> None:
    """A path that cannot be meant is refused."""
    with pytest.raises(ValueError, match=r"is not the path of a field|is not a quoted name"):
        ref(text)


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        (5, "must be a map"),
        ({}, "must have 'field' and one operator"),
        ({"field": "x"}, "needs a field and exactly one operator"),
        ({"field": "x", "gt": 1, "lt": 2}, "needs a field and exactly one operator"),
        ({"field": "x", "like": 1}, "'like' is no operator"),
        ({"field": "x", "matches": "("}, "missing '\\)'"),
        ({"field": "x", "is_null": 1}, "takes true or false"),
        ({"all": {}}, "all: expected one of"),
        ({"all": [{"not": 5}]}, r"all\[0\].not must be a map"),
    ],
)
def test_bad_plain_forms(plain: object, message: str) -> None:
    """What is no condition says where it goes wrong."""
    with pytest.raises(ValueError, match=message):
        condition_from_plain(plain)


def test_depth_is_bounded() -> None:
    """A nest of conditions is refused before Python's stack is."""
    plain: object = {"field": "x", "equals": 1}
    for _ in range(10_000):
        plain = {"not": plain}

    with pytest.raises(ValueError, match="nested deeper than 64"):
        condition_from_plain(plain)

# ruff: noqa: E501 - documents and messages stand in one piece, as users see them
from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wfe.authoring.yaml.durations import parse_duration
from wfe.model.durations import format_duration, to_timedelta


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (timedelta(seconds=3), 3),
        (30, 30),
        (0.25, 0.25),
        (0, 0),
        ("30s", 30),
        ("500ms", 0.5),
        ("1h30m", 5400),
        ("1.5s", 1.5),
        ("1m2.5s", 62.5),
        ("7d", 7 * 86_400),
        ("2w", 14 * 86_400),
        ("250us", 0.00025),
        (" 5m ", 300),
        ("PT1H30M", 5400),
        ("P1DT12H", 129_600),
        ("pt0.5s", 0.5),
        ("P2W", 14 * 86_400),
    ],
)
def test_durations(value: timedelta | float | str, seconds: float) -> None:
    """Numbers are seconds; text names its units."""
    assert to_timedelta(value).total_seconds() == seconds


@pytest.mark.parametrize(
    "value",
    ["", "30", "1.5h3m", "1m1h", "1h1h", "h", "P", "PT", "P1M", "P1Y", "1:30", "-5s", "1e3s", "٣s", "9" * 60 + "d", True, None,
     float("nan"), float("inf"), 1e300, [], "x" * 100],
)  # fmt: skip
def test_what_is_no_duration(value: object) -> None:
    """Everything else is a ValueError that names what is accepted."""
    with pytest.raises(
        ValueError, match="is not a duration; expected a timedelta, seconds as a number, or text such as"
    ):
        to_timedelta(value)  # type: ignore[arg-type]  # the mistake


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.000005, "5us"),
        (0.25, "250ms"),
        (0.9999, "1s"),
        (4.2, "4.2s"),
        (30, "30s"),
        (59.99, "1m"),
        (90, "1m30s"),
        (3600, "1h"),
        (5400, "1h30m"),
        (90_000, "1d1h"),
        (-90, "-1m30s"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    """Two units at most, and no false precision."""
    assert format_duration(timedelta(seconds=seconds)) == text


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=99_999)))
def test_what_people_read_can_be_read_back(duration: timedelta) -> None:
    """The text is a duration, and near the one it stands for."""
    found = to_timedelta(format_duration(duration))

    assert abs(found - duration) <= max(duration * 0.06, timedelta(microseconds=1))


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [
        ("250ms", 250),
        ("30s", 30_000),
        ("5m", 300_000),
        ("2h", 7_200_000),
        ("1d", 86_400_000),
        ("1h30m", 5_400_000),
        (250, 250),
        ("250", 250),
    ],
)
def test_durations_of_files(value: object, milliseconds: int) -> None:
    """In files a bare integer counts milliseconds."""
    assert parse_duration(value) == timedelta(milliseconds=milliseconds)


@pytest.mark.parametrize(
    "value", ["", "1.5s", "1w", "-1s", "soon", True, 1.5, None, "1s1m", "PT1S", "9" * 9 + "d" + "9" * 9 + "h"]
)
def test_what_is_no_duration_of_a_file(value: object) -> None:
    """Files have fewer forms, so that nothing is guessed."""
    assert parse_duration(value) is None

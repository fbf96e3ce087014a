from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wfe.executors.shell import output
from wfe.executors.shell.output import Capture, OutputSet, StreamReader


def read(*pieces: bytes, budget: int | None = None) -> tuple[list[str], OutputSet]:
    lines: list[str] = []
    outputs = OutputSet()
    reader = StreamReader("stdout", lambda _, text: lines.append(text), outputs)
    if budget is not None:
        reader._budget = budget
    for piece in pieces:
        reader.feed(piece)
    reader.finish()
    return lines, outputs


def test_lines_and_outputs() -> None:
    """Lines go to the log without their ends; markers at the beginning of a line are outputs."""
    lines, outputs = read(b"a\r\n##wfe[output x=1]\n b ##wfe[output y=2]\n ##wfe[output z=3]\nlast")

    assert lines == ["a", "##wfe[output x=1]", " b ##wfe[output y=2]", " ##wfe[output z=3]", "last"]
    assert outputs.values == {"x": "1"}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("##wfe[output a=b=c]]\n", {"a": "b=c]"}),
        ("##wfe[output a=]\n", {"a": ""}),
        ("##wfe[output a=1]\n##wfe[output a=2]\n", {"a": "2"}),
        ("##wfe[output a=x<<y]\n", {"a": "x<<y"}),
        ("##wfe[output a<<END]\none\n##wfe[output b=1]\nEND\n", {"a": "one\n##wfe[output b=1]"}),
        ("##wfe[output a<<END]\nEND\n", {"a": ""}),
        ("##wfe[output a<<END]\n END\nEND x\nEND\r\n##wfe[output b=2]", {"a": " END\nEND x", "b": "2"}),
        ("##wfe[output a=1]", {"a": "1"}),
    ],
)
def test_forms_of_outputs(text: str, values: dict[str, str]) -> None:
    """One line, or several up to their end; a later value replaces an earlier one."""
    assert read(text.encode())[1].values == values


@pytest.mark.parametrize(
    "text",
    [
        "##wfe[output a]\n",
        "##wfe[output a=1\n",
        "##wfe[output 1a=1]\n",
        "##wfe[output _wfe_x=1]\n",
        "##wfe[output a b=1]\n",
        "##wfe[output a=\0]\n",
        "##wfe[output steps.x=1]\n",
        "##wfe[output a<<END]\nnever ended\n",
    ],
)
def test_unusable_markers_are_noted(text: str) -> None:
    """A marker that cannot be an output is told, not lost silently."""
    _, outputs = read(text.encode())

    assert outputs.values == {}
    assert len(outputs.notes) == 1


def test_a_long_line_is_passed_on_in_parts_between_characters() -> None:
    """A line without end does not gather in memory, and no character is cut."""
    lines, _ = read("é".encode() * 100_000 + b"\n")

    assert "".join(lines) == "é" * 100_000
    assert len(lines) > 1
    assert all("\ufffd" not in line for line in lines)


def test_a_marker_after_a_cut_is_no_output() -> None:
    """What follows a cut is not the beginning of a line."""
    _, outputs = read(b"x" * (64 << 10), b"##wfe[output a=1]\n")

    assert outputs.values == {}


def test_too_many_outputs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs are bounded in number and size, and losing some is remembered."""
    monkeypatch.setattr(output, "MAX_OUTPUTS", 3)

    _, outputs = read(b"".join(b"##wfe[output a%d=1]\n" % n for n in range(5)))

    assert len(outputs.values) == 3
    assert outputs.is_full


PIECES = st.lists(
    st.sampled_from(
        [
            b"##wfe[",
            b"##wfe[output a=",
            b"1]\n",
            b"##wfe[output b<<E]\n",
            b"E\n",
            b"\n",
            b"#",
            b"##w",
            b"text",
            b"]",
            b"\r\n",
        ]
    ),
    max_size=30,
)


@given(PIECES, st.data())
def test_pieces_do_not_matter(pieces: list[bytes], data: st.DataObject) -> None:
    """However a stream is cut into reads, lines and outputs are the same."""
    whole = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    lines, outputs = read(*parts)
    all_lines, all_outputs = read(whole)

    assert (lines, outputs.values) == (all_lines, all_outputs.values)


@given(PIECES, st.data())
def test_outputs_are_found_when_the_log_is_full(pieces: list[bytes], data: st.DataObject) -> None:
    """The fast way of searching a flood finds exactly what reading line by line finds."""
    whole = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    budget = data.draw(st.sampled_from([0, 1, 100]))

    _, fast = read(*parts, budget=budget)
    _, slow = read(whole)

    assert fast.values == slow.values


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 40))
def test_capture_keeps_both_ends(pieces: list[bytes], kept: int) -> None:
    """The beginning and the end are kept to the byte, and what is between is counted."""
    capture = Capture(kept)
    for piece in pieces:
        capture.add(piece)
    whole = b"".join(pieces)

    assert capture.dropped_bytes == max(0, len(whole) - 2 * kept)
    if not capture.dropped_bytes:
        assert capture.text() == whole.decode("utf-8", "replace")
    else:
        head, tail = whole[:kept].decode("utf-8", "replace"), whole[-kept:].decode("utf-8", "replace")
        assert capture.text() == f"{head}\n… {capture.dropped_bytes} bytes left out …\n{tail}"

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wfe.authoring.yaml.nodes import MapNode, Node, plain_value
from wfe.authoring.yaml.problems import Problems
from wfe.authoring.yaml.reader import MAX_ALIASES, MAX_DEPTH, MAX_FILE_BYTES, read_document


def read(text: str | bytes) -> tuple[Node | None, list[str]]:
    problems = Problems("f.yaml")
    node = read_document(text, problems)
    return node, [str(problem) for problem in problems.errors]


def value_of(text: str) -> object:
    node, errors = read(text)
    assert not errors
    assert node is not None
    return plain_value(node)


def codes(text: str) -> list[str]:
    problems = Problems("f.yaml")
    read_document(text, problems)
    return [problem.code for problem in problems.errors]


@pytest.mark.parametrize(
    "text",
    ["no", "yes", "on", "off", "12:30", "12:30:45", "007", "1_000", "2024-01-01", "0b1", "=", ".inf", ".nan", "1e999"],
)
def test_what_yaml_1_1_would_convert_stays_text(text: str) -> None:
    """Words, times, dates and odd numbers are the texts they look like."""
    assert value_of(f"key: {text}") == {"key": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("42", 42),
        ("-1", -1),
        ("0o17", 15),
        ("0xff", 255),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("'42'", "42"),
        ("!!str 42", "42"),
        ("!!float 2", 2.0),
        ("! 42", "42"),
    ],
)
def test_core_schema(text: str, value: object) -> None:
    """Plain scalars are what YAML 1.2's core schema says; quoted and tagged ones are what they say."""
    found = value_of(f"key: {text}")

    assert found == {"key": value}
    assert type(found["key"]) is type(value)


def test_positions_count_from_one() -> None:
    """Every node knows its line and column."""
    node, _ = read("a: 1\nbé:\n  - x: y\n")

    assert isinstance(node, MapNode)
    entry = node.get("bé")
    assert entry is not None
    assert (entry.position.line, entry.position.column) == (2, 1)
    assert (entry.value.position.line, entry.value.position.column) == (3, 3)


def test_merge_keys() -> None:
    """Own keys win over merged ones, earlier sources over later ones, and nested maps are not joined."""
    text = "a: &a {k: 1, m: {x: 1}}\nb: {k: 2, <<: *a, m: {y: 1}}\nc: {<<: [*a, {k: 9, z: 3}]}\n"

    found = value_of(text)

    assert found == {
        "a": {"k": 1, "m": {"x": 1}},
        "b": {"k": 2, "m": {"y": 1}},
        "c": {"k": 1, "m": {"x": 1}, "z": 3},
    }


def test_a_quoted_merge_key_is_a_key() -> None:
    """Only a plain `<<` merges."""
    assert value_of("'<<': {a: 1}") == {"<<": {"a": 1}}


def test_duplicate_keys_name_both_places() -> None:
    """Each repeated key is told with the place of the first."""
    _, errors = read("a: 1\nb:\n  a: 1\n  a: 2\nb: 3\n")

    assert errors == [
        "f.yaml:4:3: b.a: the key 'a' stands twice; first at line 3, column 3",
        "f.yaml:5:1: b: the key 'b' stands twice; first at line 2, column 1",
    ]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: !!python/object:os.system x", "definition_tag"),
        ("a: !own [1]", "definition_tag"),
        ("a: !!int x", "definition_invalid"),
        ("a: &x [*x]", "definition_cycle"),
        ("a: &x {b: [*x]}", "definition_cycle"),
        ("a: *x", "definition_invalid"),
        ("? [a]\n: b", "definition_invalid"),
        ("---\na: 1\n---\nb: 2", "definition_invalid"),
        ("", "definition_invalid"),
        ("# nothing\n", "definition_invalid"),
        ("a: [1, 2\nb: 3", "yaml_syntax"),
        ("a: \x07b", "yaml_syntax"),
        ("a: \ud800", "definition_invalid"),
        ("a: {<<: 5}", "definition_invalid"),
        ("a: {<<: {x: 1}, <<: {y: 1}}", "definition_invalid"),
        ("%YAML 1.3.7\n---\na: 1", "yaml_syntax"),
    ],
)
def test_refused_documents(text: str, code: str) -> None:
    """What the language does not allow is a problem with a stable code, never an exception."""
    assert codes(text) == [code]


def test_invalid_utf_8_names_its_place() -> None:
    """Bytes that are not UTF-8 are refused where they stand."""
    _, errors = read(b"a: 1\nb: \xff")

    assert errors == ["f.yaml:2:4: the file is not valid UTF-8; expected text in UTF-8"]


def test_a_byte_order_mark_is_skipped() -> None:
    """Files of editors that write a byte order mark load."""
    assert read(b"\xef\xbb\xbfa: 1")[1] == []


def test_alias_bomb_is_refused_by_its_expanded_size() -> None:
    """Nodes are counted as if aliases were written out, before anything walks them."""
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    text = "\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x]", *levels])

    _, errors = read(text)

    assert errors == ["f.yaml:6:5: a5[1]: the file has more than 100000 values with its aliases written out"]


def test_too_many_aliases() -> None:
    """The number of alias uses is bounded, however small what they stand for."""
    text = "a: &a 1\nb: [" + ", ".join(["*a"] * (MAX_ALIASES + 1)) + "]"

    assert codes(text) == ["definition_too_complex"]


@pytest.mark.parametrize("text", ["[" * 10_000, "{a: " * 10_000, "- " * 10_000, "? " * 10_000])
def test_deep_nesting_is_refused_before_it_is_built(text: str) -> None:
    """Depth is refused at the first level too many, whatever Python's recursion limit."""
    assert codes(text) in (["definition_too_complex"], ["definition_invalid"], ["yaml_syntax"])


def test_depth_counts_aliases_written_out() -> None:
    """An alias deep down cannot smuggle in depth."""
    half = MAX_DEPTH // 2
    text = f"a: &a {'[' * half}{']' * half}\nb: {'[' * half} *a {']' * half}"

    assert codes(text) == ["definition_too_complex"]


def test_a_file_too_large_is_not_parsed() -> None:
    """Size is checked first."""
    assert codes("a: " + "x" * MAX_FILE_BYTES) == ["definition_too_complex"]


@given(st.text(max_size=60))
def test_no_text_makes_it_raise(text: str) -> None:
    """Any text gives a document or problems."""
    node, errors = read(text)

    assert node is not None or errors


@given(st.binary(max_size=60))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    """Any bytes give a document or problems."""
    node, errors = read(data)

    assert node is not None or errors

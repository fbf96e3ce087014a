"""The reference pages name everything that is public, and nothing that is not there."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from pathlib import Path

import pytest

import wfe
import wfe.testing
from wfe.model import errors

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def rows_of(page: str, heading: str) -> list[list[str]]:
    """Give the cells of the first table below a heading, without its head."""
    text = (REFERENCE / page).read_text("utf-8")
    assert f"\n{heading}\n" in text, f"{page} has no heading {heading!r}"
    lines = text.partition(f"\n{heading}\n")[2].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    table = _while_table(lines[start:])
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table[2:]]


def _while_table(lines: list[str]) -> list[str]:
    end = next((number for number, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return lines[:end]


def names_in(cell: str) -> list[str]:
    """Give the names in a cell that stand in code quotes."""
    return re.findall(r"`([A-Za-z_][A-Za-z0-9_]*)`", cell)


def test_each_error_is_documented_with_its_code() -> None:
    """The page of errors has every class of the tree with its code, and no other."""
    classes = {name: getattr(errors, name) for name in errors.__all__}

    documented = {names_in(row[0])[0]: names_in(row[1])[0] for row in rows_of("errors.md", "## The tree, one by one")}

    assert documented == {name: each.code for name, each in classes.items()}


def test_codes_are_unique() -> None:
    """No two errors share a code, so that a code names one error."""
    codes = [getattr(errors, name).code for name in errors.__all__]

    assert len(set(codes)) == len(codes)


def test_the_drawings_of_the_tree_are_true() -> None:
    """On the page and in the code, each error that is a special case of another is drawn behind it."""
    page = (REFERENCE / "errors.md").read_text("utf-8").partition("\n## ")[0]
    special = [
        (getattr(errors, name).__bases__[0].__name__, name)
        for name in errors.__all__
        if getattr(errors, name).__bases__[0] not in {errors.WfeError, Exception}
    ]

    for drawing in (page, inspect.getdoc(errors) or ""):
        for base, name in special:
            assert re.search(rf"{base} ── .*\b{name}\b", drawing), f"{name} is not drawn behind {base}"
        assert all(re.search(rf"\b{name}\b", drawing) for name in errors.__all__)


def _keywords(name: str, folder: str) -> set[str]:
    """Give the literal values of a keyword argument in all calls below a folder."""
    found: set[str] = set()
    for path in (ROOT / "src" / "wfe" / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == name and isinstance(node.value, ast.Constant):
                found.add(str(node.value.value))
    return found


def test_reasons_of_data_errors_are_documented() -> None:
    """Every `reason` that the code gives to a DataError stands on the page, and no other."""
    given = {
        keyword.value.value
        for path in (ROOT / "src" / "wfe").rglob("*.py")
        if "testing" not in path.parts
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "DataError"
        for keyword in call.keywords
        if keyword.arg == "reason" and isinstance(keyword.value, ast.Constant)
    }

    documented = {names_in(row[0])[0] for row in rows_of("errors.md", "## Reasons of a DataError")}

    assert documented == given | {"invalid"}


def test_codes_of_shell_steps_are_documented() -> None:
    """Every code that a shell step fails with stands on the page."""
    given = _keywords("code", "executors/shell")

    documented = {names_in(row[0])[0] for row in rows_of("errors.md", "## Codes of failed steps")}

    assert given <= documented


def test_codes_of_yaml_problems_are_documented() -> None:
    """Every code of a problem in a YAML file stands on the page."""
    given = _keywords("code", "authoring/yaml")

    documented = {names_in(row[0])[0] for row in rows_of("errors.md", "## Codes of problems in YAML files")}

    assert given <= documented


@pytest.mark.parametrize(
    ("page", "heading", "enum"),
    [
        ("statuses.md", "## WorkflowStatus: where an instance stands", wfe.WorkflowStatus),
        ("statuses.md", "## PointerStatus: where one branch stands", wfe.PointerStatus),
        ("lifecycle.md", "## LifecycleKind", wfe.LifecycleKind),
    ],
)
def test_each_member_is_documented_with_its_text(
    page: str, heading: str, enum: type[wfe.WorkflowStatus | wfe.PointerStatus | wfe.LifecycleKind]
) -> None:
    """The tables of statuses and kinds have every member, in the order of the code, with the text that people see."""
    documented = [(names_in(row[0])[0], row[1].strip("`")) for row in rows_of(page, heading)]

    assert documented == [(member.name, member.value) for member in enum]


def test_terminal_statuses_are_documented() -> None:
    """The page says of each status whether it is terminal, as the code does."""
    rows = rows_of("statuses.md", "## WorkflowStatus: where an instance stands")

    documented = {names_in(row[0])[0]: row[3] == "yes" for row in rows}

    assert documented == {status.name: status.is_terminal for status in wfe.WorkflowStatus}


def test_fields_of_lifecycle_events_are_documented() -> None:
    """The page has every field of a lifecycle event, in order."""
    rows = rows_of("lifecycle.md", "## Fields of a LifecycleEvent")

    documented = [name for row in rows for name in names_in(row[0])]

    assert documented == [field.name for field in dataclasses.fields(wfe.LifecycleEvent)]


def test_settings_of_the_host_are_documented_with_their_defaults() -> None:
    """The table of settings has every parameter of `WorkflowHost`, in order, with its default."""
    parameters = list(inspect.signature(wfe.WorkflowHost.__init__).parameters.values())[1:]

    documented = [(names_in(row[0])[0], row[1].strip("`")) for row in rows_of("host.md", "## Settings")]

    assert documented == [(each.name, repr(each.default).replace("'", '"')) for each in parameters]


def test_limits_are_documented_with_their_defaults() -> None:
    """The second table of settings has every field of `Limits`, with its default."""
    text = (REFERENCE / "host.md").read_text("utf-8")

    documented = dict(re.findall(r"^\| `(max_\w+_(?:bytes|pointers))` \| `(\d+)` \|", text, re.MULTILINE))

    defaults = wfe.Limits()
    assert documented == {name: str(getattr(defaults, name)) for name in wfe.Limits.__struct_fields__}


@pytest.mark.parametrize("owner", [wfe.WorkflowHost, wfe.WorkflowHostBuilder])
def test_every_verb_of_the_host_is_documented(owner: type[object]) -> None:
    """Each public method and property of a host and of its builder stands on the page of the host."""
    text = (REFERENCE / "host.md").read_text("utf-8")

    missing = [name for name in vars(owner) if not name.startswith("_") and not re.search(rf"\b{name}\b", text)]

    assert not missing


def test_every_method_of_the_builder_is_documented() -> None:
    """The page of names has each public method of the workflow builder."""
    text = (REFERENCE / "names.md").read_text("utf-8")

    methods = [name for name in dir(wfe.WorkflowBuilder) if not name.startswith("_")]

    assert [name for name in methods if f"`{name}`" not in text] == []


def test_every_method_of_the_builder_is_explained() -> None:
    """The guide has each public method of the workflow builder."""
    text = (ROOT / "docs" / "guide" / "builder.md").read_text("utf-8")

    methods = [name for name in dir(wfe.WorkflowBuilder) if not name.startswith("_")]

    assert [name for name in methods if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize(("owner", "heading"), [("WorkflowBuilder", "in the builder"), ("WorkflowHost", "of the host")])
def test_what_is_not_there_yet_is_not_there(owner: str, heading: str) -> None:
    """What the page calls planned cannot be used; once it can, the page has to say so."""
    last = (REFERENCE / "names.md").read_text("utf-8").partition("\n## Not there yet\n")[2]
    planned = names_in(last.partition(heading)[2].partition(";")[0])

    assert planned
    assert [name for name in planned if hasattr(getattr(wfe, owner), name)] == []


@pytest.mark.parametrize("module", [wfe, wfe.testing], ids=["wfe", "wfe.testing"])
def test_every_public_name_is_documented(module: object) -> None:
    """The page of names has everything in `__all__`, and each of those can be had."""
    text = (REFERENCE / "names.md").read_text("utf-8")
    names: list[str] = module.__all__  # type: ignore[attr-defined]  # both modules have one

    missing = [name for name in names if f"`{name}`" not in text]

    assert missing == []
    assert all(getattr(module, name) is not None for name in names)


def test_the_lists_of_public_names_agree() -> None:
    """What type checkers see, what is imported on use, and `__all__` are the same names from the same places."""
    tree = ast.parse((ROOT / "src" / "wfe" / "__init__.py").read_text("utf-8"))
    seen = {
        name.asname: imported.module
        for branch in tree.body
        if isinstance(branch, ast.If)
        for imported in branch.body
        if isinstance(imported, ast.ImportFrom)
        for name in imported.names
    }

    assert seen == wfe._PLACES
    assert set(seen) == set(wfe.__all__)


def test_a_slip_in_a_public_name_is_answered_with_the_nearest() -> None:
    """As Python does for the names of ordinary modules."""
    with pytest.raises(AttributeError, match="did you mean 'WorkflowHost'"):
        _ = wfe.WorkflowHots


def test_no_table_names_what_is_not_public() -> None:
    """The first cells of the tables of names hold public names alone."""
    text = (REFERENCE / "names.md").read_text("utf-8")
    first_cells = re.findall(r"^\| ([^|]*) \|", text, re.MULTILINE)

    found = {name for cell in first_cells for name in names_in(cell)}

    assert found <= {*wfe.__all__, *wfe.testing.__all__}

from __future__ import annotations

import importlib.util
import re
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bootstrap() -> ModuleType:
    """The script tools/bootstrap as a module."""
    loader = SourceFileLoader("wfe_tools_bootstrap", str(ROOT / "tools" / "bootstrap"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module  # dataclasses look their module up
    # Without this, a compiled file would appear beside the script.
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
    return module


def fake_python(folder: Path, name: str, script: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_python_that_refuses_to_run_is_passed_over(bootstrap: Any, tmp_path: Path) -> None:
    """A version manager's shim that fails, and a Python too old or too new, are not chosen; the first that fits is."""
    refuses = fake_python(tmp_path, "refuses", "exit 127")
    old = fake_python(tmp_path, "old", "echo 3 10")
    fits = fake_python(tmp_path, "fits", "echo 3 12")
    later = fake_python(tmp_path, "later", "echo 3 12")
    future = fake_python(tmp_path, "future", "echo 3 99")
    missing = str(tmp_path / "missing")

    found = bootstrap.by_version([missing, refuses, old, fits, later, future], (3, 13))

    assert found == {(3, 12): fits}


def test_an_environment_is_current_only_for_what_it_was_made_from(bootstrap: Any, tmp_path: Path) -> None:
    """The stamp holds for the same requirements, and no longer once one of them changes."""
    environment = bootstrap.Environment(tmp_path)
    (tmp_path / "bin").mkdir()
    fake_python(tmp_path / "bin", "python", "echo 3 12")
    before = bootstrap.Requirements(["click>=8"], ["pytest"], "package")
    after = bootstrap.Requirements(["click>=9"], ["pytest"], "package")

    environment.mark_current(before.key())

    assert environment.is_current(before.key())
    assert not environment.is_current(after.key())


def test_every_tool_for_unit_tests_is_a_development_requirement(bootstrap: Any) -> None:
    """The environments of the other Pythons take their tools from the extra `dev`, so each must be there."""
    extras = {bootstrap.name_of(requirement) for requirement in bootstrap.Requirements.read().extras}

    assert extras >= bootstrap.FOR_UNIT_TESTS


def test_every_target_of_the_makefile_has_its_sentence() -> None:
    """`make help` lists each public target with a sentence that ends in a full stop."""
    makefile = (ROOT / "Makefile").read_text()
    parts_of_check = {"format-check"}

    targets = set(re.findall(r"^\.PHONY: (\S+)$", makefile, re.MULTILINE)) - parts_of_check

    assert targets == set(re.findall(r"^([a-z-]+):[^#\n]*## [A-Z].*\.$", makefile, re.MULTILINE))

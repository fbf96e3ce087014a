# ruff: noqa: E501 - documents and messages stand in one piece, as users see them
from __future__ import annotations

import pytest

from wfe.executors.shell import ShellStepError
from wfe.executors.shell.environment import Environment, build_environment

HOST = {"PATH": "/bin", "HOME": "/root", "LC_ALL": "C", "AWS_SECRET": "s", "LD_PRELOAD": "x", "CI": "1"}


def build(**settings: object) -> Environment:
    given = {"host": HOST, "data": {}, "inputs": {}, "own": {}} | settings
    return build_environment(**given)  # type: ignore[arg-type]  # as the tests give them


def test_of_the_host_only_a_short_list() -> None:
    """The host's variables do not reach a step, but for a few and those asked for."""
    assert build().variables == {"PATH": "/bin", "HOME": "/root", "LC_ALL": "C"}
    assert build(passthrough=["CI"]).variables["CI"] == "1"


def test_data_as_variables() -> None:
    """Data are upper-case variables: scalars as text, the rest as JSON."""
    data = {
        "branch": "main",
        "n": 1.5,
        "ok": True,
        "none": None,
        "list": [1, "a"],
        "my-key": "x",
        "steps.build": {"stdout": "x"},
    }

    variables = build(host={}, data=data).variables

    assert variables == {"BRANCH": "main", "N": "1.5", "OK": "true", "NONE": "", "LIST": '[1,"a"]', "MY_KEY": "x"}


def test_later_sources_win() -> None:
    """Data lie over the host's variables, inputs have names of their own, and the step's env lies over all."""
    found = build(data={"lang": "de", "x": "data"}, inputs={"x": "in"}, own={"X": "own", "PATH": "/mine"})

    assert found.variables == {
        "PATH": "/mine",
        "HOME": "/root",
        "LC_ALL": "C",
        "LANG": "de",
        "X": "own",
        "INPUT_X": "in",
    }


@pytest.mark.parametrize(
    "name",
    [
        "ld_preload", "LD_LIBRARY_PATH", "dyld_insert_libraries", "bash_env", "BASH_FUNC_ls%%", "env", "ifs", "ps4", "shellopts",
        "cdpath", "path", "home", "shell", "user", "pythonpath", "PYTHONSTARTUP", "perl5opt", "rubyopt", "node_options",
        "deno_dir", "git_ssh_command", "ssh_auth_sock", "java_tool_options", "http_proxy", "https_proxy", "all_proxy",
        "glibc_tunables", "wfe_output", "1st", "é", "ﬀ", "a" * 200, "",
    ],
)  # fmt: skip
def test_data_never_set_what_changes_programs(name: str) -> None:
    """Reserved and impossible names of data are left out, and that is noted."""
    found = build(host={}, data={name: "x"})

    assert found.variables == {}
    assert len(found.notes) == 1
    assert repr(name[:40]) in found.notes[0]


def test_the_steps_own_env_may_set_them() -> None:
    """What the author writes into env is the author's business."""
    assert build(host={}, own={"LD_PRELOAD": "x", "http_proxy": "y"}).variables == {
        "LD_PRELOAD": "x",
        "http_proxy": "y",
    }


@pytest.mark.parametrize(
    "own", [{"a b": "x"}, {"1a": "x"}, {"": "x"}, {"A=B": "x"}, {"BASH_FUNC_ls%%": "x"}, {"A": "a\0b"}]
)
def test_malformed_variables_are_refused(own: dict[str, str]) -> None:
    """A name or value that no environment can carry fails the step before anything starts."""
    with pytest.raises(ShellStepError) as caught:
        build(own=own)

    assert caught.value.code == "env_forbidden"

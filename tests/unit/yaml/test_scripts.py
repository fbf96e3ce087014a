from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wfe.authoring.yaml.interpolation import Scope
from wfe.authoring.yaml.scripts import compile_script

SCOPE = Scope(inputs=frozenset(("x", "y")))
SHELLS = [shell for shell in ("sh", "bash", "dash", "busybox") if shutil.which(shell)]


def compiled(text: str, shell: str = "sh") -> str:
    script = compile_script(text, SCOPE, shell)
    assert not script.problems
    return script.text


def problems(text: str, shell: str = "bash") -> list[str]:
    return [problem.message for problem in compile_script(text, SCOPE, shell).problems]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("echo ((inputs.x))", 'echo "${WFE_EXPR_1}"'),
        ("echo ((x))", 'echo "${WFE_EXPR_1}"'),
        ("echo ${{ inputs.x }}", 'echo "${WFE_EXPR_1}"'),
        ('echo "a ((x)) b"', 'echo "a ${WFE_EXPR_1} b"'),
        ("echo 'a ((x)) b'", "echo 'a '\"${WFE_EXPR_1}\"' b'"),
        ("echo ((x)) ((y)) ((x))", 'echo "${WFE_EXPR_1}" "${WFE_EXPR_2}" "${WFE_EXPR_1}"'),
        ("echo a((x))b", 'echo a"${WFE_EXPR_1}"b'),
        ('echo "$(printf %s ((x)))"', 'echo "$(printf %s "${WFE_EXPR_1}")"'),
        ('echo "$(printf %s "((x))")"', 'echo "$(printf %s "${WFE_EXPR_1}")"'),
        ("(cd / && echo ((x)))", '(cd / && echo "${WFE_EXPR_1}")'),
        ('echo "${A:-((x))}"', 'echo "${A:-${WFE_EXPR_1}}"'),
        ("echo ${A:-((x))}", 'echo ${A:-"${WFE_EXPR_1}"}'),
        ('cat <<E\na ((x)) "b" \'c\nE\necho ((x))', 'cat <<E\na ${WFE_EXPR_1} "b" \'c\nE\necho "${WFE_EXPR_1}"'),
        (
            "cat <<-E\n\tit's ((x))\n\tE\necho '((x))'",
            "cat <<-E\n\tit's ${WFE_EXPR_1}\n\tE\necho ''\"${WFE_EXPR_1}\"''",
        ),
        (
            "cat <<A <<B\n((x))\nA\n'((x))\nB\n((x))",
            'cat <<A <<B\n${WFE_EXPR_1}\nA\n\'${WFE_EXPR_1}\nB\n"${WFE_EXPR_1}"',
        ),
        ("# it's ((x))\necho ((x))", '# it\'s ((x))\necho "${WFE_EXPR_1}"'),
        ("echo a#b'((x))'", "echo a#b''\"${WFE_EXPR_1}\"''"),
        ("echo \\'((x))\\'", "echo \\'\"${WFE_EXPR_1}\"\\'"),
        ('echo \\"((x))', 'echo \\""${WFE_EXPR_1}"'),
        ("case $a in x) echo ((x));; esac", 'case $a in x) echo "${WFE_EXPR_1}";; esac'),
        ('b="$(case $a in x) echo "((x))";; esac)"', 'b="$(case $a in x) echo "${WFE_EXPR_1}";; esac)"'),
        ("i=$((1 + 2)); echo $((i))", "i=$((1 + 2)); echo $((i))"),
        ("echo \\((x))", "echo ((x))"),
        ("grep '\\((a)\\)' f", "grep '\\((a)\\)' f"),
        ("cat <<'E'\n$((1))\nE\n", "cat <<'E'\n$((1))\nE\n"),
    ],
)
def test_references_are_quoted_for_where_they_stand(text: str, result: str) -> None:
    """Each expression becomes a reference that is one word, whatever surrounds it."""
    assert compiled(text) == result


def test_ansi_quotes_of_bash() -> None:
    """In `$'…'` the quote is closed around the reference."""
    assert compiled("echo $'a\\'((x))\\n'", "bash") == "echo $'a\\''\"${WFE_EXPR_1}\"$'\\n'"


def test_constants_go_by_variable_too() -> None:
    """A config value is as little part of the script as any other."""
    script = compile_script("echo ((var.a))", Scope(config={"a": "$(id)"}), "sh")

    assert script.text == 'echo "${WFE_EXPR_1}"'
    assert script.expressions == {"WFE_EXPR_1": "$(id)"}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("cat <<'E'\n((x))\nE", "in a here-document whose delimiter is quoted"),
        ('cat <<"E"\n((x))\nE', "in a here-document whose delimiter is quoted"),
        ("cat <<\\E\n((x))\nE", "in a here-document whose delimiter is quoted"),
        ("echo $((1 + ((x))))", "in arithmetic"),
        ("((n = ((inputs.x)) + 1))", "in arithmetic"),
        ("echo `echo ((x))`", "in backticks"),
        ("echo ${A#((x))}", "in the operand of ${…}"),
        ("echo ${a[((x))]}", "in the operand of ${…}"),
        ("a[((x))]=1", "in a subscript"),
        ("[[ ((x)) -eq 1 ]]", "in [[ … ]] that compares as numbers"),
        ("eval echo ((x))", "in the arguments of eval"),
        ('true; eval "((x))"', "in the arguments of eval"),
        ("let n=((x))", "in the arguments of let"),
    ],
)
def test_unsafe_places_are_refused(text: str, where: str) -> None:
    """Where the shell would evaluate what it reads, an expression is a load error with its own code."""
    found = compile_script(text, SCOPE, "bash").problems

    assert [problem.code for problem in found] == ["unsafe_interpolation"]
    assert f"stands {where}," in found[0].message


def test_ansi_quotes_need_a_shell_that_has_them() -> None:
    """`$'…'` with an expression is refused for plain sh."""
    assert [problem.code for problem in compile_script("echo $'((x))'", SCOPE, "sh").problems] == [
        "unsafe_interpolation"
    ]


def test_other_interpreters_take_no_expressions() -> None:
    """The quoting of other languages is not understood, so nothing is put into their scripts."""
    assert [p.code for p in compile_script("print('((x))')", SCOPE, "python3").problems] == ["unsafe_interpolation"]


@pytest.mark.parametrize(
    "text", ["((i++))", "((count))", "if ((n > 3)); then echo; fi", "(( a = b ))", "echo $(( x ))"]
)
def test_arithmetic_of_the_shell_is_left_alone(text: str) -> None:
    """What is not a known name in `((…))` belongs to the shell."""
    script = compile_script(text, SCOPE, "bash")

    assert script.text == text
    assert all(problem.is_warning for problem in script.problems)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\necho ((inputs.z))", "((inputs.z)): there is no input 'z'"),
        ("echo ((foo.bar))", "((foo.bar)): there is no root, config value, input or output named 'foo'"),
        ("echo ${{ z }}", "${{ z }}: there is no config value, input or output named 'z'"),
        ("echo ${{ x + 1 }}", "'${{ x + 1 }}' is not an expression"),
    ],
)
def test_unknown_names_are_errors(text: str, message: str) -> None:
    """A dotted path, or anything in `${{ }}`, has to be known."""
    assert problems(text) == [message]


def test_problems_name_the_line_of_the_script() -> None:
    """Lines count within the script."""
    found = compile_script("echo\ncat <<E\n((inputs.z))\nE\necho ((inputs.q))", SCOPE, "sh").problems

    assert [problem.line for problem in found] == [3, 5]


CONTEXTS = {
    "unquoted": "printf %s ((x))",
    "double": 'printf %s "((x))"',
    "single": "printf %s '((x))'",
    "default": 'printf %s "${UNSET_VARIABLE:-((x))}"',
    "nested": "printf %s \"$(printf %s '((x))'; printf x)\" | head -c -1",
    "heredoc": "cat <<E | head -c -1\n((x))\nE",
    "heredoc in substitution": 'printf %s "$(cat <<E\n((x))\nE\nprintf x\n)" | head -c -2',
    "function": "f() { printf %s ((x)); }\nf",
}


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.binary(min_size=0, max_size=40).filter(lambda data: b"\0" not in data))
def test_any_bytes_come_through_every_context(shell: str, value: bytes) -> None:
    """Data is never interpreted: any bytes but NUL are printed as they are, wherever the expression stands."""
    scripts = [compiled(text) for text in CONTEXTS.values()]
    program = [shell, "sh"] if shell == "busybox" else [shell]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"} | {"WFE_EXPR_1": os.fsdecode(value)}
    text = "\n".join(f"{script}\nprintf '\\001\\002'" for script in scripts)

    printed = subprocess.run([*program, "-c", text], env=environment, capture_output=True, check=True).stdout

    assert printed == b"".join(value + b"\1\2" for _ in scripts)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "value",
    [
        "; echo PWNED",
        "$(echo PWNED)",
        "`echo PWNED`",
        "'; echo PWNED #",
        '"; echo PWNED #',
        "a\nE\necho PWNED",
        "-n",
        "*",
    ],
)
@pytest.mark.parametrize("context", CONTEXTS)
def test_known_attacks_stay_data(shell: str, value: str, context: str) -> None:
    """A branch name that is a command is printed, not run."""
    program = [shell, "sh"] if shell == "busybox" else [shell]
    environment = {"PATH": os.environ["PATH"], "WFE_EXPR_1": value}

    printed = subprocess.run(
        [*program, "-c", compiled(CONTEXTS[context])], env=environment, capture_output=True, check=True
    )

    assert printed.stdout.decode() == value


@given(st.text(alphabet="()x.$'\"`\\{}<E\n# ;[]", max_size=40))
def test_no_script_makes_it_raise(text: str) -> None:
    """Whatever the script, compiling it ends with a result."""
    script = compile_script(text + "((x))", SCOPE, "bash")

    assert script.text or script.problems

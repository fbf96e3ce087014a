"""Bodies that raise, whatever they raise: a visible failure of their step, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.scenarios.faults.conftest import StartHost
from wfe import Fixed, LifecycleEvent, RetryPolicy, StepBody, StepExecutionContext, WorkflowBuilder, WorkflowStatus
from wfe.model.status import LifecycleKind

Context = StepExecutionContext[dict[str, Any]]


class _OwnBaseError(BaseException):
    """As a library may raise it to get past `except Exception`."""


class _SpeechlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class _DeadlyWordsError(Exception):
    def __str__(self) -> str:
        raise SystemExit("no words, and no program")


class _WrongWordsError(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # noqa: PLE0307 - the fault


_ERRORS: dict[str, Callable[[], BaseException]] = {
    "plain": lambda: RuntimeError("broken"),
    "system exit": lambda: SystemExit(3),
    "keyboard interrupt": KeyboardInterrupt,
    "generator exit": GeneratorExit,
    "stop iteration": lambda: StopIteration("found nothing"),
    "stop async iteration": StopAsyncIteration,
    "cancelled from within": lambda: asyncio.CancelledError("from within"),
    "own base exception": lambda: _OwnBaseError("past except Exception"),
    "str raises": _SpeechlessError,
    "str exits": _DeadlyWordsError,
    "str gives no text": _WrongWordsError,
    "nul and surrogates": lambda: RuntimeError("nul \x00 surrogate \ud800"),
    "huge message": lambda: RuntimeError("x" * 10_000_000),
    "group": lambda: BaseExceptionGroup("several", [SystemExit(1), ValueError("two")]),
    "timeout error": lambda: TimeoutError("of another library"),
}


def _async_body(make: Callable[[], BaseException]) -> Callable[[Context], Any]:
    async def body(context: Context) -> None:
        raise make()

    return body


def _thread_body(make: Callable[[], BaseException]) -> Callable[[Context], Any]:
    def body(context: Context) -> None:
        raise make()

    return body


_BODIES = {"coroutine": _async_body, "thread": _thread_body}


def _kinds(history: list[LifecycleEvent]) -> list[LifecycleKind]:
    return [event.kind for event in history]


@pytest.mark.parametrize("limit", [None, 30], ids=["unlimited", "with a time limit"])
@pytest.mark.parametrize("error", _ERRORS)
@pytest.mark.parametrize("kind", _BODIES)
async def test_any_error_fails_the_step(start_host: StartHost, kind: str, error: str, limit: int | None) -> None:
    """Whatever a body raises, in a coroutine or on a thread, fails its step with a record of what it was.

    Status FAILED, code `step_failed`, one entry in `errors` and in the history; the host runs other instances on.
    """
    body = _BODIES[kind](_ERRORS[error])
    chain = WorkflowBuilder().start_with(body).id("bad")
    bad = (chain if limit is None else chain.timeout(limit)).build("bad")
    good = WorkflowBuilder().start_with(_fine).build("good")
    host = await start_host(bad, good, max_threads=1)

    result = await host.run(bad, timeout=10)
    after = await host.run(good, timeout=10)

    assert result.status is WorkflowStatus.FAILED
    assert result.error is not None
    assert (result.error.code, result.error.step) == ("step_failed", "bad")
    assert len(result.error.message) <= 5_000
    errors = await host.errors(result.id)
    assert [(each.attempt, each.code) for each in errors] == [(1, "step_failed")]
    assert _kinds(await host.history(result.id))[-2:] == [LifecycleKind.STEP_FAILED, LifecycleKind.WORKFLOW_FAILED]
    assert after.status is WorkflowStatus.COMPLETE


def _fine(context: Context) -> None:
    context.data["fine"] = True


@pytest.mark.parametrize("error", _ERRORS)
@pytest.mark.parametrize("kind", _BODIES)
async def test_any_error_is_retried(start_host: StartHost, kind: str, error: str) -> None:
    """Whatever a body raises counts as an attempt: with a retry policy it is tried again, and may succeed then."""

    def make() -> BaseException:
        attempts.append(1)
        return _ERRORS[error]() if len(attempts) < 3 else _Enough()

    class _Enough(Exception):
        pass

    attempts: list[int] = []
    definition = WorkflowBuilder().start_with(_BODIES[kind](make)).retry(RetryPolicy(3, Fixed(0))).build("retried")
    host = await start_host(definition)

    result = await host.run(definition, timeout=10)

    assert [each.attempt for each in await host.errors(result.id)] == [1, 2, 3]
    assert result.error is not None
    assert result.error.type.endswith("_Enough")


async def test_hooks_that_raise(start_host: StartHost) -> None:
    """Errors of `is_retryable` and `on_failure` do not hide the error of `run`, whatever they raise."""

    class _Body(StepBody[dict[str, Any]]):
        async def run(self, context: Context) -> None:
            raise ValueError("the first one")

        def is_retryable(self, error: BaseException) -> bool:
            raise SystemExit("from is_retryable")

        def on_failure(self, context: Context, error: BaseException) -> None:
            raise _OwnBaseError("from on_failure")

    definition = WorkflowBuilder().start_with(_Body).build("hooks")
    host = await start_host(definition)

    result = await host.run(definition, timeout=10)

    assert result.status is WorkflowStatus.FAILED
    assert result.error is not None
    assert "the first one" in result.error.message


@pytest.mark.parametrize("error", ["plain", "system exit", "own base exception", "str exits", "stop iteration"])
async def test_condition_that_raises(start_host: StartHost, error: str) -> None:
    """A condition that raises, whatever it raises, is a failure of its step and does not touch the host."""

    def condition(data: dict[str, Any]) -> bool:
        raise _ERRORS[error]()  # noqa: RSE102 - it makes one

    definition = (
        WorkflowBuilder()
        .start_with(_fine)
        .while_do(condition, lambda turn: turn.start_with(_fine))
        .id("loop")
        .build("condition")
    )
    good = WorkflowBuilder().start_with(_fine).build("good")
    host = await start_host(definition, good)

    result = await host.run(definition, timeout=10)
    after = await host.run(good, timeout=10)

    assert result.status is WorkflowStatus.FAILED
    assert result.error is not None
    assert result.error.step == "loop"
    assert after.status is WorkflowStatus.COMPLETE


async def test_constructor_that_raises(start_host: StartHost) -> None:
    """A body class that cannot be made fails its step with the error of its constructor."""

    class _Body(StepBody[dict[str, Any]]):
        def __init__(self) -> None:
            raise ConnectionError("no database at hand")

        async def run(self, context: Context) -> None:
            """Never reached."""

    definition = WorkflowBuilder().start_with(_Body).build("constructor")
    host = await start_host(definition)

    result = await host.run(definition, timeout=10)

    assert result.status is WorkflowStatus.FAILED
    assert "no database at hand" in str(result.error)

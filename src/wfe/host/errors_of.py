"""Turns exceptions of user code into records that can be stored."""

from __future__ import annotations

import traceback

from wfe.model.errors import WfeError
from wfe.model.pointer import ErrorRecord

__all__ = ["class_names", "message_of", "record_of"]

_MAX_MESSAGE = 4_000
_MAX_TRACEBACK = 16_000


def record_of(error: BaseException, *, prefix: str = "", code: str | None = None) -> ErrorRecord:
    """Give the record of an exception: its class, message and traceback, made fit for storing."""
    kind = type(error)
    try:
        trace = "".join(traceback.format_exception(error))
    except BaseException:  # noqa: BLE001 - as in `message_of`
        trace = ""
    return ErrorRecord(
        code if code is not None else (error.code if isinstance(error, WfeError) else "step_failed"),
        _storable(prefix + message_of(error))[:_MAX_MESSAGE],
        type=_storable(f"{kind.__module__}.{kind.__qualname__}"),
        traceback=_storable(trace)[-_MAX_TRACEBACK:],
    )


def message_of(error: BaseException) -> str:
    """Give the message of an exception, its class name where it has none or cannot make it."""
    name = type(error).__qualname__
    try:
        if type(error).__str__ is KeyError.__str__:  # shows only the key, which is no message
            return f"{name}: {error}"
        return str(error) or name
    except BaseException:  # noqa: BLE001 - an exception whose __str__ raises is still a failure with a name
        return f"{name} (its message could not be made)"


def class_names(error: BaseException) -> tuple[str, ...]:
    """Name the exception's class and its bases, most special first."""
    return tuple(f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__ if kind is not object)


def _storable(text: str) -> str:
    if "\x00" in text:
        text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")

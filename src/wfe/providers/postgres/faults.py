"""What the errors of the client and the server mean for us. No foreign exception leaves the provider."""

from __future__ import annotations

from enum import Enum
from functools import cache
from typing import TYPE_CHECKING

from wfe.model.errors import ConfigurationError, DataError, ProviderUnavailable, WfeError

if TYPE_CHECKING:
    from types import ModuleType

    from wfe.providers.postgres.place import Place

__all__ = ["Kind", "client", "connection_errors", "is_refused_write", "kind_of", "took_too_long", "translate"]


class Kind(Enum):
    """What to do about an error."""

    LOST = "lost"
    """The connection is gone or of no use; a new one may work."""
    AGAIN = "again"
    """The server rolled back for a reason that passes: a deadlock, a conflict."""
    STATEMENT_CACHE = "statement cache"
    """A pooler between us and the server loses prepared statements."""
    SETTINGS = "settings"
    """A pooler between us and the server does not take a setting with the beginning of a connection."""
    CONFIGURATION = "configuration"
    DATA = "data"
    UNEXPECTED = "unexpected"


_CANCELLED = "57014"
"""A statement was cancelled, by an administrator or because it took too long."""

_READ_ONLY = "25006"

# SQLSTATE codes, or their first characters: https://www.postgresql.org/docs/current/errcodes-appendix.html
_BY_STATE = (
    ("22", Kind.DATA),
    ("54", Kind.DATA),  # a value too long for an index, a request too large
    ("40", Kind.AGAIN),  # deadlock, serialisation failure
    ("55P03", Kind.AGAIN),  # a lock not available in time
    (_CANCELLED, Kind.AGAIN),
    ("26000", Kind.STATEMENT_CACHE),
    ("42P05", Kind.STATEMENT_CACHE),
    ("08P01", Kind.STATEMENT_CACHE),  # bind message of another statement: what such a pooler makes of it
    ("08", Kind.LOST),
    (_READ_ONLY, Kind.LOST),  # read-only: a standby; the next connection may reach the new primary
    ("25P03", Kind.LOST),
    ("53", Kind.LOST),  # out of connections, memory or disk
    ("57", Kind.LOST),  # shutdown, crash, starting up, idle too long
    ("58", Kind.LOST),  # input or output error
    ("0A000", Kind.LOST),  # cached plan must not change result type: the schema was upgraded under us
    ("28", Kind.CONFIGURATION),
    ("3D000", Kind.CONFIGURATION),
    ("3F000", Kind.CONFIGURATION),
    ("42501", Kind.CONFIGURATION),  # a right is missing
    ("42P01", Kind.CONFIGURATION),  # no such table: dropped, or never made
    ("42883", Kind.CONFIGURATION),  # no such function
    ("42703", Kind.CONFIGURATION),  # no such column
    ("42704", Kind.CONFIGURATION),  # no such setting: an option of the URL that nobody knows
)


def client() -> ModuleType:
    """Import asyncpg, which is an extra.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        import asyncpg
    except ImportError as error:
        raise ConfigurationError(
            "The PostgreSQL provider needs asyncpg, which is not installed. Install it: pip install 'wfe[postgres]'"
        ) from error
    return asyncpg


@cache
def connection_errors() -> tuple[type[BaseException], ...]:
    """Give the exceptions that the client raises."""
    asyncpg = client()
    return (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError, EOFError)


def kind_of(error: BaseException) -> Kind:
    """Tell what kind of error one of the client's is."""
    asyncpg = client()
    state = getattr(error, "sqlstate", None)
    if isinstance(error, asyncpg.PostgresError) and isinstance(state, str):
        if "startup parameter" in str(error):
            return Kind.SETTINGS
        return next((kind for prefix, kind in _BY_STATE if state.startswith(prefix)), Kind.UNEXPECTED)
    if isinstance(error, asyncpg.ClientConfigurationError):
        return Kind.CONFIGURATION
    # A value that cannot be encoded is reported as an interface error that is a ValueError, too.
    if isinstance(error, ValueError) and isinstance(error, asyncpg.InterfaceError):
        return Kind.DATA
    return Kind.LOST


def took_too_long(error: BaseException) -> bool:
    """Tell whether the server gave up a statement: after the time that it works on one, or as an administrator said."""
    return getattr(error, "sqlstate", None) == _CANCELLED


def is_refused_write(error: BaseException) -> bool:
    """Tell whether the server refused to write in a transaction that only reads."""
    return getattr(error, "sqlstate", None) == _READ_ONLY


def translate(error: BaseException, place: Place, doing: str, *, within: float | None = None) -> WfeError:
    """Make the error of ours that tells what happened, where, and what to do.

    Args:
        within: The seconds after which it was given up; by default those of the place.
    """
    seconds = place.limit.total_seconds() if within is None else within
    kind = kind_of(error)
    said = str(error).strip() or type(error).__name__
    if kind is Kind.DATA:
        return DataError(
            f"PostgreSQL cannot store a value ({said}); nothing of this was written while trying to {doing}. Text must "
            "have no NUL and no lone surrogates, ids and names at most 2,000 bytes.",
            reason="unstorable",
        )
    if kind is Kind.CONFIGURATION:
        return ConfigurationError(
            f"PostgreSQL at {place.url} refused to {doing}: {said}. Check the URL, the user's rights and the schema "
            f"{place.schema!r}."
        )
    if kind is Kind.UNEXPECTED:
        # Not `ProviderUnavailable`: asking again is of no use, and whoever wrote a batch has to find the culprit in it.
        return WfeError(
            f"PostgreSQL at {place.url} refused to {doing}: {said}. Nothing of this was written. This is not expected; "
            "please report it."
        )
    return ProviderUnavailable(
        f"PostgreSQL at {place.url} did not {doing} within {seconds:g} s: {said}. Check that the "
        "server runs and can be reached; asking again is safe.",
        took_too_long=took_too_long(error),
    )

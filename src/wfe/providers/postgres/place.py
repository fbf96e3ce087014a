"""Where the database is: the URL, and the options in it that are ours."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit
from zlib import crc32

from wfe.model.errors import ConfigurationError
from wfe.ports.provider import StoreMode

__all__ = ["Place"]

_SCHEMES = ("postgresql", "postgres")
_SCHEMA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,47}")
_LARGEST_POOL = 100
_LARGEST_PORT = 65_535


@dataclass(frozen=True, kw_only=True)
class Place:
    """One namespace in one database."""

    dsn: str
    """For the client, with the password if there is one."""
    url: str
    """For messages: without the password."""
    schema: str = "wfe"
    """Holds all tables."""
    pool_size: int = 4
    """Connections for commits and reads. Hints and the renewer of the lease each have one of their own."""
    statement_cache_size: int = 100
    """0 for poolers that cannot keep prepared statements, such as PgBouncer before 1.21 in transaction mode."""
    limit: timedelta = timedelta(seconds=30)
    """How long to try to reach the server before `ProviderUnavailable`."""
    acquire_timeout: timedelta = limit
    """How long a call waits for others to give a connection back."""
    statement_timeout: timedelta = limit / 2
    """How long the server works on one statement, waiting for locks included, before it is tried again."""
    idle_in_transaction_timeout: timedelta = limit
    """How long the server keeps a transaction open, with its locks, for a host that says nothing any more."""
    keepalive: timedelta = timedelta(seconds=30)
    """Silence after which both sides ask whether the other one is still there."""
    mode: StoreMode = "create"
    """What opening the store may do."""
    direct: tuple[str, int] | None = None
    """Host and port that lead past a pooler: hints and renewals go there."""

    @staticmethod
    def of(url: str, mode: StoreMode = "create") -> Place:
        """Read a URL such as `postgresql://user@host/database?schema=orders&pool_size=8`.

        Options of ours: `schema`, `pool_size`, `statement_cache_size`, `direct` (host:port), and in seconds
        `unavailable_after`, `acquire_timeout`, `statement_timeout`, `idle_in_transaction_timeout`, `keepalive`. All
        others go to the client (`sslmode`, `host`, …).

        Raises:
            ConfigurationError: It is no such URL, or an option has no possible value.
        """
        parts = _split(url)
        if parts.scheme not in _SCHEMES:
            raise ConfigurationError(
                f"{_without_password(url)!r} is no PostgreSQL URL; expected postgresql://user@host:port/database."
            )
        _check_hosts(parts, url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        schema = options.pop("schema", Place.schema)
        pool_size = _whole_number(options, "pool_size", Place.pool_size, 1, _LARGEST_POOL)
        cache = _whole_number(options, "statement_cache_size", Place.statement_cache_size, 0, 10_000)
        limit = _seconds(options, "unavailable_after", Place.limit)
        acquire_timeout = _seconds(options, "acquire_timeout", limit)
        # Half, so that there is time for another try, on another connection if need be.
        statement_timeout = _seconds(options, "statement_timeout", limit / 2)
        idle = _seconds(options, "idle_in_transaction_timeout", limit)
        keepalive = _seconds(options, "keepalive", Place.keepalive)
        direct = _address(options.pop("direct", None))
        if not _SCHEMA_NAME.fullmatch(schema) or schema.startswith("pg_"):
            raise ConfigurationError(
                f"schema={schema!r} in the PostgreSQL URL is no possible name; expected up to 48 letters, digits, "
                '"_" and "-", beginning with a letter or "_", and not with "pg_".'
            )
        dsn = _joined(parts._replace(query=urlencode(options)))
        return Place(
            dsn=dsn,
            url=_without_password(url),
            schema=schema,
            pool_size=pool_size,
            statement_cache_size=cache,
            limit=limit,
            acquire_timeout=acquire_timeout,
            statement_timeout=statement_timeout,
            idle_in_transaction_timeout=idle,
            keepalive=keepalive,
            mode=mode,
            direct=direct,
        )

    @property
    def direct_dsn(self) -> str:
        """For the client, past a pooler if the URL names a way."""
        if self.direct is None:
            return self.dsn
        parts = urlsplit(self.dsn)
        user, at, _ = parts.netloc.rpartition("@")
        host, port = self.direct
        options = [(name, value) for name, value in parse_qsl(parts.query) if name not in ("host", "port")]
        return _joined(parts._replace(netloc=f"{user}{at}{host}:{port}", query=urlencode(options)))

    @property
    def quoted_schema(self) -> str:
        """The schema's name as it stands in statements."""
        return f'"{self.schema}"'

    @property
    def lock_space(self) -> int:
        """First half of the keys of advisory locks. Equal numbers of two schemas only make them wait for each other."""
        return _signed(crc32(b"wfe " + self.schema.encode()))

    @property
    def channel(self) -> str:
        """Channel on which hints to everybody go."""
        return f"wfe_{self.schema}"


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:  # a bracket without its other half
        # The URL cannot be shown: where its password is cannot be told.
        raise ConfigurationError(
            f"The PostgreSQL URL cannot be read: {error}. Expected postgresql://user@host:port/database, with an IPv6 "
            "address in brackets."
        ) from None


def _check_hosts(parts: SplitResult, url: str) -> None:
    """Make sure that what stands behind the colon of each host is a port."""
    for host in parts.netloc.rpartition("@")[2].split(","):
        port = host.rpartition("]")[2].partition(":")[2]
        if port and not _is_port(port):
            # With an @ elsewhere, it may be a piece of a password.
            what = f"{port!r} in {url!r}" if "@" not in url else "What stands behind the host in the PostgreSQL URL"
            raise ConfigurationError(
                f"{what} is no port; expected postgresql://user@host:port/database with a number from 1 to "
                f"{_LARGEST_PORT}. A / or @ in a password is written %2F or %40."
            )


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text) <= _LARGEST_PORT


def _whole_number(options: dict[str, str], name: str, default: int, least: int, most: int) -> int:
    text = options.pop(name, None)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
        raise ConfigurationError(
            f"{name}={text!r} in the PostgreSQL URL: expected a whole number from {least} to {most}."
        )
    return int(text)


def _seconds(options: dict[str, str], name: str, default: timedelta) -> timedelta:
    if name not in options:
        return default
    return timedelta(seconds=_whole_number(options, name, 0, 1, 3_600))


def _address(text: str | None) -> tuple[str, int] | None:
    if text is None:
        return None
    host, colon, port = text.rpartition(":")
    if not (host and colon and _is_port(port)):
        raise ConfigurationError(
            f"direct={text!r} in the PostgreSQL URL: expected host:port of the server itself, past the pooler."
        )
    return host, int(port)


def _joined(parts: SplitResult) -> str:
    # `urlunsplit` drops the slashes of an empty host, which stands for a socket of this machine.
    joined = urlunsplit(parts)
    return joined if parts.netloc else joined.replace(":/", ":///", 1)


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != "password"]
    shown = quote(user.partition(":")[0], safe="%")
    return _joined(parts._replace(netloc=f"{shown}{at}{host}", query=urlencode(query)))


def _signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number

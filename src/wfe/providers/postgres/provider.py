"""The PostgreSQL provider: what it serves, on which connections."""

from __future__ import annotations

from typing import Literal

from wfe.model.errors import ConfigurationError
from wfe.ports.provider import StoreMode, check_mode
from wfe.providers.postgres.connector import Connector
from wfe.providers.postgres.hints import PostgresHints
from wfe.providers.postgres.lease import PostgresLease
from wfe.providers.postgres.lifecycle import PostgresLifecycle
from wfe.providers.postgres.place import Place
from wfe.providers.postgres.pool import Pool
from wfe.providers.postgres.reads import Reads
from wfe.providers.postgres.store import PostgresStore

__all__ = ["PostgresProvider"]


class PostgresProvider:
    """Serves every port from one PostgreSQL database (14 or newer), shared by any number of hosts.

    Args:
        url: `postgresql://user:password@host:port/database`. Options after `?`: `schema` (holds all tables; default
            `wfe`, made when it is not there), `pool_size` (default 4), `statement_cache_size` (0 behind a pooler that
            cannot keep prepared statements), `direct` (host:port past such a pooler, for hints and renewals). In
            seconds: `unavailable_after` (default 30: how long a call tries to reach the server), `acquire_timeout`,
            `statement_timeout`, `idle_in_transaction_timeout`, `keepalive`. Others go to the client, such as `sslmode`.
        durability: `"power"`: what is acknowledged survives whatever the server survives, as its own settings say.
            `"process"`: commits do not wait for the server's disk (`synchronous_commit=off`); a crash of this process
            loses nothing, one of the server up to about half a second of what was acknowledged, never half a commit.
        mode: What opening may do: `create` schema and tables where there are none; `write` what is there; or only
            `read`, which needs no other right. A host needs one of the first two.

    Raises:
        ConfigurationError: The URL or an option is not possible. That asyncpg is missing shows when the store opens.
    """

    def __init__(
        self, url: str, *, durability: Literal["power", "process"] = "power", mode: StoreMode = "create"
    ) -> None:
        if durability not in ("power", "process"):
            raise ConfigurationError(f'durability={durability!r} is not possible; expected "power" or "process".')
        check_mode(mode)
        place = Place.of(url, mode)
        connector = Connector(place)
        pool = Pool(connector)
        self.url = place.url
        self.lifecycle = PostgresLifecycle(Reads(pool))
        self.store = PostgresStore(pool, self.lifecycle, durable=durability == "power")
        self.lease = PostgresLease(pool, connector)
        self.hints = PostgresHints(connector)

"""What the errors of PostgreSQL mean to a host."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from wfe.model.errors import ConfigurationError, DataError, ProviderUnavailable, WfeError
from wfe.providers.postgres.faults import client, translate

if TYPE_CHECKING:
    from wfe.providers.postgres.place import Place

_PLACE = cast("Place", SimpleNamespace(url="postgresql://h/d", schema="wfe", limit=timedelta(seconds=30)))


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("23505", WfeError),
        ("XX001", WfeError),
        ("P0001", WfeError),
        ("42501", ConfigurationError),
        ("22021", DataError),
        ("57P01", ProviderUnavailable),
    ],
)
def test_a_refusal_of_what_was_written_is_no_outage(state: str, kind: type[WfeError]) -> None:
    """A row that a constraint, a trigger or a damaged page refuses is looked for; only an outage is waited for."""
    error = client().PostgresError.new({"C": state, "M": "refused", "S": "ERROR"})

    assert type(translate(error, _PLACE, "commit a batch")) is kind

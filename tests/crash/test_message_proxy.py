from __future__ import annotations

import re
from pathlib import Path

from tests.crash.message_proxy import COMMITS

PROVIDER = Path(__file__).parents[2] / "src" / "wfe" / "providers" / "postgres"
CALLED = re.compile(r"""\.(\w+_v\d+)\(|_call\(\w+, "(\w+)\"""")
CLAIMS = {"claim_v1"}
"""Cutting a claim is another matter: what was taken unknowingly is given back."""


def test_every_function_that_writes_batches_is_taken_for_a_commit() -> None:
    """A function with another name, or a new one, does not slip through uncut."""
    sources = "".join(path.read_text("utf-8") for path in PROVIDER.glob("*.py"))

    called = {one or other for one, other in CALLED.findall(sources)}

    assert called == COMMITS | CLAIMS

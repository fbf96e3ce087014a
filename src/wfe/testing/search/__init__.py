"""Explicit-state search: every reachable state of small models, over the real decisions of engine, runner and store."""

from __future__ import annotations

from wfe.testing.search.explore import Outcome, search
from wfe.testing.search.join import Join
from wfe.testing.search.lease import Lease
from wfe.testing.search.rendezvous import Rendezvous

__all__ = ["MODELS", "Outcome", "search"]

MODELS = {model.name: model for model in (Rendezvous(), Lease(), Join())}

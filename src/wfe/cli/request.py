"""What was typed after `wfe run`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

__all__ = ["RunRequest"]


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What was typed."""

    file: Path | None
    url: str
    workflow: str | None = None
    inputs: tuple[str, ...] = ()
    config: tuple[str, ...] = ()
    resume: str | None = None
    name: str | None = None
    timeout: timedelta | None = None
    json: bool = False
    lenient: bool = False

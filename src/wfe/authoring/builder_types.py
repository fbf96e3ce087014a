"""Names of what the builder's methods take, for annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, Union

from wfe.model.conditions import Condition, FieldRef

__all__ = ["Json", "Plain"]

Json: TypeAlias = Union[str, int, float, bool, Sequence["Json"], Mapping[str, "Json"], None]  # noqa: UP007 - recursive
"""A literal that can be stored with the plan."""

Plain: TypeAlias = Union[Json, FieldRef, Condition]  # noqa: UP007 - of a recursive alias
"""A value that is no callable."""

"""Ways to write a workflow definition."""

from __future__ import annotations

from wfe.authoring.builder import WorkflowBuilder
from wfe.authoring.builder_blocks import block

__all__ = ["WorkflowBuilder", "block"]

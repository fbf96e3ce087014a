"""Workflows written as YAML files."""

from wfe.authoring.yaml.loader import CompiledWorkflow, load_workflow, load_workflows
from wfe.authoring.yaml.problems import Position, Problem

__all__ = ["CompiledWorkflow", "Position", "Problem", "load_workflow", "load_workflows"]

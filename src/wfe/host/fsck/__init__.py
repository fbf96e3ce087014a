"""Checks the rules of the engine over what a store keeps, while hosts may be at work."""

from wfe.host.fsck.checking import Report, check_store
from wfe.host.fsck.findings import RULES, Finding

__all__ = ["RULES", "Finding", "Report", "check_store"]

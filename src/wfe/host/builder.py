"""Makes a host from parts, one provider at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from wfe.host.workflow_host import WorkflowHost
from wfe.model.errors import ConfigurationError

if TYPE_CHECKING:
    from wfe.ports.provider import Provider

__all__ = ["WorkflowHostBuilder"]


class WorkflowHostBuilder:
    """Collects providers and settings; `build` names what is missing."""

    def __init__(self) -> None:
        self._parts: dict[str, Provider | str] = {}
        self._settings: dict[str, Any] = {}

    def use_persistence(self, provider: Provider | str) -> Self:
        """Choose the store: the truth."""
        self._parts["url"] = provider
        return self

    def use_lock_provider(self, provider: Provider | str) -> Self:
        """Choose who knows which hosts are alive: so far the store itself, which it is when left out."""
        self._parts["lease"] = provider
        return self

    def use_queue_provider(self, provider: Provider | str) -> Self:
        """Choose who carries hints between hosts; the store's own when left out."""
        self._parts["queue"] = provider
        return self

    def use_lifecycle(self, provider: Provider | str) -> Self:
        """Choose who announces lifecycle events: so far the store itself, which it is when left out."""
        self._parts["lifecycle"] = provider
        return self

    def use_settings(self, **settings: Any) -> Self:  # noqa: ANN401 - the keyword arguments of WorkflowHost
        """Set what `WorkflowHost` takes by keyword."""
        self._settings.update(settings)
        return self

    def build(self) -> WorkflowHost:
        """Make the host.

        Raises:
            ConfigurationError: No store was chosen, or a setting or a combination is not possible.
        """
        if "url" not in self._parts:
            msg = "The host has no store: call use_persistence(…) with a provider or a URL."
            raise ConfigurationError(msg)
        return WorkflowHost(**self._parts, **self._settings)  # type: ignore[arg-type]  # keys are parameter names

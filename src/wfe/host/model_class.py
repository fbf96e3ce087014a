"""Data classes that check themselves: pydantic models. Not a dependency, so they are known by their methods.

What is stored has the names of the fields; what a program hands over may have their aliases too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from wfe.model.errors import ConfigurationError, DataError

__all__ = ["ModelClass", "is_model"]


class ModelClass:
    """How data of one model are made from plain values."""

    def __init__(self, model: type) -> None:
        """Look at a model.

        Raises:
            ConfigurationError: It is of a pydantic that cannot validate by the names of fields.
        """
        self._model = model
        self._validate: Callable[..., object] = getattr(model, "model_validate")  # noqa: B009 - by method, not by class
        if "by_name" not in inspect.signature(self._validate).parameters:
            msg = f"{model.__qualname__} as workflow data needs pydantic 2.11 or newer: pip install -U pydantic"
            raise ConfigurationError(msg)
        self.names = _names(model)
        """What a mapping may have; None: anything."""

    def load(self, plain: object, *, aliases: bool = False) -> object:
        """Make an object from stored values, or (with `aliases`) from what a program handed over.

        Raises:
            DataError: They do not fit the model.
        """
        try:
            return self._validate(plain, by_name=True, by_alias=aliases)
        except ValueError as error:
            raise self.refused(error) from error

    def refused(self, error: ValueError) -> DataError:
        """Give what a model says of values that do not fit it as an error of wfe."""
        problems = list(_problems(error)) or [("$", str(error))]
        told = "; ".join(f"{text} - at `{path}`" for path, text in problems)
        msg = f"The data does not fit {self._model.__qualname__}: {told}"
        return DataError(msg, path=problems[0][0], reason="wrong_type")


def is_model(data_type: type) -> bool:
    """Whether a class is a pydantic model."""
    return callable(getattr(data_type, "model_validate", None))


def _names(model: type) -> frozenset[str] | None:
    config: Mapping[str, object] = getattr(model, "model_config", {})
    if config.get("extra") == "allow":
        return None
    fields: Mapping[str, Any] = getattr(model, "model_fields", {})
    return frozenset(name for key, field in fields.items() for name in (key, *_aliases(field)))


def _aliases(field: Any) -> Iterator[str]:  # noqa: ANN401 - a FieldInfo
    for alias in (field.alias, field.validation_alias):
        for each in getattr(alias, "choices", (alias,)):
            first = each if isinstance(each, str) else next(iter(getattr(each, "path", ())), None)
            if isinstance(first, str):
                yield first


def _problems(error: ValueError) -> Iterator[tuple[str, str]]:
    """Give the path and the words of each problem."""
    list_errors = getattr(error, "errors", None)
    problems = cast("list[Mapping[str, Any]]", list_errors()) if callable(list_errors) else []
    for problem in problems:
        path = "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
        yield path, str(problem["msg"])

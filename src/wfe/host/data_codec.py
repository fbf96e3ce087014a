"""Workflow data between its author's class and the stored document."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec

from wfe.host.model_class import ModelClass, is_model
from wfe.model.document import (
    EMPTY_DOCUMENT,
    Document,
    Patch,
    check_names,
    decode_plain,
    document_of,
    encode_typed,
    encode_value,
    fields_of,
    merge,
    patch_between,
)
from wfe.model.errors import DataError

__all__ = ["DataCodec", "transient"]

_TRANSIENT = "wfe.transient"
_raw_encoder = msgspec.json.Encoder()


def transient(factory: Callable[[], Any] | None = None, *, default: Any = None) -> Any:  # noqa: ANN401 - like dataclasses.field
    """Declare a dataclass field that is never stored: each body's copy gets the factory's value, else the default."""
    if factory is not None:
        return dataclasses.field(default_factory=factory, metadata={_TRANSIENT: True}, compare=False)
    return dataclasses.field(default=default, metadata={_TRANSIENT: True}, compare=False)


class DataCodec:
    """Encodes and decodes the data of one definition."""

    def __init__(self, data_type: type) -> None:
        self.data_type = data_type
        self._is_plain = data_type is dict or typing.get_origin(data_type) is dict
        self._model = ModelClass(data_type) if is_model(data_type) else None
        self._names = None if self._is_plain else _field_names(data_type)
        if self._model is not None:
            self._names = self._model.names
        self._transient = {
            field.name: field.default_factory if field.default_factory is not dataclasses.MISSING else None
            for field in (dataclasses.fields(data_type) if dataclasses.is_dataclass(data_type) else ())
            if field.metadata.get(_TRANSIENT)
        }
        self._defaults = {
            field.name: field.default
            for field in (dataclasses.fields(data_type) if dataclasses.is_dataclass(data_type) else ())
            if field.name in self._transient
        }
        self._stored = self._names_to_store()
        self._decoder: msgspec.json.Decoder[Any] | None = (
            None if self._is_plain or self._model is not None else msgspec.json.Decoder(data_type)
        )

    def decode(self, document: Document) -> Any:  # noqa: ANN401 - the author's class
        """Give a fresh object of the data class.

        Raises:
            DataError: The document does not fit the class.
        """
        if self._is_plain:
            return decode_plain(document)
        if self._model is not None:
            return self._model.load(decode_plain(document))
        assert self._decoder is not None
        try:
            data = self._decoder.decode(document)
        except (msgspec.ValidationError, ValueError, TypeError) as error:
            path = str(error).rpartition(" - at `")[2].rstrip("`") if " - at `" in str(error) else "$"
            msg = f"The data does not fit {self.data_type.__qualname__}: {error}"
            raise DataError(msg, path=path, reason="wrong_type") from error
        for name, factory in self._transient.items():
            object.__setattr__(data, name, factory() if factory is not None else self._defaults[name])
        return data

    def encode(self, data: object) -> Document:
        """Give the document of an object of the data class, or of a mapping for dict data.

        Raises:
            DataError: Something in it cannot be stored; `path` names it.
        """
        if self._is_plain:
            if not isinstance(data, Mapping):
                msg = f"The data of this workflow is a dict, got a {type(data).__name__}."
                raise DataError(msg, reason="wrong_type")
            return encode_value(data)
        if self._stored is not None:
            document = encode_typed({name: getattr(data, name) for name in self._stored})
        else:
            document = encode_typed(data)
        if not document.startswith(b"{"):
            msg = f"The data is a {type(data).__name__}, which is no object with fields."
            raise DataError(msg, reason="wrong_type")
        return document

    def initial(self, data: object) -> Document:
        """Give the document to start with.

        From an object of the class, a mapping that is checked and converted, or None.

        Raises:
            DataError: It does not fit the data class.
        """
        if data is None:
            try:
                return self.encode(self.data_type()) if not self._is_plain else EMPTY_DOCUMENT
            except TypeError as error:
                msg = f"{self.data_type.__qualname__} cannot be made without arguments; give the data. ({error})"
                raise DataError(msg, reason="wrong_type") from error
            except ValueError as error:
                raise (error if self._model is None else self._model.refused(error)) from error
        if self._is_plain:
            document = self.encode(data)
            _check_reserved(fields_of(document))
            return document
        if isinstance(data, Mapping):
            given = encode_typed(dict(data))
            self._check_names(dict.fromkeys(map(str, data), b""))
            if self._model is not None:
                return self.encode(self._model.load(decode_plain(given), aliases=True))
            return self.encode(self.decode(given))
        if isinstance(data, self._class()):
            document = self.encode(data)
            self.decode(document)
            return document
        msg = f"The data of this workflow is a {self.data_type.__qualname__} or a mapping, got a {type(data).__name__}."
        raise DataError(msg, reason="wrong_type")

    def patch(self, before: Document, data: object) -> Patch | None:
        """Give what a body changed in its copy.

        Raises:
            DataError: A changed field cannot be stored.
        """
        if not self._is_plain:
            if not isinstance(data, self._class()):
                msg = f"The step put a {type(data).__name__} in place of the {self.data_type.__qualname__} data."
                raise DataError(msg, reason="wrong_type")
            patch = patch_between(before, self.encode(data))
            if patch is not None:
                self.decode(merge(before, patch))  # a field of the wrong type fails this step, not the next one
            return patch
        if not isinstance(data, dict):
            msg = f"The step put a {type(data).__name__} in place of the dict data."
            raise DataError(msg, reason="wrong_type")
        plain = cast("dict[str, object]", data)
        try:
            after = _raw_encoder.encode(plain)
        except (TypeError, ValueError, RecursionError):
            after = document_of(_encoded_fields(plain))
        patch = patch_between(before, after)
        if patch is not None:
            _encoded_fields({name: plain[name] for name in plain if str(name) in patch.changed})
            _check_reserved(patch.changed)
        return patch

    def output(self, fields: Mapping[str, object], current: Document) -> Patch:
        """Encode the fields that a step's answer merges into the data, and check that they fit.

        Raises:
            DataError: One does not.
        """
        if self._is_plain:
            patch = Patch(_encoded_fields(fields))
            _check_reserved(patch.changed)
            return patch
        encode = encode_typed
        patch = Patch({str(name): encode(value, path=f"$.{name}") for name, value in fields.items()})
        self.check(patch, current)
        return patch

    def check(self, patch: Patch, current: Document) -> None:
        """Check that fields fit the data class.

        Raises:
            DataError: One does not, or its name is reserved.
        """
        _check_reserved(patch.changed)
        if not self._is_plain:
            self._check_names(patch.changed)
            self.decode(merge(current, patch))

    def _names_to_store(self) -> list[str] | None:
        """Give the fields that are handed to the encoder one by one; None: it takes the object as it is."""
        if self._transient:  # they may hold anything, so they are left out before the encoder sees them
            return [each.name for each in dataclasses.fields(self.data_type) if each.name not in self._transient]
        if hasattr(self.data_type, "__attrs_attrs__"):  # of these it would leave out private fields
            return [attribute.name for attribute in cast("Any", self.data_type).__attrs_attrs__]
        return None

    def _class(self) -> type:
        origin = typing.get_origin(self.data_type) or self.data_type
        return dict if typing.is_typeddict(origin) else origin

    def _check_names(self, given: Mapping[str, bytes]) -> None:
        if self._names is None:
            return
        unknown = [name for name in given if name not in self._names]
        if unknown:
            near = difflib.get_close_matches(unknown[0], self._names, 1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Fields are {', '.join(sorted(self._names))}."
            msg = f"{self.data_type.__qualname__} has no field {unknown[0]!r}.{hint}"
            raise DataError(msg, path=f"$.{unknown[0]}", reason="unknown_field")


def _encoded_fields(fields: Mapping[str, object]) -> dict[str, bytes]:
    """Encode each field; DataError for a name or a value that cannot be stored."""
    check_names(fields)
    encoded: dict[str, bytes] = {}
    for name, value in fields.items():
        path = f"$.{name}"
        try:
            encoded[name] = encode_value(value, path=path)
        except RecursionError:
            msg = f"The value at {path} contains itself or is nested too deeply."
            raise DataError(msg, path=path, reason="cycle") from None
    return encoded


def _check_reserved(names: Mapping[str, bytes]) -> None:
    for name in names:
        if name.startswith("_wfe"):
            msg = f"The field {name!r} is reserved: names that begin with '_wfe' belong to the engine."
            raise DataError(msg, path=f"$.{name}", reason="reserved_name")


def _field_names(data_type: type) -> frozenset[str] | None:
    if dataclasses.is_dataclass(data_type):
        return frozenset(field.name for field in dataclasses.fields(data_type))
    names = getattr(data_type, "__struct_encode_fields__", None)
    if names is not None:
        return frozenset(names)
    if hasattr(data_type, "__attrs_attrs__"):
        return frozenset(attribute.name for attribute in cast("Any", data_type).__attrs_attrs__)
    if typing.is_typeddict(data_type):
        return frozenset(data_type.__annotations__)
    return None

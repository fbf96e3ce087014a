"""Workflow data as it is stored: one JSON document whose top-level fields are merged one by one.

A body works on a copy decoded from these bytes, and only the fields whose encoding it changed come back. JSON text is
what the bytes are, so that tuples, dates and decimals look the same to a body with and without a restart, and so that a
store can be read without wfe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from wfe.model.errors import DataError

__all__ = [
    "EMPTY_DOCUMENT",
    "Document",
    "Limits",
    "Patch",
    "check_names",
    "check_size",
    "check_text",
    "decode_plain",
    "document_of",
    "encode_typed",
    "encode_value",
    "fields_of",
    "merge",
    "patch_between",
]

Document: TypeAlias = bytes
"""JSON text of one object."""

EMPTY_DOCUMENT: Document = b"{}"


class Limits(msgspec.Struct, frozen=True, gc=False):
    """Largest sizes accepted, in bytes of JSON; and how many live pointers an instance may have."""

    max_data_bytes: int = 4 * 1024 * 1024
    max_event_bytes: int = 1024 * 1024
    max_live_pointers: int = 50_000


class Patch(msgspec.Struct, frozen=True, gc=False):
    """Fields that changed (name → JSON text) and names of fields that are gone."""

    changed: dict[str, bytes]
    removed: tuple[str, ...] = ()


_encoder = msgspec.json.Encoder()
_plain_decoder = msgspec.json.Decoder()
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_LONGEST_NAME = 100
_NAMED_DEPTH = 20

_NUL = b"\\u0000"
_NULL = b"null"


def decode_plain(document: bytes) -> object:
    """Decode JSON text to dicts, lists, strings, numbers, booleans and None."""
    return _plain_decoder.decode(document)


def fields_of(document: Document) -> dict[str, bytes]:
    """Split a document into its top-level fields, each still JSON text."""
    return {name: bytes(raw) for name, raw in _fields_decoder.decode(document).items()}


def document_of(fields: Mapping[str, bytes]) -> Document:
    """Join fields into a document."""
    return _encoder.encode({name: msgspec.Raw(text) for name, text in fields.items()})


def merge(document: Document, patch: Patch) -> Document:
    """Give the document with the patch applied."""
    fields: dict[str, bytes | msgspec.Raw] = dict(_fields_decoder.decode(document))
    for name in patch.removed:
        fields.pop(name, None)
    for name, text in patch.changed.items():
        fields[name] = msgspec.Raw(text)
    return _encoder.encode(fields)


def patch_between(before: Document, after: Document) -> Patch | None:
    """Give what changed from one document to the other; None when nothing did."""
    if before == after:
        return None
    old = _fields_decoder.decode(before)
    new = _fields_decoder.decode(after)
    changed = {name: bytes(raw) for name, raw in new.items() if name not in old or bytes(old[name]) != bytes(raw)}
    removed = tuple(name for name in old if name not in new)
    return Patch(changed, removed) if changed or removed else None


def encode_value(value: object, *, path: str = "$") -> bytes:
    """Encode a plain JSON value (of `dict` data, an output, an event) to JSON text.

    Raises:
        DataError: Something in it is no JSON value: NaN, a lone surrogate, NUL, a date, a set, an object of a class.
        `path`
            names it.
    """
    try:
        _check_plain(value, path)
        return _encoder.encode(value)
    except RecursionError as error:
        raise _explained(value, path, error) from None


def encode_typed(value: object, *, path: str = "$") -> bytes:
    """Encode an instance of a data class (dataclass, Struct, attrs, pydantic, TypedDict) to JSON text.

    Raises:
        DataError: As for `encode_value`, except that Decimal, datetime, UUID, Enum and bytes are fine here.
    """
    try:
        text = _encoder.encode(_adapted(value))
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as error:
        raise _explained(value, path, error) from error
    # The encoder writes NaN as null and NUL as an escape. Both are rare, so the walk that finds them is paid only here.
    if _NULL in text or _NUL in text:
        _check_unstorable(msgspec.to_builtins(_adapted(value), builtin_types=_KEPT), path)
    return text


def check_size(text: bytes, limit: int, what: str, *, path: str = "$") -> None:
    """Refuse JSON text above a limit.

    Raises:
        DataError: It is too large; the message names the limit, both sizes and the largest part.
    """
    if len(text) > limit:
        place, size = _largest_part(text, path)
        msg = (
            f"{what} is {len(text):,} bytes of JSON; the limit is {limit:,}. Its largest part is {place} with {size:,} "
            "bytes. Keep large values elsewhere (a file, an object store, an artifact) and store a reference."
        )
        raise DataError(msg, path=place, reason="too_large")


def _largest_part(text: bytes, path: str) -> tuple[str, int]:
    """Give path and size of the largest field or item; of a part of that, if it alone is more than half of it."""
    depth = 0
    while depth < _NAMED_DEPTH:
        parts = _parts_of(text)
        if not parts:
            break
        name, part = max(parts, key=lambda each: len(each[1]))
        if depth and len(part) * 2 < len(text):
            break
        path, text, depth = f"{path}{name}", part, depth + 1
    return path, len(text)


def _parts_of(text: bytes) -> list[tuple[str, bytes]]:
    try:
        if text.startswith(b"{"):
            return [(f".{name[:_LONGEST_NAME]}", bytes(raw)) for name, raw in _fields_decoder.decode(text).items()]
        if text.startswith(b"["):
            return [(f"[{index}]", bytes(raw)) for index, raw in enumerate(_items_decoder.decode(text))]
    except (msgspec.MsgspecError, RecursionError):
        pass  # whoever reads it will say what is wrong with it; here it is only too large
    return []


def _adapted(value: object) -> object:
    dump = getattr(value, "model_dump", None)  # a pydantic model; not a dependency, so known by its method
    # By the names of fields, and without computed ones: what is stored has to be what the model is made from again.
    return dump(mode="json", by_alias=False, round_trip=True, warnings="error") if callable(dump) else value


def check_names(fields: Mapping[str, object], path: str = "$") -> None:
    """Check the names of fields.

    Raises:
        DataError: One is no text, or cannot be stored.
    """
    for name in fields:
        if type(name) is not str:
            msg = f"Key {name!r} at {path} is a {type(name).__name__}; keys of JSON objects are strings."
            raise DataError(msg, path=path, reason="not_json")
        check_text(name, path)


def _check_plain(value: object, path: str) -> None:
    kind = type(value)
    if kind is str:
        check_text(value, path)  # type: ignore[arg-type]  # kind says so
    elif kind is dict or isinstance(value, Mapping):
        check_names(value, path)  # type: ignore[arg-type]  # a mapping
        for name, item in value.items():  # type: ignore[attr-defined]
            _check_plain(item, f"{path}.{name}")
    elif kind is list or kind is tuple:
        for index, item in enumerate(value):  # type: ignore[arg-type]  # a sequence
            _check_plain(item, f"{path}[{index}]")
    elif kind is float:
        _check_float(value, path)  # type: ignore[arg-type]  # kind says so
    elif kind is int:
        _check_int(value, path)  # type: ignore[arg-type]
    elif not (kind is bool or value is None):
        msg = (
            f"The value at {path} is a {kind.__module__}.{kind.__qualname__}, which is no JSON value. Use a typed data "
            "class (dataclass, msgspec.Struct, attrs, pydantic) to keep such values, or store text or a number."
        )
        raise DataError(msg, path=path, reason="not_json")


_KEPT = (bytes, bytearray)


def _check_unstorable(value: object, path: str) -> None:
    if isinstance(value, str):
        check_text(value, path)
    elif isinstance(value, float):
        _check_float(value, path)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if isinstance(name, str):
                check_text(name, path)
            _check_unstorable(item, f"{path}.{name}")
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            _check_unstorable(item, f"{path}[{index}]")


def _check_float(value: float, path: str) -> None:
    if not math.isfinite(value):
        msg = f"The number at {path} is {value!r}, which JSON cannot hold. Store None or text instead."
        raise DataError(msg, path=path, reason="not_finite")


_INT_LIMIT = 1 << 64


def _check_int(value: int, path: str) -> None:
    if not -(_INT_LIMIT >> 1) <= value < _INT_LIMIT:
        msg = f"The integer at {path} needs more than 64 bits. Store it as text, or as Decimal in a typed data class."
        raise DataError(msg, path=path, reason="not_json")


def check_text(value: str, path: str) -> None:
    """Refuse text that cannot be stored.

    Raises:
        DataError: It contains NUL or a lone surrogate.
    """
    if "\x00" in value:
        msg = (
            f"The text at {path} contains NUL (U+0000), which PostgreSQL cannot store. Remove it, or keep bytes as "
            "base64."
        )
        raise DataError(msg, path=path, reason="nul")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            msg = f"The text at {path} contains a lone surrogate at index {error.start}; it is not valid Unicode."
            raise DataError(msg, path=path, reason="surrogate") from None


def _explained(value: object, path: str, error: Exception) -> DataError:
    """Find the first value that cannot be encoded and name its path; the encoder names none."""
    if isinstance(error, RecursionError):
        return DataError(f"The value at {path} contains itself or is nested too deeply.", path=path, reason="cycle")
    found = _first_bad(value, path, 0)
    if found is not None:
        bad_path, bad = found
        if isinstance(bad, str):
            try:
                check_text(bad, bad_path)
            except DataError as text_error:
                return text_error
        kind = f"{type(bad).__module__}.{type(bad).__qualname__}"
        msg = f"The value at {bad_path} is a {kind}, which cannot be stored: {error}."
        return DataError(msg, path=bad_path, reason="not_json")
    why = " ".join(str(error).split())  # pydantic tells on several lines
    return DataError(f"The value at {path} cannot be stored: {why}", path=path, reason="not_json")


_MAX_DEPTH = 200


def _first_bad(value: object, path: str, depth: int) -> tuple[str, object] | None:
    if depth > _MAX_DEPTH:
        return path, value
    children: list[tuple[str, object]] = []
    is_inner_model = False  # a pydantic model is encoded only where it is the whole data
    if isinstance(value, Mapping):
        children = [(f"{path}.{name}", item) for name, item in value.items()]
    elif isinstance(value, list | tuple | set | frozenset):
        children = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    elif not isinstance(value, type):
        names = getattr(value, "__struct_fields__", None) or getattr(value, "__dataclass_fields__", None)
        model_fields = getattr(type(value), "model_fields", None)
        names, is_inner_model = names or model_fields, bool(model_fields) and depth > 0
        if names is None:
            names = [attribute.name for attribute in getattr(value, "__attrs_attrs__", ())]
        children = [(f"{path}.{name}", getattr(value, name, None)) for name in names or ()]
    for child_path, child in children:
        found = _first_bad(child, child_path, depth + 1)
        if found is not None:
            return found
    if children and not is_inner_model:
        return None
    try:
        _encoder.encode(value)
    except (TypeError, ValueError, RecursionError):
        return path, value
    return None

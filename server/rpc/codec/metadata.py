"""google.protobuf.Struct to canonical JSON and back.

Canonical: keys sorted, no spaces, text as UTF-8, whole numbers up to 2^53 without a point.
"""

from __future__ import annotations

import json
import math
from typing import Final, TypeAlias

from google.protobuf.struct_pb2 import ListValue, Struct, Value

from core.errors import InvalidInput

ENTRY_BYTES_MAX: Final = 1024
BOARD_BYTES_MAX: Final = 4096
DEPTH_MAX: Final = 16
"""Objects and lists inside each other, the outermost one counted."""

_EXACT_MAX: Final = 2.0**53
"""Above it a double no longer holds every whole number."""
_WIRE_BYTES_PER_JSON_BYTE: Final = 8
"""More than any value needs: at worst a number in a list, 11 bytes on the wire for 2 of JSON."""

Json: TypeAlias = dict[str, "Json"] | list["Json"] | str | float | int | bool | None


def decode_metadata(struct: Struct, field: str, *, bytes_max: int) -> str | None:
    """The canonical JSON of a Struct, None for an empty one. Cost: bounded before it is walked."""
    # At the wire's worst ratio such a Struct is too large as JSON in any case.
    if struct.ByteSize() > bytes_max * _WIRE_BYTES_PER_JSON_BYTE:
        raise _too_large(field, bytes_max)
    if not struct.fields:
        return None
    plain = _plain_object(struct, field, 1)
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if len(text.encode()) > bytes_max:
        raise _too_large(field, bytes_max)
    return text


def encode_metadata(text: str) -> Struct:
    """The Struct of a stored JSON object."""
    struct = Struct()
    struct.update(json.loads(text))
    return struct


def _plain_object(struct: Struct, field: str, depth: int) -> dict[str, Json]:
    _check_depth(field, depth)
    return {_text(key, field): _plain(value, field, depth) for key, value in struct.fields.items()}


def _plain_list(items: ListValue, field: str, depth: int) -> list[Json]:
    _check_depth(field, depth)
    return [_plain(value, field, depth) for value in items.values]


def _plain(value: Value, field: str, depth: int) -> Json:
    match value.WhichOneof("kind"):
        case "string_value":
            return _text(value.string_value, field)
        case "number_value":
            return _number(value.number_value, field)
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _plain_object(value.struct_value, field, depth + 1)
        case "list_value":
            return _plain_list(value.list_value, field, depth + 1)
        case "null_value":
            return None
        case _:
            raise InvalidInput(field, "has a value without a kind")


def _text(text: str, field: str) -> str:
    if "\0" in text:
        raise InvalidInput(field, "must not contain U+0000")
    return text


def _number(number: float, field: str) -> float | int:
    if not math.isfinite(number):
        raise InvalidInput(field, "must not contain NaN or infinities")
    if number.is_integer() and abs(number) <= _EXACT_MAX:
        return int(number)
    return number


def _check_depth(field: str, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise InvalidInput(field, f"must not be nested deeper than {DEPTH_MAX}")


def _too_large(field: str, bytes_max: int) -> InvalidInput:
    return InvalidInput(field, f"must be at most {bytes_max} bytes as JSON")

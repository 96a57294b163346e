"""Messages of the contract that are nearly right: of every type, from its descriptor."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.fuzz.choices import Choices

DEPTH_MAX: Final = 5
WILD: Final = 12
"""One value of so many is of those that no caller should send."""
_SOME_ID: Final = "01890a5d-ac96-774b-bcce-b302099a8057"
_TEXTS: Final = (
    *("", "arena", "board", "s1", _SOME_ID, _SOME_ID.upper(), "redis/shard-00", "redis/*", "*"),
    *("a good reason", "title", "0" * 32, "5d9f5a5e-3c4b-4d5e-8f6a-7b8c9d0e1f2a", "a" * 65),
    *("../x", "a}{b", "x\r\nFLUSHALL", "'; DROP TABLE x;--", "a\0b", "\u202ea", "\U0001f600" * 300),
    *("standings.v1.ModerationService/HideUser", "user/42", "é" * 513, "board.metadata", "5-2"),
    *("eA", "a" * 16_385, "-_" * 20, "AAAA" * 12),
)
_RIGHT_TEXTS: Final = {
    "board_id": ("arena", "b.o-a_rd1"),
    "season_id": ("", "s1"),
    "submission_id": (_SOME_ID, "", _SOME_ID.upper()),
    "operation_id": ("0" * 32,),
    "name": ("redis/shard-00", "redis/*", "*", "postgres"),
    "target": ("redis/shard-00", "*", "user/42"),
    "reason": ("a good reason",),
    "title": ("A title, ü",),
    "paths": ("title", "min_score", "metadata", "client_writes"),
    "etag": ("5-2", ""),
}
_INTEGERS: Final = (1, 0, 2, 3, 10, 42, -1, 100, 101, 999, 1000, 1001, 2**31 - 1, -(2**31))
_LARGE: Final = (2**53 + 1, 2**63 - 1, -(2**63), 253_402_300_799, 253_402_300_800, 86_401)
_RIGHT_INTEGERS: Final = (1, 2, 10)
_DOUBLES: Final = (
    *(0.0, -0.0, 100.1, -1.0, 1e308, 5e-324, 2.0**53 + 2),
    *(float("nan"), float("inf"), float("-inf")),
)
_SMALL: Final = (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32)
_UNSIGNED: Final = (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)


def filled(message: Message, choices: Choices, depth: int = 0) -> Message:
    """A message with most of its fields set, mostly to what may stand there. Of those of which only
    one may be, one is.
    """
    descriptor = message.DESCRIPTOR
    chosen = {oneof.name: choices.one_of(oneof.fields).name for oneof in descriptor.oneofs}
    for field in descriptor.fields:
        oneof = field.containing_oneof
        if choices.below(8) < depth + 1 or (oneof and chosen[oneof.name] != field.name):
            continue
        if field.message_type is not None:
            if depth < DEPTH_MAX:
                _fill_messages(message, field, choices, depth)
        elif field.is_repeated:
            count = choices.below(4)
            getattr(message, field.name).extend(_scalar(field, choices) for _ in range(count))
        else:
            setattr(message, field.name, _scalar(field, choices))
    return message


def _fill_messages(message: Message, field: FieldDescriptor, choices: Choices, depth: int) -> None:
    part: Any = getattr(message, field.name)
    if not field.is_repeated:
        part.SetInParent()
        filled(part, choices, depth + 1)
    elif field.message_type.GetOptions().map_entry:
        for _ in range(choices.below(3)):
            filled(part[choices.one_of(("a", "b", "", "ü"))], choices, depth + 1)
    else:
        for _ in range(choices.below(3)):
            filled(part.add(), choices, depth + 1)


def _scalar(field: FieldDescriptor, choices: Choices) -> Any:
    return (_wild if choices.chance(WILD) else _right)(field, choices)


def _right(field: FieldDescriptor, choices: Choices) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            value: Any = b"bytes"
        case FieldDescriptor.CPPTYPE_STRING:
            value = choices.one_of(_RIGHT_TEXTS.get(field.name, ("",)))
        case FieldDescriptor.CPPTYPE_BOOL:
            value = bool(choices.below(2))
        case FieldDescriptor.CPPTYPE_ENUM:
            value = choices.one_of(tuple(field.enum_type.values_by_number))
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            value = choices.one_of((0.5, 1.0))
        case _:
            value = 0 if field.name == "nanos" else choices.one_of(_RIGHT_INTEGERS)
    return value


def _wild(field: FieldDescriptor, choices: Choices) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            value: Any = choices.some_bytes(20)
        case FieldDescriptor.CPPTYPE_STRING if choices.chance(3):
            value = choices.some_bytes(30).decode(errors="replace")
        case FieldDescriptor.CPPTYPE_STRING:
            value = choices.one_of(_TEXTS)
        case FieldDescriptor.CPPTYPE_BOOL:
            value = bool(choices.below(2))
        case FieldDescriptor.CPPTYPE_ENUM:
            value = choices.one_of((999, -1))
        case FieldDescriptor.CPPTYPE_DOUBLE:
            value = choices.one_of(_DOUBLES)
        case FieldDescriptor.CPPTYPE_FLOAT:
            value = float(choices.below(7) - 3)
        case kind:
            value = choices.one_of(_INTEGERS if kind in _SMALL else (*_INTEGERS, *_LARGE))
            value = abs(value) if kind in _UNSIGNED else value
    return value

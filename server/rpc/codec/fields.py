"""Checks of single fields that several messages share, and the times and words they carry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import Final, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from core.errors import InvalidInput

TOKEN_CHARS_MAX: Final = 16_384
"""Page and consistency tokens. The longest of ours is that of a batch whose 1,000 submissions were
recorded in as many transactions."""
ETAG_CHARS_MAX: Final = 64

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_NAME_RULE: Final = "must match [a-z0-9][a-z0-9_.-]{0,63}"
_TOKEN: Final = re.compile(r"[!-~]*")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters, line separators, and the marks that turn the direction of text around."""

EnumT = TypeVar("EnumT", bound=IntEnum)


def board_id(value: str, field: str = "board_id") -> str:
    """A board's name."""
    if _NAME.fullmatch(value) is None:
        raise InvalidInput(field, _NAME_RULE)
    return value


def season_id(value: str, field: str) -> str:
    """A season's name, or nothing."""
    if value and _NAME.fullmatch(value) is None:
        raise InvalidInput(field, f"{_NAME_RULE}, or be empty")
    return value


def user_id(value: int, field: str = "user_id") -> int:
    """A user. The wire type is int64, so only the lower bound is left to check."""
    if value < 1:
        raise InvalidInput(field, "must be 1 to 2^63-1")
    return value


def known(words: Mapping[int, EnumT], value: int, field: str) -> EnumT:
    """The word behind an enum value; `words` says what UNSPECIFIED (0) means, if anything."""
    word = words.get(value)
    if word is None:
        raise InvalidInput(field, f"{value} is not a value of this enum")
    return word


def words_of(enum: type[EnumT], *, default: EnumT) -> Mapping[int, EnumT]:
    """The values of an enum of the contract, with what UNSPECIFIED stands for."""
    return {0: default, **{word.value: word for word in enum}}


def page_size(value: int, *, default: int, largest: int = 1000) -> int:
    """How many items are wanted. Too many are refused, so that a short page means the end."""
    if not 0 <= value <= largest:
        raise InvalidInput("page_size", f"must be 1 to {largest}, or 0 for {default}")
    return value or default


def token(value: str, field: str, *, chars_max: int = TOKEN_CHARS_MAX) -> str:
    """A token that we gave out, as far as its looks go; empty stays empty."""
    if len(value) > chars_max or _TOKEN.fullmatch(value) is None:
        raise InvalidInput(field, f"must be at most {chars_max} printable ASCII characters")
    return value


def is_plain_text(value: str) -> bool:
    """Whether a text for people is one line without surprises."""
    return _CONTROL.search(value) is None


def duration(time_ms: int) -> Duration:
    """A span in ms."""
    seconds, ms = divmod(time_ms, 1000)
    return Duration(seconds=seconds, nanos=ms * 1_000_000)


def put_ms(time: Timestamp | Duration, time_ms: int) -> None:
    """Fills in a moment in ms since the epoch, or a duration in ms; 0 is told as well."""
    seconds, ms = divmod(time_ms, 1000)
    time.seconds = seconds
    time.nanos = ms * 1_000_000


def timestamp(time_ms: int) -> Timestamp:
    """A moment in ms since the epoch."""
    seconds, ms = divmod(time_ms, 1000)
    return Timestamp(seconds=seconds, nanos=ms * 1_000_000)

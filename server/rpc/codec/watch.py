"""Questions that are followed in, what happens out."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from core.errors import InvalidInput
from core.types import RankMode, ReadOptions
from core.watch_entries import WatchMessage, WatchTarget
from server.rpc.codec import entries, fields
from standings.v1 import ranking_service_pb2 as pb

TOP_COUNT_MAX: Final = 1000
USER_COUNT_MAX: Final = 100
INTERVAL_DEFAULT_MS: Final = 1_000
INTERVAL_MIN_MS: Final = 100
INTERVAL_MAX_MS: Final = 60_000

_OPTIONS_TAKEN: Final = frozenset({"rank_mode", "season_id"})
_RANK_MODES: Final = fields.words_of(RankMode, default=RankMode.ORDINAL)
_NANOS_PER_MS: Final = 1_000_000
_NANOS_PER_S: Final = 1_000_000_000
_ENCODED_MAX: Final = 32
"""Messages whose encoded form is kept: what many are told at once is encoded once."""


def decode_target(request: pb.WatchEntriesRequest) -> WatchTarget:
    """What is followed; each user once, in ascending order."""
    if request.top_count and request.user_ids:
        raise InvalidInput("top_count", "must not be set together with user_ids")
    if not request.user_ids:
        if not 1 <= request.top_count <= TOP_COUNT_MAX:
            raise InvalidInput("top_count", f"must be 1 to {TOP_COUNT_MAX}, or user_ids be set")
        return WatchTarget(top_count=request.top_count)
    if len(request.user_ids) > USER_COUNT_MAX:
        raise InvalidInput("user_ids", f"must be 1 to {USER_COUNT_MAX} items")
    for index, user_id in enumerate(request.user_ids):
        fields.user_id(user_id, f"user_ids[{index}]")
    return WatchTarget(user_ids=tuple(sorted(set(request.user_ids))))


def decode_interval_ms(request: pb.WatchEntriesRequest) -> int:
    """The least time between two messages with changes, rounded up to ms."""
    if not request.HasField("min_interval"):
        return INTERVAL_DEFAULT_MS
    given = request.min_interval
    nanos = given.seconds * _NANOS_PER_S + given.nanos
    well_formed = given.seconds >= 0 and 0 <= given.nanos < _NANOS_PER_S
    if not well_formed or not INTERVAL_MIN_MS <= nanos / _NANOS_PER_MS <= INTERVAL_MAX_MS:
        raise InvalidInput("min_interval", "must be 0.1 s to 60 s")
    return -(-nanos // _NANOS_PER_MS)


def decode_options(request: pb.WatchEntriesRequest) -> ReadOptions:
    """How the entries are read; whatever has no meaning for a watch is refused by name."""
    for field, _ in request.options.ListFields():
        if field.name not in _OPTIONS_TAKEN:
            raise InvalidInput(f"options.{field.name}", "must not be set for a watch")
    options = request.options
    return ReadOptions(
        rank_mode=fields.known(_RANK_MODES, options.rank_mode, "options.rank_mode"),
        season_id=fields.season_id(options.season_id, "options.season_id"),
    )


@lru_cache(maxsize=_ENCODED_MAX)
def encode_message(message: WatchMessage) -> pb.WatchEntriesResponse:
    """A message; the same object for the same message, which nobody may change."""
    response = pb.WatchEntriesResponse(
        event=pb.WatchEvent.ValueType(message.event),
        removed_user_ids=message.removed_user_ids,
        resume_token=message.resume_token,
    )
    entries.put_entries(response.entries, message.entries, message.meta)
    entries.put_meta(response.meta, message.meta)
    return response

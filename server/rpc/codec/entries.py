"""Questions about entries in, entries and what answers say about themselves out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from google.protobuf.duration_pb2 import Duration
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

from core.errors import InvalidInput
from core.types import (
    ANY_SCORE,
    SHARD_COUNT,
    EntryView,
    Exactness,
    RankedEntry,
    RankMode,
    ReadMeta,
    ReadOptions,
    ScorePoint,
    ScoreRange,
    Standing,
)
from server.rpc.codec import fields
from server.rpc.codec.metadata import encode_metadata
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2 as types_pb

USER_COUNT_MAX: Final = 1000
PAGE_SIZE_DEFAULT: Final = 10
STALENESS_MAX_MS: Final = 86_400_000
"""A day: nothing that old is ever kept ready."""

ReadRequest: TypeAlias = (
    pb.GetEntryRequest
    | pb.BatchGetEntriesRequest
    | pb.ListEntriesRequest
    | pb.ListEntriesAroundRequest
    | pb.EstimateRankRequest
    | pb.GetPercentileRequest
)
"""Every request that says by `options` how it is to be answered."""

_RANK_MODES: Final = fields.words_of(RankMode, default=RankMode.ORDINAL)
_VIEWS: Final = fields.words_of(EntryView, default=EntryView.BASIC)
_NANOS_PER_MS: Final = 1_000_000
_NANOS_PER_S: Final = 1_000_000_000
_DEFAULT_OPTIONS: Final = ReadOptions()


def decode_options(request: ReadRequest) -> ReadOptions:
    """How a read is to be answered."""
    if not request.HasField("options"):
        return _DEFAULT_OPTIONS
    options = request.options
    max_staleness_ms = None
    if options.HasField("max_staleness"):
        max_staleness_ms = _staleness_ms(options.max_staleness)
    return ReadOptions(
        rank_mode=fields.known(_RANK_MODES, options.rank_mode, "options.rank_mode"),
        view=fields.known(_VIEWS, options.view, "options.view"),
        consistency_token=fields.token(options.consistency_token, "options.consistency_token"),
        season_id=fields.season_id(options.season_id, "options.season_id"),
        max_staleness_ms=max_staleness_ms,
        viewer_user_id=_viewer(options.viewer_user_id),
        allow_partial=options.allow_partial,
    )


def decode_user_ids(user_ids: Sequence[int]) -> tuple[int, ...]:
    """The users of a list in the order asked, a repeated one once; nobody has no friends to ask
    for, and gets an empty answer.
    """
    if len(user_ids) > USER_COUNT_MAX:
        raise InvalidInput("user_ids", f"must be at most {USER_COUNT_MAX} items")
    for index, user_id in enumerate(user_ids):
        fields.user_id(user_id, f"user_ids[{index}]")
    return tuple(dict.fromkeys(user_ids))


def decode_start_rank(request: pb.ListEntriesRequest) -> int | None:
    """The rank a page begins at, None where it goes on from a token or begins at the top."""
    if not request.HasField("start_rank"):
        return None
    if request.page_token:
        raise InvalidInput("start_rank", "must not be set together with page_token")
    if request.start_rank < 1:
        raise InvalidInput("start_rank", "must be at least 1")
    return request.start_rank


def decode_scores(request: pb.ListEntriesRequest) -> ScoreRange:
    """The range of scores that a page keeps to."""
    low = request.min_score if request.HasField("min_score") else None
    high = request.max_score if request.HasField("max_score") else None
    if low is high is None:
        return ANY_SCORE
    if low is not None and high is not None and low > high:
        raise InvalidInput("min_score", "must not be greater than max_score")
    return ScoreRange(low, high)


def decode_score_point(point: pb.ScorePoint) -> ScorePoint:
    """A result whose score is said."""
    if not point.HasField("score"):
        raise InvalidInput("score_point.score", "is required")
    return ScorePoint(point.score, point.subscore)


def put_standing(entry: types_pb.Entry, standing: Standing, *, rank: int = 0) -> None:
    """Fills an entry where it stands in its answer: one that is made first is copied there. What
    only PostgreSQL knows is set where the standing carries it.
    """
    entry.user_id = standing.user_id
    entry.score = standing.score
    entry.subscore = standing.subscore
    fields.put_ms(entry.achieve_time, standing.achieve_time_ms)
    if rank:
        entry.rank = entry.rank_low = entry.rank_high = rank
    if standing.update_time_ms is not None:
        entry.submission_count = standing.submission_count
        fields.put_ms(entry.update_time, standing.update_time_ms)
        if standing.metadata is not None:
            entry.metadata.CopyFrom(encode_metadata(standing.metadata))


def put_entry(entry: types_pb.Entry, ranked: RankedEntry, meta: ReadMeta) -> None:
    """Fills an entry with its rank, and how well the answer knows it."""
    put_standing(entry, ranked.standing, rank=ranked.rank)
    if ranked.list_rank:
        entry.list_rank = ranked.list_rank
    if meta.exactness is not Exactness.EXACT:
        entry.rank_low, entry.rank_high = bounds_of(ranked.rank, meta)
    if ranked.hidden:
        entry.hidden = True


def put_entries(
    entries: RepeatedCompositeFieldContainer[types_pb.Entry],
    ranked: Iterable[RankedEntry],
    meta: ReadMeta,
) -> None:
    """Fills in the entries of an answer."""
    for each in ranked:
        put_entry(entries.add(), each, meta)


def bounds_of(rank: int, meta: ReadMeta) -> tuple[int, int]:
    """The best and the worst that a rank of an answer can be."""
    return max(1, rank - meta.fewer), rank + meta.more


def put_meta(told: types_pb.ReadMeta, meta: ReadMeta) -> None:
    """Fills in what an answer says about itself."""
    fields.put_ms(told.as_of, meta.as_of_ms)
    told.source = types_pb.Source.ValueType(meta.source)
    told.exactness = types_pb.Exactness.ValueType(meta.exactness)
    told.stale = meta.staleness_ms > 0
    fields.put_ms(told.staleness, meta.staleness_ms)
    told.epoch = meta.epoch
    told.shards_answered = SHARD_COUNT - len(meta.shards_missing)
    told.shards_missing.extend(meta.shards_missing)
    told.season_id = meta.season_id
    told.entry_count = meta.entry_count


def encode_meta(meta: ReadMeta) -> types_pb.ReadMeta:
    """What an answer says about itself, by itself."""
    told = types_pb.ReadMeta()
    put_meta(told, meta)
    return told


def _viewer(user_id: int) -> int:
    if user_id < 0:
        raise InvalidInput("options.viewer_user_id", "must be 1 to 2^63-1, or 0 for nobody")
    return user_id


def _staleness_ms(duration: Duration) -> int:
    """A duration rounded down to ms: fresher than asked is never wrong."""
    well_formed = duration.seconds >= 0 and 0 <= duration.nanos < _NANOS_PER_S
    nanos = duration.seconds * _NANOS_PER_S + duration.nanos
    if not well_formed or nanos > STALENESS_MAX_MS * _NANOS_PER_MS:
        raise InvalidInput("options.max_staleness", "must be 0 s to 86400 s")
    return nanos // _NANOS_PER_MS

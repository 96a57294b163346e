"""Questions about places on a board in, what stands there and what it takes to get there out."""

from __future__ import annotations

import math
from typing import Final

from core.errors import InvalidInput
from core.estimate_rank import RankEstimate, RankTarget
from core.get_percentile import Percentile
from core.list_entries_around import EntryWindow
from core.types import ScorePoint
from server.rpc.codec import entries, fields
from standings.v1 import ranking_service_pb2 as pb

SIDE_MAX: Final = 100
SIDE_DEFAULT: Final = 5
PERCENT_MAX: Final = 100.0


def decode_center(request: pb.ListEntriesAroundRequest) -> int | ScorePoint:
    """The user, or the result, that a window is around."""
    match request.WhichOneof("center"):
        case "user_id":
            return fields.user_id(request.user_id)
        case "score_point":
            return entries.decode_score_point(request.score_point)
        case _:
            raise InvalidInput("center", "one of user_id and score_point is required")


def decode_sides(request: pb.ListEntriesAroundRequest) -> tuple[int, int]:
    """How many entries are wanted above and below."""
    above = request.above if request.HasField("above") else SIDE_DEFAULT
    below = request.below if request.HasField("below") else SIDE_DEFAULT
    for name, value in (("above", above), ("below", below)):
        if not 0 <= value <= SIDE_MAX:
            raise InvalidInput(name, f"must be 0 to {SIDE_MAX}")
    return above, below


def encode_window(window: EntryWindow) -> pb.ListEntriesAroundResponse:
    """The entries around a place."""
    response = pb.ListEntriesAroundResponse()
    entries.put_entries(response.entries, window.entries, window.meta)
    entries.put_meta(response.meta, window.meta)
    return response


def decode_estimate(
    request: pb.EstimateRankRequest,
) -> tuple[ScorePoint, int | None, float | None]:
    """The result, the target rank and the target percent that are asked about."""
    if not request.HasField("score"):
        raise InvalidInput("score", "is required")
    rank = request.target_rank if request.HasField("target_rank") else None
    if rank is not None and rank < 1:
        raise InvalidInput("target_rank", "must be at least 1")
    percent = None
    if request.HasField("target_percent"):
        percent = _percent(request.target_percent, "target_percent")
    return ScorePoint(request.score, request.subscore), rank, percent


def encode_estimate(estimate: RankEstimate) -> pb.EstimateRankResponse:
    """What a result would be worth."""
    rank_low, rank_high = entries.bounds_of(estimate.rank, estimate.meta)
    return pb.EstimateRankResponse(
        rank=estimate.rank,
        rank_low=rank_low,
        rank_high=rank_high,
        next=_target(estimate.next),
        for_rank=_target(estimate.for_rank),
        for_percent=_target(estimate.for_percent),
        meta=entries.encode_meta(estimate.meta),
    )


def decode_percentile(request: pb.GetPercentileRequest) -> float | ScorePoint:
    """The percent, or the result, that is asked about."""
    match request.WhichOneof("point"):
        case "percent":
            return _percent(request.percent, "percent")
        case "score_point":
            return entries.decode_score_point(request.score_point)
        case _:
            raise InvalidInput("point", "one of percent and score_point is required")


def encode_percentile(percentile: Percentile) -> pb.GetPercentileResponse:
    """Where a result stands among all."""
    point = percentile.point
    return pb.GetPercentileResponse(
        percent=percentile.percent,
        rank=percentile.rank,
        score_point=None
        if point is None
        else pb.ScorePoint(score=point.score, subscore=point.subscore),
        meta=entries.encode_meta(percentile.meta),
    )


def _percent(value: float, field: str) -> float:
    if math.isnan(value) or not 0 < value <= PERCENT_MAX:
        raise InvalidInput(field, "must be above 0 and at most 100")
    return value


def _target(target: RankTarget | None) -> pb.RankTarget | None:
    if target is None:
        return None
    return pb.RankTarget(
        rank=target.rank,
        score=target.score,
        subscore=target.subscore,
        score_needed=target.score_needed,
        score_gap=target.score_gap,
        reached=target.reached,
    )

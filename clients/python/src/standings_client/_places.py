"""Questions about places on a board, between the client's values and the contract. Pure."""

from __future__ import annotations

from typing import Unpack

from standings.v1 import ranking_service_pb2 as pb
from standings_client import _codec
from standings_client.types import (
    AroundOptions,
    EntriesAroundAnswer,
    EstimateOptions,
    Percentile,
    RankEstimate,
    RankTarget,
    ReadOptions,
    ScorePoint,
)


def list_entries_around_request(
    board_id: str,
    *,
    user_id: int | None,
    score: int | None,
    subscore: int,
    **options: Unpack[AroundOptions],
) -> pb.ListEntriesAroundRequest:
    """Asks for the entries around one user or one result. Raises ValueError if not one of both."""
    if (user_id is None) == (score is None):
        raise ValueError("exactly one of user_id and score")
    request = pb.ListEntriesAroundRequest(
        board_id=board_id,
        above=options.get("above"),
        below=options.get("below"),
        options=_codec.read_options(options),
    )
    if user_id is not None:
        request.user_id = user_id
    if score is not None:
        request.score_point.CopyFrom(pb.ScorePoint(score=score, subscore=subscore))
    return request


def entries_around(response: pb.ListEntriesAroundResponse) -> EntriesAroundAnswer:
    """The entries around a place."""
    return EntriesAroundAnswer(
        entries=_codec.entry_values(response.entries), meta=_codec.meta_value(response.meta)
    )


def estimate_rank_request(
    board_id: str, score: int, subscore: int, **options: Unpack[EstimateOptions]
) -> pb.EstimateRankRequest:
    """Asks what a result would be worth."""
    return pb.EstimateRankRequest(
        board_id=board_id,
        score=score,
        subscore=subscore,
        target_rank=options.get("target_rank"),
        target_percent=options.get("target_percent"),
        options=_codec.read_options(options),
    )


def rank_estimate(response: pb.EstimateRankResponse) -> RankEstimate:
    """What a result would be worth."""
    return RankEstimate(
        rank=response.rank,
        rank_low=response.rank_low,
        rank_high=response.rank_high,
        next=_target(response.next) if response.HasField("next") else None,
        for_rank=_target(response.for_rank) if response.HasField("for_rank") else None,
        for_percent=_target(response.for_percent) if response.HasField("for_percent") else None,
        meta=_codec.meta_value(response.meta),
    )


def get_percentile_request(
    board_id: str,
    percent: float | None,
    *,
    score: int | None,
    subscore: int,
    **options: Unpack[ReadOptions],
) -> pb.GetPercentileRequest:
    """Asks by percent or by result. Raises ValueError unless it is one of both."""
    if (percent is None) == (score is None):
        raise ValueError("exactly one of percent and score")
    request = pb.GetPercentileRequest(board_id=board_id, options=_codec.read_options(options))
    if percent is not None:
        request.percent = percent
    if score is not None:
        request.score_point.CopyFrom(pb.ScorePoint(score=score, subscore=subscore))
    return request


def percentile(response: pb.GetPercentileResponse) -> Percentile:
    """Where a result stands among all."""
    point = response.score_point
    return Percentile(
        percent=response.percent,
        rank=response.rank,
        point=(
            ScorePoint(point.score, point.subscore) if response.HasField("score_point") else None
        ),
        meta=_codec.meta_value(response.meta),
    )


def _target(target: pb.RankTarget) -> RankTarget:
    return RankTarget(
        rank=target.rank,
        score=target.score if target.HasField("score") else None,
        subscore=target.subscore if target.HasField("subscore") else None,
        score_needed=target.score_needed if target.HasField("score_needed") else None,
        score_gap=target.score_gap,
        reached=target.reached,
    )

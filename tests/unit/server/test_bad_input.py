"""Bad input over the wire: the right answer, no use case touched, and the next call works."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from standings.v1 import board_service_pb2 as board_pb
from standings.v1 import moderation_service_pb2 as mod_pb
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2
from tests.unit.server.fakes import Serving, details_of, submission

INVALID = grpc.StatusCode.INVALID_ARGUMENT
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
RANKING = "/standings.v1.RankingService/"
BOARD = "/standings.v1.BoardService/"
MODERATION = "/standings.v1.ModerationService/"


def field(number: int, wire_type: int, payload: bytes) -> bytes:
    """One field in protobuf's wire format."""
    return bytes([number << 3 | wire_type]) + payload


def submit(**fields: Any) -> tuple[str, bytes]:
    """A submission with some fields changed."""
    return RANKING + "SubmitScore", submission(**fields).SerializeToString()


def raw_submit(payload: bytes) -> tuple[str, bytes]:
    """Bytes that come as a submission."""
    return RANKING + "SubmitScore", payload


def of(path: str, message: Message) -> tuple[str, bytes]:
    """Some other request."""
    return path, message.SerializeToString()


def get_entry(**options: Any) -> tuple[str, bytes]:
    """A read with options."""
    request = pb.GetEntryRequest(
        board_id="arena", user_id=1, options=types_pb2.ReadOptions(**options)
    )
    return of(RANKING + "GetEntry", request)


def list_entries(**fields: Any) -> tuple[str, bytes]:
    """A page."""
    return of(RANKING + "ListEntries", pb.ListEntriesRequest(board_id="arena", **fields))


GOOD = submission().SerializeToString()
UNKNOWN_FIELD = 100 << 3 | 2
CASES = {
    "an empty message": (submit(board_id="", user_id=0, score=None), "board_id"),
    "no bytes at all": (raw_submit(b""), "board_id"),
    "no score": (submit(score=None), "score"),
    "submission_id of 256 bytes": (submit(submission_id="a" * 256), "submission_id"),
    "submission_id with NUL": (submit(submission_id="a\0"), "submission_id"),
    "submission_id from right to left": (submit(submission_id="\u202ea"), "submission_id"),
    "a string that is not UTF-8": (raw_submit(GOOD + field(5, 2, b"\x02\xff\xfe")), "request"),
    "user_id 0": (submit(user_id=0), "user_id"),
    "user_id -1": (submit(user_id=-1), "user_id"),
    "user_id 2^63": (raw_submit(GOOD + field(2, 0, b"\x80" * 9 + b"\x01")), "user_id"),
    "a double for a score": (raw_submit(field(3, 1, bytes(8))), "board_id"),
    "a path for a board": (submit(board_id="../x"), "board_id"),
    "braces": (submit(board_id="a}{b"), "board_id"),
    "a hash tag": (submit(board_id="{s0}"), "board_id"),
    "SQL": (submit(board_id="'; DROP TABLE x;--"), "board_id"),
    "a Redis command": (submit(board_id="x\r\nFLUSHALL"), "board_id"),
    "Lua": (submit(board_id="redis.call('flushall')"), "board_id"),
    "a board of 1 MB": (submit(board_id="a" * 1_000_000), "board_id"),
    "metadata of 1,000 entries": (
        submit(metadata={str(i): True for i in range(1000)}),
        "metadata",
    ),
    "an unknown operator": (submit(operator=999), "operator"),
    "a truncated message": (raw_submit(GOOD[:-1]), "request"),
    "a wrong wire type": (raw_submit(GOOD + field(1, 5, b"abc")), "request"),
    "200 groups in each other": (raw_submit(bytes([10 << 3 | 3]) * 200), "request"),
    "a field number of 0": (raw_submit(b"\x00\x00"), "request"),
    "a batch of 0": (
        of(RANKING + "BatchSubmitScores", pb.BatchSubmitScoresRequest()),
        "submissions",
    ),
    "a batch of 1,001": (
        of(
            RANKING + "BatchSubmitScores",
            pb.BatchSubmitScoresRequest(submissions=[submission()] * 1001),
        ),
        "submissions",
    ),
    "a read of no user": (of(RANKING + "GetEntry", pb.GetEntryRequest(board_id="a")), "user_id"),
    "a list of 1,001 users": (
        of(
            RANKING + "BatchGetEntries",
            pb.BatchGetEntriesRequest(board_id="a", user_ids=[1] * 1001),
        ),
        "user_ids",
    ),
    "a range turned around": (list_entries(min_score=2, max_score=1), "min_score"),
    "a window around nothing": (
        of(RANKING + "ListEntriesAround", pb.ListEntriesAroundRequest(board_id="a")),
        "center",
    ),
    "a window of 101": (
        of(
            RANKING + "ListEntriesAround",
            pb.ListEntriesAroundRequest(board_id="a", user_id=1, above=101),
        ),
        "above",
    ),
    "an estimate of nothing": (
        of(RANKING + "EstimateRank", pb.EstimateRankRequest(board_id="a")),
        "score",
    ),
    "a percentile of NaN": (
        of(
            RANKING + "GetPercentile",
            pb.GetPercentileRequest(board_id="a", percent=float("nan")),
        ),
        "percent",
    ),
    "a deletion of no user": (
        of(RANKING + "DeleteEntry", pb.DeleteEntryRequest(board_id="a")),
        "user_id",
    ),
    "a deletion under a random id": (
        of(
            RANKING + "DeleteEntry",
            pb.DeleteEntryRequest(
                board_id="a", user_id=1, submission_id="5d9f5a5e-3c4b-4d5e-8f6a-7b8c9d0e1f2a"
            ),
        ),
        "submission_id",
    ),
    "a viewer of -1": (get_entry(viewer_user_id=-1), "options.viewer_user_id"),
    "nobody to hide": (of(MODERATION + "HideUser", mod_pb.HideUserRequest()), "user_id"),
    "a reason of 513": (
        of(MODERATION + "HideUser", mod_pb.HideUserRequest(user_id=1, reason="a" * 513)),
        "reason",
    ),
    "a reason of two lines": (
        of(MODERATION + "RestoreUser", mod_pb.RestoreUserRequest(user_id=1, reason="a\nb")),
        "reason",
    ),
    "an unknown erasure": (
        of(MODERATION + "DeleteUser", mod_pb.DeleteUserRequest(user_id=1, erasure=9)),  # type: ignore[arg-type]
        "erasure",
    ),
    "a page of -1": (list_entries(page_size=-1), "page_size"),
    "a page of 1,001": (list_entries(page_size=1001), "page_size"),
    "a page of 2^31-1": (list_entries(page_size=2**31 - 1), "page_size"),
    "a page token with controls": (list_entries(page_token="a\0b"), "page_token"),
    "rank 0": (list_entries(start_rank=0), "start_rank"),
    "negative staleness": (get_entry(max_staleness=Duration(seconds=-1)), "options.max_staleness"),
    "ten years of staleness": (
        get_entry(max_staleness=Duration(seconds=315_360_000)),
        "options.max_staleness",
    ),
    "an unknown rank mode": (get_entry(rank_mode=999), "options.rank_mode"),
    "no board to make": (of(BOARD + "CreateBoard", board_pb.CreateBoardRequest()), "board"),
    "a board without name": (of(BOARD + "GetBoard", board_pb.GetBoardRequest()), "board_id"),
    "a change without board": (
        of(BOARD + "UpdateBoard", board_pb.UpdateBoardRequest()),
        "board.board_id",
    ),
    "a page of 1,001 boards": (
        of(BOARD + "ListBoards", board_pb.ListBoardsRequest(page_size=1001)),
        "page_size",
    ),
    "an end without name": (of(BOARD + "DeleteBoard", board_pb.DeleteBoardRequest()), "board_id"),
}


@pytest.mark.parametrize(("request_", "field_"), CASES.values(), ids=CASES.keys())
async def test_bad_input(serving: Serving, request_: tuple[str, bytes], field_: str) -> None:
    """The field is named, nothing is touched, and a good call right after succeeds."""
    path, payload = request_
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await serving.channel.unary_unary(path)(payload)
    (violation,) = details_of(caught.value)["BadRequest"].field_violations

    assert (INVALID, field_) == (caught.value.code(), violation.field)
    assert serving.fakes.calls == []
    assert (await serving.ranking.SubmitScore(submission())).submission_id


GOOD_CASES = {
    "user_id 2^63-1": submit(user_id=2**63 - 1),
    "a score past 2^53": submit(score=2**53 + 1),
    "-0.0 in metadata": submit(metadata={"a": -0.0}),
    "200 KiB of unknown fields": raw_submit(
        GOOD
        + bytes([UNKNOWN_FIELD & 0x7F | 0x80, UNKNOWN_FIELD >> 7])
        + b"\x80\xc0\x0c"
        + bytes(204_800)
    ),
    "the same user twice": of(
        RANKING + "BatchSubmitScores", pb.BatchSubmitScoresRequest(submissions=[submission()] * 2)
    ),
    "a bad item over 16 shards": of(
        RANKING + "BatchSubmitScores",
        pb.BatchSubmitScoresRequest(submissions=[submission(user_id=i) for i in range(17)]),
    ),
}


@pytest.mark.parametrize("request_", GOOD_CASES.values(), ids=GOOD_CASES.keys())
async def test_strange_but_good_input(serving: Serving, request_: tuple[str, bytes]) -> None:
    """What the contract allows reaches its use case."""
    path, payload = request_
    await serving.channel.unary_unary(path)(payload)

    assert serving.fakes.calls == ["submit_scores"]

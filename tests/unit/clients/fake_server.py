"""A server on a loopback port that answers as a test told it, and remembers what it was asked."""

from __future__ import annotations

import queue
import threading
from collections import defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from standings.v1 import board_service_pb2 as boards_pb
from standings.v1 import (
    board_service_pb2_grpc,
    moderation_service_pb2_grpc,
    ranking_service_pb2_grpc,
    types_pb2,
)
from standings.v1 import moderation_service_pb2 as moderation_pb
from standings.v1 import ranking_service_pb2 as pb


def status_of(
    code: grpc.StatusCode,
    reason: str = "",
    *,
    metadata: Any = None,
    violations: Any = (),
    retry_s: float | None = None,
    domain: str = "standings",
) -> status_pb2.Status:
    """A google.rpc.Status as the service writes it."""
    status = status_pb2.Status(code=code.value[0], message="told by the test")
    if reason or metadata:
        info = error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata)
        status.details.add().Pack(info)
    if violations:
        fields = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
            for field, description in violations
        ]
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=fields))
    if retry_s is not None:
        delay = Duration()
        delay.FromMilliseconds(int(retry_s * 1000))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def refuse(
    code: grpc.StatusCode,
    reason: str = "",
    *,
    pushback: str | None = None,
    trailers: Any = (),
    **details: Any,
) -> Any:
    """A handler that ends the call with a status, its details and trailers."""
    status = status_of(code, reason, **details)
    sent = [("grpc-status-details-bin", status.SerializeToString()), *trailers]
    if pushback is not None:
        sent.append(("grpc-retry-pushback-ms", pushback))

    def handler(request: Any, context: Any) -> Any:
        context.set_trailing_metadata(tuple(sent))
        context.abort(code, status.message)

    return handler


def applied(request: Any) -> Any:
    """The plain answer to one submission."""
    return pb.SubmitScoreResponse(
        outcome=types_pb2.OUTCOME_APPLIED,
        first_outcome=types_pb2.OUTCOME_APPLIED,
        entry=types_pb2.Entry(user_id=request.user_id, score=request.score),
        indexed=True,
        consistency_token="token",
        submission_id=request.submission_id,
    )


def acknowledged(message: Any) -> Any:
    """The plain acknowledgement of one message of a stream."""
    return pb.StreamSubmitScoresResponse(
        sequence=message.sequence,
        results=[pb.BatchSubmitResult(response=applied(one)) for one in message.submissions],
    )


def _answer_all(messages: Any, context: Any) -> Any:
    for message in messages:
        yield acknowledged(message)


class Tap:
    """A stream of a watch that says what a test tells it to.

    `opened`: a client came. `ended`: the stream is over.
    """

    def __init__(self, *messages: Any) -> None:
        self.opened = threading.Event()
        self.ended = threading.Event()
        self._script = queue.SimpleQueue()
        self.say(*messages)

    def say(self, *messages: Any) -> None:
        """Sends messages; a handler is called for one, or ends the stream as `refuse` does."""
        for message in messages:
            self._script.put(message)

    def end(self) -> None:
        """Ends the stream without an error."""
        self._script.put(None)

    def __call__(self, request: Any, context: Any) -> Any:
        """The handler of the stream."""
        if not context.add_callback(self.end):
            return
        self.opened.set()
        try:
            while (message := self._script.get()) is not None:
                yield message(request, context) if callable(message) else message
        finally:
            self.ended.set()


class Fake(
    ranking_service_pb2_grpc.RankingServiceServicer,
    board_service_pb2_grpc.BoardServiceServicer,
    moderation_service_pb2_grpc.ModerationServiceServicer,
):
    """Answers each method by its next handler, then by `plain`; `asked` holds the requests."""

    def __init__(self) -> None:
        self.asked = defaultdict(list)
        self.remaining_s = defaultdict(list)
        self.handlers = defaultdict(deque)
        self.streams = deque()
        self.watches = deque()
        self.received = []
        self.released = threading.Event()

    def tell(self, method: str, *handlers: Any) -> None:
        """Answers the next calls of `method` by these: a handler, or a response."""
        self.handlers[method].extend(handlers)

    def tell_stream(self, *handlers: Any) -> None:
        """Answers the next streams by these generator functions of (messages, context)."""
        self.streams.extend(handlers)

    def tell_watch(self, *handlers: Any) -> None:
        """Answers the next watches by these: a Tap, or a handler that refuses."""
        self.watches.extend(handlers)

    def answer(self, method: str, request: Any, context: Any, plain: Any) -> Any:
        """Records a request and answers it."""
        self.asked[method].append(request)
        self.remaining_s[method].append(context.time_remaining())
        handler = self.handlers[method].popleft() if self.handlers[method] else plain
        return handler(request, context) if callable(handler) else handler

    def silence(self, request: Any, context: Any) -> Any:
        """A handler that says nothing until the test is over."""
        self.released.wait()
        context.abort(grpc.StatusCode.INTERNAL, "too late")

    def SubmitScore(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract's name
        """The plain answer: applied."""
        return self.answer("SubmitScore", request, context, applied(request))

    def BatchSubmitScores(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The plain answer: all applied."""
        results = [pb.BatchSubmitResult(response=applied(one)) for one in request.submissions]
        plain = pb.BatchSubmitScoresResponse(results=results, consistency_token="batch")
        return self.answer("BatchSubmitScores", request, context, plain)

    def StreamSubmitScores(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        """The plain answer: every message acknowledged."""
        received = []
        self.received.append(received)

        def messages() -> Any:
            for message in request_iterator:
                received.append(message)
                yield message

        handler = self.streams.popleft() if self.streams else _answer_all
        yield from handler(messages(), context)

    def GetEntry(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The plain answer: rank 1."""
        entry = types_pb2.Entry(user_id=request.user_id, rank=1, score=7)
        plain = pb.GetEntryResponse(entry=entry, meta=types_pb2.ReadMeta(season_id="s1"))
        return self.answer("GetEntry", request, context, plain)

    def BatchGetEntries(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The plain answer: all but the last user have an entry."""
        entries = [types_pb2.Entry(user_id=user_id) for user_id in request.user_ids[:-1]]
        plain = pb.BatchGetEntriesResponse(
            entries=entries, missing_user_ids=request.user_ids[-1:], meta=types_pb2.ReadMeta()
        )
        return self.answer("BatchGetEntries", request, context, plain)

    def ListEntries(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The plain answer: a board of five, by pages."""
        first = int(request.page_token or request.start_rank or 1)
        entries = [types_pb2.Entry(user_id=rank, rank=rank) for rank in range(first, 6)]
        page = entries[: request.page_size or 10]
        more = str(first + len(page)) if len(page) < len(entries) else ""
        plain = pb.ListEntriesResponse(
            entries=page, next_page_token=more, meta=types_pb2.ReadMeta()
        )
        return self.answer("ListEntries", request, context, plain)

    def ListEntriesAround(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The plain answer: the user with a neighbour on each side."""
        entries = [types_pb2.Entry(user_id=request.user_id + side) for side in (-1, 0, 1)]
        plain = pb.ListEntriesAroundResponse(entries=entries, meta=types_pb2.ReadMeta())
        return self.answer("ListEntriesAround", request, context, plain)

    def EstimateRank(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The plain answer: the second rank, and what the first takes."""
        target = pb.RankTarget(rank=1, score=9, subscore=0, score_needed=10, score_gap=3)
        plain = pb.EstimateRankResponse(rank=2, rank_low=2, rank_high=2, next=target)
        return self.answer("EstimateRank", request, context, plain)

    def GetPercentile(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The plain answer: the percent and the result as asked."""
        plain = pb.GetPercentileResponse(
            percent=request.percent, rank=3, score_point=request.score_point
        )
        return self.answer("GetPercentile", request, context, plain)

    def DeleteEntry(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The plain answer: deleted."""
        plain = pb.DeleteEntryResponse(
            outcome=types_pb2.OUTCOME_APPLIED,
            deleted_entry=types_pb2.Entry(user_id=request.user_id, score=7),
            indexed=True,
            consistency_token="token",
            submission_id=request.submission_id,
        )
        return self.answer("DeleteEntry", request, context, plain)

    def WatchEntries(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The plain answer: one entry, and nothing more."""
        self.asked["WatchEntries"].append(request)
        entry = types_pb2.Entry(user_id=7, rank=1, score=7)
        plain = pb.WatchEntriesResponse(event=pb.WATCH_EVENT_SNAPSHOT, entries=[entry])
        handler = self.watches.popleft() if self.watches else Tap(plain)
        yield from handler(request, context)

    def HideUser(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The plain answer: two entries hidden."""
        plain = moderation_pb.HideUserResponse(changed=True, entry_count=2, indexed=True)
        return self.answer("HideUser", request, context, plain)

    def RestoreUser(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The plain answer: two entries shown again, and still hidden elsewhere."""
        plain = moderation_pb.RestoreUserResponse(changed=True, entry_count=2, still_hidden=True)
        return self.answer("RestoreUser", request, context, plain)

    def DeleteUser(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The plain answer: entries gone, submissions to follow."""
        plain = moderation_pb.DeleteUserResponse(deleted_entry_count=2, erased_submission_count=5)
        plain.create_time.FromMilliseconds(1_700_000_000_000)
        return self.answer("DeleteUser", request, context, plain)

    def CreateBoard(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The plain answer: the board as sent."""
        plain = boards_pb.CreateBoardResponse(board=request.board)
        return self.answer("CreateBoard", request, context, plain)

    def GetBoard(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The plain answer: a board with an etag."""
        board = types_pb2.Board(board_id=request.board_id, etag="1-1")
        plain = boards_pb.GetBoardResponse(board=board)
        return self.answer("GetBoard", request, context, plain)

    def ListBoards(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The plain answer: three boards, by pages."""
        names = ["a", "b", "c"]
        first = int(request.page_token or 0)
        end = first + (request.page_size or 100)
        plain = boards_pb.ListBoardsResponse(
            boards=[types_pb2.Board(board_id=name) for name in names[first:end]],
            next_page_token=str(end) if end < len(names) else "",
        )
        return self.answer("ListBoards", request, context, plain)

    def UpdateBoard(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The plain answer: the board as sent."""
        plain = boards_pb.UpdateBoardResponse(board=request.board)
        return self.answer("UpdateBoard", request, context, plain)

    def DeleteBoard(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The plain answer: deleted."""
        return self.answer("DeleteBoard", request, context, boards_pb.DeleteBoardResponse())


def start(fake: Fake, *, stream_count_max: int = 256) -> Any:
    """A running server of `fake` and its address; so many streams on each connection."""
    options = (("grpc.so_reuseport", 0), ("grpc.max_concurrent_streams", stream_count_max))
    server = grpc.server(ThreadPoolExecutor(max_workers=8), options=options)
    ranking_service_pb2_grpc.add_RankingServiceServicer_to_server(fake, server)
    board_service_pb2_grpc.add_BoardServiceServicer_to_server(fake, server)
    moderation_service_pb2_grpc.add_ModerationServiceServicer_to_server(fake, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, f"127.0.0.1:{port}"

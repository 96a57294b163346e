"""Single attempts of calls, as bare as gRPC makes them: nothing is tried again in here."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, replace
from typing import Any, Final

import grpc

from chaos.history import OK, SUBMIT, Attempt, Meta, Place, Sent, Told
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import ranking_service_pb2_grpc as pb_grpc
from standings.v1 import types_pb2

TOP: Final = "top"
RANK: Final = "rank"
AROUND: Final = "around"
PUSHBACK: Final = "grpc-retry-pushback-ms"
_OPTIONS: Final = (
    ("grpc.enable_retries", 0),
    # Each channel a connection of its own, so that every worker gets some.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
)
_CODES: Final = {code.value[0]: code.name for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Call:
    """One call, however many attempts it takes. `user_id` is whose rank or neighbours are asked."""

    number: int
    kind: str
    board: str
    deadline_s: float
    user_id: int = 0
    sent: tuple[Sent, ...] = ()


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt, and after how many seconds the server wants the next one; None: it did not say,
    below 0: never.
    """

    attempt: Attempt
    pushback_s: float | None = None


class Channels:
    """Some connections to one address, used in turn."""

    def __init__(self, address: str, count: int) -> None:
        self._channels = [
            grpc.aio.insecure_channel(address, options=_OPTIONS) for _ in range(count)
        ]
        self._stubs = itertools.cycle(
            [pb_grpc.RankingServiceStub(channel) for channel in self._channels]
        )

    async def close(self) -> None:
        """Ends them."""
        for channel in self._channels:
            await channel.close()

    async def attempt(self, call: Call, number: int) -> Tried:
        """One attempt, on the next connection. Raises nothing but a cancellation."""
        stub = next(self._stubs)
        sending = _sending(stub, call)
        start_s = time.monotonic()
        try:
            reply = await sending
        except grpc.aio.AioRpcError as error:
            attempt = _attempt(call, number, start_s, error.code().name)
            attempt = replace(attempt, message=error.details() or "")
            return Tried(attempt, _pushback_s(error))
        finally:
            sending.cancel()
        return Tried(_answered(call, number, start_s, reply))


def _sending(
    stub: pb_grpc.RankingServiceAsyncStub, call: Call
) -> grpc.aio.UnaryUnaryCall[Any, Any]:
    # Whatever can be had is asked for: the answer says what it is.
    options = types_pb2.ReadOptions(allow_partial=True)
    match call.kind:
        case "submit":
            batch = pb.BatchSubmitScoresRequest(
                submissions=[
                    pb.SubmitScoreRequest(
                        board_id=call.board,
                        user_id=sent.user_id,
                        score=sent.score,
                        submission_id=sent.submission_id,
                    )
                    for sent in call.sent
                ]
            )
            return stub.BatchSubmitScores(batch, timeout=call.deadline_s)
        case "top":
            page = pb.ListEntriesRequest(board_id=call.board, options=options)
            return stub.ListEntries(page, timeout=call.deadline_s)
        case "rank":
            one = pb.GetEntryRequest(board_id=call.board, user_id=call.user_id, options=options)
            return stub.GetEntry(one, timeout=call.deadline_s)
    around = pb.ListEntriesAroundRequest(board_id=call.board, user_id=call.user_id, options=options)
    return stub.ListEntriesAround(around, timeout=call.deadline_s)


def _attempt(call: Call, number: int, start_s: float, code: str) -> Attempt:
    return Attempt(
        call=call.number,
        number=number,
        kind=call.kind,
        board=call.board,
        deadline_s=call.deadline_s,
        start_s=start_s,
        end_s=time.monotonic(),
        code=code,
        sent=call.sent,
    )


def _answered(call: Call, number: int, start_s: float, reply: Any) -> Attempt:  # noqa: ANN401 - one of four
    attempt = _attempt(call, number, start_s, OK)
    if call.kind == SUBMIT:
        return replace(attempt, told=tuple(map(_told, reply.results)))
    entries = [reply.entry] if call.kind == RANK else reply.entries
    return replace(attempt, places=tuple(map(_place, entries)), meta=_meta(reply.meta))


def _told(result: pb.BatchSubmitResult) -> Told:
    if result.WhichOneof("result") == "error":
        return Told(code=_CODES.get(result.error.code, "UNKNOWN"))
    response = result.response
    return Told(
        outcome=_word(types_pb2.Outcome.Name(response.outcome)),
        first_outcome=_word(types_pb2.Outcome.Name(response.first_outcome)),
        score=response.entry.score,
        indexed=response.indexed,
    )


def _place(entry: types_pb2.Entry) -> Place:
    return Place(entry.user_id, entry.rank, entry.rank_low, entry.rank_high, entry.score)


def _meta(meta: types_pb2.ReadMeta) -> Meta:
    return Meta(
        source=_word(types_pb2.Source.Name(meta.source)),
        exact=meta.exactness == types_pb2.EXACTNESS_EXACT,
        stale=meta.stale,
        as_of_ms=meta.as_of.ToMilliseconds(),
        staleness_ms=meta.staleness.ToMilliseconds(),
        entry_count=meta.entry_count,
        missing=tuple(meta.shards_missing),
    )


def _word(name: str) -> str:
    """The last word of an enum's value: the others name the enum."""
    return name.rpartition("_")[2]


def _pushback_s(error: grpc.aio.AioRpcError) -> float | None:
    told = dict(iter(error.trailing_metadata() or ())).get(PUSHBACK)
    if told is None:
        return None
    text = str(told)
    return int(text) / 1000 if text.isascii() and text.isdigit() else -1.0

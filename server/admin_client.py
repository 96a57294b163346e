"""Asks a server what operators ask, for the program on the command line."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from bootstrap.client_settings import ClientSettings
from server.audit.table import AUDIT
from server.health_probe import reachable
from server.outgoing import aio_channel
from standings.v1 import admin_service_pb2 as pb
from standings.v1 import admin_service_pb2_grpc as pb_grpc

_TIMEOUT_S: Final = 5.0


class AdminCallFailed(Exception):
    """The server refused, or did not answer; the text says which. `gone`: it may be back soon."""

    def __init__(self, error: grpc.RpcError, address: str) -> None:
        code: grpc.StatusCode = error.code()
        self.gone = code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
        text = f"no answer from {address}" if self.gone else str(error.details())
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """What one worker makes of a breaker, in words."""

    worker: int
    pid: int
    state: str
    failure_rate: float
    slow_rate: float
    until: datetime | None


@dataclass(frozen=True, slots=True)
class BreakerRow:
    """A breaker, in words. `until`: when an opening ends; `expires`: when what `actor` has set
    does.
    """

    name: str
    state: str
    mode: str
    failure_rate: float
    slow_rate: float
    until: datetime | None
    expires: datetime | None
    reason: str
    actor: str
    workers: Sequence[WorkerRow]


@dataclass(frozen=True, slots=True)
class ShardRow:
    """A shard, in words; `lag_s` None: never checkpointed."""

    shard: int
    node_address: str
    slot: int
    entry_count: int
    watermark: int
    lag_s: float | None
    state: str
    breaker: str


@dataclass(frozen=True, slots=True)
class SetDone:
    """The breakers that were set; the workers that act on it, and that have not said so."""

    breakers: Sequence[BreakerRow]
    acknowledged: Sequence[int]
    laggards: Sequence[int]


@dataclass(frozen=True, slots=True)
class OperationShardRow:
    """What an operation found or did on one shard of one season."""

    board_id: str
    season_id: str
    shard: int
    database_entry_count: int
    index_entry_count: int
    difference_count: int
    user_ids: Sequence[int]
    rebuilt: bool


@dataclass(frozen=True, slots=True)
class OperationRow:
    """An operation, in words; `error` is empty unless it failed."""

    operation_id: str
    state: str
    done_count: int
    total_count: int
    entry_count: int
    shards: Sequence[OperationShardRow]
    error: str


@dataclass(frozen=True, slots=True)
class AuditQuestion:
    """Which events are asked for; what is empty admits all. `method` may be the last word of it,
    such as "HideUser". Times without a zone are UTC.
    """

    actor: str = ""
    method: str = ""
    target: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """An event of the audit; `status` is empty where nobody knows what became of it."""

    time: datetime
    actor: str
    peer: str
    method: str
    target: str
    reason: str
    request_id: str
    old_values: Mapping[str, object]
    new_values: Mapping[str, object]
    status: str
    result: Mapping[str, object]
    chain: str
    sequence: int
    hash: str


@dataclass(frozen=True, slots=True)
class AuditRows:
    """A page of events, newest first. `from_file`: of one machine alone."""

    rows: Sequence[AuditRow]
    next_page_token: str
    from_file: bool


class AdminClient:
    """Calls to one server; `connect` makes it. Every call raises AdminCallFailed."""

    def __init__(self, channel: grpc.aio.Channel, address: str) -> None:
        self._stub = pb_grpc.AdminServiceStub(channel)
        self._address = address

    async def breakers(self) -> Sequence[BreakerRow]:
        """All breakers, by name."""
        try:
            answer = await self._stub.ListBreakers(pb.ListBreakersRequest(), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise AdminCallFailed(error, self._address) from error
        return [_breaker(one) for one in answer.breakers]

    async def watch_breakers(self) -> AsyncGenerator[Sequence[BreakerRow], None]:
        """All breakers now, and at every change."""
        stream = self._stub.WatchBreakers(pb.WatchBreakersRequest())
        try:
            async for answer in stream:
                yield [_breaker(one) for one in answer.breakers]
        except grpc.RpcError as error:
            raise AdminCallFailed(error, self._address) from error
        finally:
            stream.cancel()

    async def set_breaker(
        self, name: str, mode: str, *, reason: str, actor: str, ttl_s: int | None
    ) -> SetDone:
        """Sets AUTO, FORCED_OPEN or FORCED_CLOSED."""
        request = pb.SetBreakerRequest(
            name=name,
            mode=pb.BreakerMode.Value(f"BREAKER_MODE_{mode}"),
            ttl=None if ttl_s is None else Duration(seconds=ttl_s),
            reason=reason,
            actor=actor,
        )
        try:
            done = await self._stub.SetBreaker(request, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise AdminCallFailed(error, self._address) from error
        return SetDone(
            [_breaker(one) for one in done.breakers],
            list(done.acknowledged_workers),
            list(done.laggard_workers),
        )

    async def shards(self) -> Sequence[ShardRow]:
        """All shards, in order."""
        try:
            answer = await self._stub.ListShards(pb.ListShardsRequest(), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise AdminCallFailed(error, self._address) from error
        return [_shard(one) for one in answer.shards]

    async def verify(self, board_id: str, shards: Sequence[int], *, repair: bool) -> OperationRow:
        """Begins to hold an index against PostgreSQL."""
        request = pb.VerifyShardsRequest(board_id=board_id, shards=shards, repair=repair)
        try:
            answer = await self._stub.VerifyShards(request, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise AdminCallFailed(error, self._address) from error
        return _operation(answer.operation)

    async def rebuild(self, board_id: str, shards: Sequence[int]) -> OperationRow:
        """Begins to build an index anew."""
        request = pb.RebuildShardsRequest(board_id=board_id, shards=shards)
        try:
            answer = await self._stub.RebuildShards(request, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise AdminCallFailed(error, self._address) from error
        return _operation(answer.operation)

    async def operation(self, operation_id: str) -> OperationRow:
        """How an operation is now."""
        request = pb.GetOperationRequest(operation_id=operation_id)
        try:
            answer = await self._stub.GetOperation(request, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise AdminCallFailed(error, self._address) from error
        return _operation(answer.operation)

    async def cancel(self, operation_id: str) -> None:
        """Asks an operation to stop."""
        request = pb.CancelOperationRequest(operation_id=operation_id)
        try:
            await self._stub.CancelOperation(request, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise AdminCallFailed(error, self._address) from error

    async def audit_events(
        self, question: AuditQuestion, *, page_size: int, page_token: str = ""
    ) -> AuditRows:
        """A page of the audit."""
        request = pb.ListAuditEventsRequest(
            page_size=page_size,
            page_token=page_token,
            actor=question.actor,
            method=_full_method(question.method),
            target=question.target,
            start_time=_timestamp(question.since),
            end_time=_timestamp(question.until),
        )
        try:
            answer = await self._stub.ListAuditEvents(request, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise AdminCallFailed(error, self._address) from error
        return AuditRows(
            rows=[_event(one) for one in answer.events],
            next_page_token=answer.next_page_token,
            from_file=answer.source == pb.AUDIT_SOURCE_FILE,
        )


@asynccontextmanager
async def connect(
    address: str, settings: ClientSettings | None = None
) -> AsyncIterator[AdminClient]:
    """A client of the server whose admin listener is at host:port. Raises NotConfigured where a
    file of the settings cannot be used.
    """
    async with aio_channel(reachable(address), settings or ClientSettings()) as channel:
        yield AdminClient(channel, address)


def _breaker(one: pb.Breaker) -> BreakerRow:
    forced = one.HasField("override")
    return BreakerRow(
        name=one.name,
        state=_state(one.state),
        mode=_word(pb.BreakerMode.Name(one.mode), "BREAKER_MODE_"),
        failure_rate=one.failure_rate,
        slow_rate=one.slow_call_rate,
        until=_until(one),
        expires=_moment(one.override.expire_time) if forced else None,
        reason=one.override.reason,
        actor=one.override.actor,
        workers=[_worker(line) for line in one.workers],
    )


def _worker(line: pb.WorkerBreaker) -> WorkerRow:
    return WorkerRow(
        worker=line.worker,
        pid=line.pid,
        state=_state(line.state),
        failure_rate=line.failure_rate,
        slow_rate=line.slow_call_rate,
        until=_until(line),
    )


def _until(one: pb.Breaker | pb.WorkerBreaker) -> datetime | None:
    return _moment(one.open_until) if one.HasField("open_until") else None


def _shard(one: pb.Shard) -> ShardRow:
    return ShardRow(
        shard=one.shard,
        node_address=one.node_address,
        slot=one.slot,
        entry_count=one.entry_count,
        watermark=one.watermark,
        lag_s=one.lag.ToMilliseconds() / 1000 if one.HasField("lag") else None,
        state=_word(pb.ShardState.Name(one.state), "SHARD_STATE_"),
        breaker=_state(one.breaker_state),
    )


def _operation(one: pb.Operation) -> OperationRow:
    return OperationRow(
        operation_id=one.operation_id,
        state=_word(pb.OperationState.Name(one.state), "OPERATION_STATE_"),
        done_count=one.done_count,
        total_count=one.total_count,
        entry_count=one.entry_count,
        shards=[_operation_shard(shard) for shard in one.shards],
        error=one.error.message,
    )


def _operation_shard(shard: pb.OperationShard) -> OperationShardRow:
    return OperationShardRow(
        board_id=shard.board_id,
        season_id=shard.season_id,
        shard=shard.shard,
        database_entry_count=shard.database_entry_count,
        index_entry_count=shard.index_entry_count,
        difference_count=shard.difference_count,
        user_ids=list(shard.user_ids),
        rebuilt=shard.rebuilt,
    )


def _event(one: pb.AuditEvent) -> AuditRow:
    return AuditRow(
        time=_moment(one.time),
        actor=one.actor,
        peer=one.peer,
        method=one.method,
        target=one.target,
        reason=one.reason,
        request_id=one.request_id,
        old_values=MessageToDict(one.old_values),
        new_values=MessageToDict(one.new_values),
        status=one.status,
        result=MessageToDict(one.result),
        chain=one.chain,
        sequence=one.sequence,
        hash=one.hash,
    )


def _timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    moment = Timestamp()
    moment.FromDatetime(time)
    return moment


def _full_method(name: str) -> str:
    """A method by its last word, where an audited one ends with it."""
    found = (path for path in AUDIT if path.rpartition("/")[2] == name)
    return next(found, name).removeprefix("/")


def _state(state: pb.BreakerState.ValueType) -> str:
    return _word(pb.BreakerState.Name(state), "BREAKER_STATE_")


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix)


def _moment(time: Timestamp) -> datetime:
    return time.ToDatetime(tzinfo=UTC)

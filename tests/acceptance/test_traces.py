"""Traces of a real server, as a collector gets them."""

from __future__ import annotations

import asyncio
import socket
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import ranking_service_pb2_grpc as stubs
from standings_client import AsyncClient, Board, Submission
from tests.fixtures.collector import Collector, attributes, collecting
from tests.fixtures.processes import ServerProcess, server_process, time_until
from tests.fixtures.redis import empty
from tests.fixtures.server import settings_for

SUBMIT = "standings.v1.RankingService/SubmitScore"
GET = "standings.v1.RankingService/GetEntry"
OTEL = {
    "OTEL_BSP_SCHEDULE_DELAY": "100",
    "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=games",
}
CALLERS_SPAN = "00f067aa0ba902b7"


def _trace_id(number: int) -> str:
    return f"{number:032x}"


def _traced(number: int, *, flags: str = "01") -> tuple[tuple[str, str], ...]:
    return (("traceparent", f"00-{_trace_id(number)}-{CALLERS_SPAN}-{flags}"),)


@asynccontextmanager
async def _serving(
    database: str, cluster: EmbeddedRedisCluster, directory: Path, endpoint: str, **variables: str
) -> AsyncIterator[ServerProcess]:
    """A server of one worker that traces, with a board."""
    await empty(cluster)
    given = {
        "STANDINGS_TRACES_ENDPOINT": endpoint,
        "STANDINGS_TRACES_RATIO": "0",
        "STANDINGS_SERVER_WORKERS": "1",
        **OTEL,
        **variables,
    }
    async with server_process(settings_for(database, cluster), directory, **given) as server:
        async with AsyncClient(server.address, timeout_s=20) as client:
            await client.boards.create(Board(board_id="arena"))
        yield server


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector."""
    with collecting() as collector:
        yield collector


def _open_metrics(address: str) -> str:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    request = urllib.request.Request(f"http://{address}/metrics", headers=accept)
    with urllib.request.urlopen(request) as page:
        return page.read().decode()


def _by_name(spans: Sequence[Span]) -> dict[str, list[Span]]:
    named: dict[str, list[Span]] = {}
    for span in spans:
        named.setdefault(span.name, []).append(span)
    return named


async def test_a_submission_is_seen_down_to_the_nodes(
    database: str, redis_cluster: EmbeddedRedisCluster, tmp_path: Path, collector: Collector
) -> None:
    """Call, flush, ledger and nodes, each the parent of the next; the flush links to the calls
    that it serves, and a call in it that has a trace of its own links to the flush.
    """
    async with (
        _serving(database, redis_cluster, tmp_path, collector.endpoint) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = stubs.RankingServiceStub(channel)
        # Two in one message of HTTP/2 frames may still be two flushes: so, many.
        await asyncio.gather(
            *(
                stub.SubmitScore(
                    pb.SubmitScoreRequest(board_id="arena", user_id=user, score=user),
                    metadata=(*_traced(user), ("x-request-id", f"request-{user}")),
                )
                for user in range(1, 21)
            )
        )
        for user in range(1, 21):
            await collector.named(_trace_id(user), SUBMIT)
        flushes = [span for span in collector.spans if span.name == "flush"]
        linked = {link.span_id for flush in flushes for link in flush.links}
        calls = {span.span_id: span for span in collector.spans if span.name == SUBMIT}
        assert linked == calls.keys()
        assert len(flushes) < len(calls)

        whole = _by_name(await collector.named(flushes[0].trace_id.hex(), "FCALL apply"))
        (call,), (flush,), (ledger,) = whole[SUBMIT], whole["flush"], whole["ledger record"]
        nodes = whole["FCALL apply"]
        assert (call.parent_span_id.hex(), call.kind) == (CALLERS_SPAN, Span.SPAN_KIND_SERVER)
        assert flush.parent_span_id == call.span_id
        assert {span.parent_span_id for span in (ledger, *nodes)} == {flush.span_id}
        assert {attributes(node.attributes)["server.port"] for node in nodes} <= {
            int(address.rpartition(":")[2]) for address in redis_cluster.addresses
        }
        for inner, outer in [(flush, call), (ledger, flush), *((node, flush) for node in nodes)]:
            assert outer.start_time_unix_nano <= inner.start_time_unix_nano
            assert inner.end_time_unix_nano <= outer.end_time_unix_nano
        told = attributes(call.attributes)
        assert told["rpc.response.status_code"] == "OK"
        assert told["standings.request_id"] == f"request-{int(call.trace_id.hex(), 16)}"
        others = [calls[link.span_id] for flush in flushes for link in flush.links[1:]]
        assert others
        for other in others:
            (back,) = other.links
            assert back.span_id in {flush.span_id for flush in flushes}

    assert collector.resource["service.name"] == "standings"
    assert collector.resource["deployment.environment.name"] == "test"
    assert collector.headers[0]["x-tenant"] == "games"


async def test_reads_that_come_together_are_seen_together(
    database: str, redis_cluster: EmbeddedRedisCluster, tmp_path: Path, collector: Collector
) -> None:
    """Every traced read leads to the nodes that answered it: by a span of its own trace, or by a
    link to the read that served others as well.
    """
    async with (
        _serving(
            database,
            redis_cluster,
            tmp_path,
            collector.endpoint,
            STANDINGS_READS_HOT_ENTRIES_MAX="0",
        ) as server,
        AsyncClient(server.address, timeout_s=20) as client,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        users = range(1, 21)
        await client.batch_submit_scores([Submission("arena", user, user) for user in users])
        stub = stubs.RankingServiceStub(channel)
        await asyncio.gather(
            *(
                stub.GetEntry(
                    pb.GetEntryRequest(board_id="arena", user_id=user), metadata=_traced(user)
                )
                for user in users
            )
        )
        for user in users:
            await collector.named(_trace_id(user), GET)
        await time_until(lambda: any(span.name.startswith("FCALL_RO") for span in collector.spans))

    spans = {span.span_id: span for span in collector.spans}
    shared = [span for span in spans.values() if span.name == "ranks"]
    calls = {span.span_id for span in spans.values() if span.name == GET}
    assert sorted(link.span_id for read in shared for link in read.links) == sorted(calls)
    assert len(shared) < len(calls)
    for read in shared:
        assert read.parent_span_id == read.links[0].span_id
        for link in read.links[1:]:
            assert read.span_id in {back.span_id for back in spans[link.span_id].links}
    nodes = [span for span in spans.values() if span.name.startswith("FCALL_RO")]
    assert {span.parent_span_id for span in nodes} == {read.span_id for read in shared}


async def test_the_caller_decides(
    database: str, redis_cluster: EmbeddedRedisCluster, tmp_path: Path, collector: Collector
) -> None:
    """What the caller traces is traced, whatever the ratio; what it does not trace is not; what is
    no traceparent is none. A failed call says how.
    """
    async with (
        _serving(database, redis_cluster, tmp_path, collector.endpoint) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = stubs.RankingServiceStub(channel)

        async def get(board_id: str, metadata: tuple[tuple[str, str], ...]) -> None:
            request = pb.GetEntryRequest(board_id=board_id, user_id=1)
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.GetEntry(request, metadata=metadata)

        await get("arena", _traced(1, flags="00"))
        await get("arena", (("traceparent", f"00-{_trace_id(0)}-{CALLERS_SPAN}-01"),))
        await get("arena", (("traceparent", "01" * 300),))
        await get("arena", ())
        await get("arena", _traced(2))
        await get("Not a board!", _traced(3))
        spans = [*await collector.named(_trace_id(2), GET)]
        spans += await collector.named(_trace_id(3), GET)
        codes = {
            int(span.trace_id.hex(), 16): attributes(span.attributes)["rpc.response.status_code"]
            for span in spans
            if span.name == GET
        }

    assert codes == {2: "NOT_FOUND", 3: "INVALID_ARGUMENT"}
    assert {span.trace_id.hex() for span in collector.spans} == {_trace_id(2), _trace_id(3)}
    assert {span.status.code for span in spans} == {Status.STATUS_CODE_UNSET}


async def test_log_lines_name_the_trace(
    database: str, redis_cluster: EmbeddedRedisCluster, tmp_path: Path, collector: Collector
) -> None:
    """The line of a traced call has the ids of its span, that of another one has none; and a
    histogram names the trace as an example.
    """
    verbose = {"STANDINGS_LOG_LEVEL": "DEBUG"}
    async with (
        _serving(database, redis_cluster, tmp_path, collector.endpoint, **verbose) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = stubs.RankingServiceStub(channel)
        request = pb.ListEntriesRequest(board_id="arena", page_size=3)
        await stub.ListEntries(request, metadata=(*_traced(7), ("x-request-id", "request-7")))
        await stub.ListEntries(request, metadata=(("x-request-id", "request-8"),))
        traced = await server.line("call", request_id="request-7")
        other = await server.line("call", request_id="request-8")
        spans = await collector.named(_trace_id(7), "standings.v1.RankingService/ListEntries")
        address = (await server.line("metrics are served"))["address"]
        await time_until(lambda: f'trace_id="{_trace_id(7)}"' in _open_metrics(address))

    assert (traced["trace_id"], traced["span_id"]) == (
        _trace_id(7),
        next(span.span_id.hex() for span in spans if span.parent_span_id.hex() == CALLERS_SPAN),
    )
    assert not {"trace_id", "span_id"} & other.keys()


async def test_a_stream_is_one_call(
    database: str, redis_cluster: EmbeddedRedisCluster, tmp_path: Path, collector: Collector
) -> None:
    """Each of its flushes is part of it."""
    async with (
        _serving(
            database, redis_cluster, tmp_path, collector.endpoint, STANDINGS_TRACES_RATIO="1"
        ) as server,
        AsyncClient(server.address, timeout_s=20) as client,
    ):
        async with client.stream_submitter() as submitter:
            await submitter.submit("arena", 1, 5)
        name = "standings.v1.RankingService/StreamSubmitScores"

        def stream() -> Sequence[Span]:
            return [span for span in collector.spans if span.name == name]

        await time_until(lambda: bool(stream()))
        (call,) = stream()
        spans = _by_name(await collector.named(call.trace_id.hex(), "flush"))

    assert spans["flush"][0].parent_span_id == call.span_id
    assert call.parent_span_id == b""


@pytest.fixture(params=["refusing", "silent"])
def away(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where a collector should be that refuses connections, or takes them and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listening:
        port = listening.getsockname()[1]
        if request.param == "refusing":
            listening.close()
        yield f"http://127.0.0.1:{port}"


async def test_a_collector_that_is_away_costs_nothing(
    database: str, redis_cluster: EmbeddedRedisCluster, tmp_path: Path, away: str
) -> None:
    """Every call is answered as ever, more spans than the queue holds are dropped, it is told
    once, and the server ends in time.
    """
    small = {"OTEL_BSP_MAX_QUEUE_SIZE": "16", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8"}
    small |= {"STANDINGS_TRACES_RATIO": "1", "OTEL_EXPORTER_OTLP_TIMEOUT": "2"}
    async with (
        _serving(database, redis_cluster, tmp_path, away, **small) as server,
        AsyncClient(server.address, timeout_s=20) as client,
    ):
        for user in range(1, 101):
            await client.submit_score("arena", user, user)
        await server.line("traces are lost: the collector does not take them")
        failed = 'standings_trace_spans_total{result="failed"}'
        measured = await server.metrics_when(lambda told: told[failed] > 0)
        spans = {
            result: measured[f'standings_trace_spans_total{{result="{result}"}}']
            for result in ("ended", "exported", "failed")
        }
        began_s = time.monotonic()
        assert await server.stop(timeout_s=15) == 0
        took_s = time.monotonic() - began_s

    assert spans["exported"] == 0
    assert spans["ended"] > spans["failed"] > 0
    assert took_s < 10
    assert not [line for line in server.lines if "opentelemetry" in line.get("logger", "")]

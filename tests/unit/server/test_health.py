"""What health checks are told."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc as health_grpc

from server.errors import UnknownComponent
from server.health import Health, HealthServicer
from server.identity.identity import ANONYMOUS, NOBODY, Identity
from server.rpc.call import CallContext
from tests.unit.server.fakes import Serving, details_of

SERVING = pb.HealthCheckResponse.SERVING
NOT_SERVING = pb.HealthCheckResponse.NOT_SERVING
UNKNOWN = pb.HealthCheckResponse.SERVICE_UNKNOWN
RANKING = "standings.v1.RankingService"


def stub(serving: Serving) -> health_grpc.HealthStub:
    """The public listener's Health."""
    return health_grpc.HealthStub(serving.channel)


async def check(serving: Serving, name: str) -> int:
    """How a component is now."""
    answer = await stub(serving).Check(pb.HealthCheckRequest(service=name))
    status: int = answer.status
    return status


async def test_nothing_serves_unproven(serving: Serving) -> None:
    """A server that has proven nothing serves nothing."""
    for name in ("", "postgres", "redis", RANKING, "standings.v1.AdminService"):
        assert await check(serving, name) == NOT_SERVING


async def test_all_serve_when_every_store_is_proven(serving: Serving) -> None:
    """The whole waits for the last store."""
    serving.health.set("postgres", serving=True)
    half = [await check(serving, name) for name in ("", "postgres", "redis")]
    serving.health.set("redis", serving=True)
    whole = [await check(serving, name) for name in ("", "redis", RANKING)]

    assert half == [NOT_SERVING, SERVING, NOT_SERVING]
    assert whole == [SERVING, SERVING, SERVING]


async def test_a_store_that_fails_later_shows_alone(serving: Serving) -> None:
    """The whole stays: calls say themselves what they cannot do."""
    for name in ("postgres", "redis"):
        serving.health.set(name, serving=True)
    serving.health.set("redis", serving=False)

    assert [SERVING, NOT_SERVING] == [await check(serving, name) for name in ("", "redis")]


async def test_of_its_stores_nobody_is_told_who_is_not_known() -> None:
    """Where callers are asked who they are, a check without evidence is about the server alone."""
    health = Health(("postgres",))
    health.add_services([RANKING])
    health.set("postgres", serving=True)
    servicer = HealthServicer(health)

    def call(identity: Identity) -> CallContext:
        return CallContext(None, {}, lambda: "", identity=identity)

    for name, status in (("", SERVING), (RANKING, SERVING), ("postgres", UNKNOWN)):
        request = pb.HealthCheckRequest(service=name)
        watched = servicer.watch(request, call(NOBODY))
        assert (await anext(watched)).status == status
        await watched.aclose()
    request = pb.HealthCheckRequest(service="postgres")
    assert (await servicer.check(request, call(ANONYMOUS))).status == SERVING
    with pytest.raises(UnknownComponent):
        await servicer.check(request, call(NOBODY))


async def test_drain_ends_it_for_good(serving: Serving) -> None:
    """A worker that goes away serves nothing, whatever its stores do."""
    for name in ("postgres", "redis"):
        serving.health.set(name, serving=True)
    serving.health.drain()
    serving.health.set("redis", serving=False)
    serving.health.set("redis", serving=True)

    assert [NOT_SERVING] * 3 == [await check(serving, name) for name in ("", "redis", RANKING)]


def test_components_are_named_at_the_start() -> None:
    """A misspelt component is a bug, not a new component."""
    with pytest.raises(KeyError):
        Health(("redis",)).set("rediss", serving=True)


async def test_unknown_names(serving: Serving) -> None:
    """Check says NOT_FOUND; Watch says SERVICE_UNKNOWN and stays."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(serving, "nonsense")
    watch = stub(serving).Watch(pb.HealthCheckRequest(service="nonsense"))
    first = await watch.read()
    watch.cancel()

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert details_of(caught.value)["ErrorInfo"].reason == "UNKNOWN_COMPONENT"
    assert first.status == UNKNOWN


async def test_list(serving: Serving) -> None:
    """All components at once."""
    serving.health.set("redis", serving=True)
    answer = await stub(serving).List(pb.HealthListRequest())
    wanted = {"", "postgres", "redis", RANKING, "standings.v1.BoardService"}

    assert wanted <= set(answer.statuses)
    assert (SERVING, NOT_SERVING) == (answer.statuses["redis"].status, answer.statuses[""].status)


async def test_watch_tells_changes_only(serving: Serving) -> None:
    """A watcher hears its own component, first as it is and then as it changes, to the end."""
    watch = stub(serving).Watch(pb.HealthCheckRequest(service="redis"))
    heard = [(await watch.read()).status]
    serving.health.set("postgres", serving=True)
    serving.health.set("redis", serving=True)
    heard.append((await watch.read()).status)
    serving.health.set("redis", serving=False)
    heard.append((await watch.read()).status)
    serving.health.set("redis", serving=True)
    heard.append((await watch.read()).status)
    serving.health.drain()
    heard.append((await watch.read()).status)

    assert heard == [NOT_SERVING, SERVING, NOT_SERVING, SERVING, NOT_SERVING]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_watchers_do_not_hold_up_the_end(serving: Serving) -> None:
    """A stop does not wait out its grace for somebody who only watches."""
    watches = [stub(serving).Watch(pb.HealthCheckRequest()) for _ in range(3)]
    for watch in watches:
        await watch.read()

    async with asyncio.timeout(3):
        await serving.server.stop()

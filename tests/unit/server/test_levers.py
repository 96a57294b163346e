"""Breakers and faults over the wire, on the file of a machine and without any store."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from prometheus_client import REGISTRY

from bootstrap.embedded.waiting import until
from core.audit_lines import Action
from resilience.machine import MachineFile
from resilience.machine_lines import Reading, WorkerLine, start_of
from resilience.overrides import Mode
from server.levers.measuring import measure_levers
from server.levers.watch_breakers import WATCHES_MAX
from server.rpc.codec.levers import decode_mode
from standings.v1 import admin_service_pb2 as pb
from tests.unit.server.fakes import BREAKERS, Serving, details_of

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
SHARD = "redis/shard-00"
REASON = "moving the node"


def setting(**changes: Any) -> pb.SetBreakerRequest:
    """A good request, with some fields changed."""
    given = {"name": SHARD, "mode": pb.BREAKER_MODE_FORCED_OPEN, "reason": REASON, **changes}
    return pb.SetBreakerRequest(**given)


def fault(**changes: Any) -> pb.InjectFaultRequest:
    """A good request, with some fields changed."""
    given = {"target": SHARD, "kind": pb.FAULT_KIND_ERROR, "reason": REASON, **changes}
    return pb.InjectFaultRequest(**given)


async def modes(serving: Serving) -> dict[str, int]:
    """The breakers that are not left to themselves."""
    answer = await serving.admin.ListBreakers(pb.ListBreakersRequest())
    return {one.name: one.mode for one in answer.breakers if one.mode != pb.BREAKER_MODE_AUTO}


def other_worker(serving: Serving, slot: int, seen: int, **readings: Reading) -> None:
    """Lets another worker of the machine say something; it lives as long as the test."""
    pid = os.getppid()
    line = WorkerLine(
        slot,
        pid,
        start_of(pid) or 0,
        seen,
        time.monotonic_ns(),
        {name.replace("__", "/").replace("_", "-"): reading for name, reading in readings.items()},
    )
    serving.machine._lines.write(line)


async def test_every_breaker_is_listed(serving: Serving) -> None:
    """By name, with a line for each worker and nothing forced."""
    answer = await serving.admin.ListBreakers(pb.ListBreakersRequest())

    assert [one.name for one in answer.breakers] == sorted(BREAKERS)
    assert {one.mode for one in answer.breakers} == {pb.BREAKER_MODE_AUTO}
    assert {one.state for one in answer.breakers} == {pb.BREAKER_STATE_CLOSED}
    assert [[line.worker for line in one.workers] for one in answer.breakers] == [[0]] * 5
    assert not any(one.HasField("override") for one in answer.breakers)


async def test_a_set_breaker_tells_who_why_and_until_when(serving: Serving) -> None:
    """The answer holds the override, and the worker that acts on it; so does the next list."""
    before_s = time.time()
    done = await serving.admin.SetBreaker(setting(ttl=Duration(seconds=90), actor="alex"))
    (breaker,) = done.breakers
    override = breaker.override

    assert (list(done.acknowledged_workers), list(done.laggard_workers)) == ([0], [])
    assert (breaker.name, breaker.mode) == (SHARD, pb.BREAKER_MODE_FORCED_OPEN)
    assert (override.mode, override.reason, override.actor) == (breaker.mode, REASON, "alex")
    assert override.expire_time.seconds - before_s == pytest.approx(90, abs=5)
    assert serving.machine.mode(SHARD) is Mode.FORCED_OPEN
    assert serving.fakes.calls == ["publish"]
    assert await modes(serving) == {SHARD: pb.BREAKER_MODE_FORCED_OPEN}


async def test_a_call_is_done_within_100_ms(serving: Serving) -> None:
    """The acknowledgement of a worker that is well included."""
    took_s = []
    for _ in range(5):
        began_s = time.monotonic()
        await serving.admin.SetBreaker(setting())
        took_s.append(time.monotonic() - began_s)

    assert sorted(took_s)[2] < 0.1


async def test_the_actor_is_the_caller_where_none_is_named(serving: Serving) -> None:
    """It is where the call came from."""
    done = await serving.admin.SetBreaker(setting())

    assert done.breakers[0].override.actor.startswith("ipv4:127.0.0.1:")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("redis/*", ["redis/shard-00", "redis/shard-01"]),
        ("postgres/*", ["postgres/write"]),
        ("*", ["postgres/write", "redis/shard-00", "redis/shard-01"]),
    ],
)
async def test_a_pattern_sets_all_that_it_means(
    serving: Serving, pattern: str, names: list[str]
) -> None:
    """Parents are left alone; AUTO ends all of it."""
    done = await serving.admin.SetBreaker(setting(name=pattern))
    assert [one.name for one in done.breakers] == names
    assert await modes(serving) == dict.fromkeys(names, pb.BREAKER_MODE_FORCED_OPEN)

    await serving.admin.SetBreaker(setting(name=pattern, mode=pb.BREAKER_MODE_AUTO))
    assert await modes(serving) == {}


async def test_a_parent_decides_for_its_children(serving: Serving) -> None:
    """Forced open wins over a child that is forced closed; the child tells whose doing it is.
    AUTO for all of them ends the parent's, too.
    """
    await serving.admin.SetBreaker(setting(mode=pb.BREAKER_MODE_FORCED_CLOSED))
    await serving.admin.SetBreaker(setting(name="redis", reason="all of Redis moves"))
    answer = await serving.admin.ListBreakers(pb.ListBreakersRequest())
    reasons = {one.name: one.override.reason for one in answer.breakers if one.override.reason}

    assert await modes(serving) == dict.fromkeys(
        ("redis", "redis/shard-00", "redis/shard-01"), pb.BREAKER_MODE_FORCED_OPEN
    )
    assert set(reasons.values()) == {"all of Redis moves"}
    await serving.admin.SetBreaker(setting(name="redis/*", mode=pb.BREAKER_MODE_AUTO))
    assert await modes(serving) == {}


BAD_SETTINGS = {
    "no mode": ({"mode": 0}, "mode"),
    "an unknown mode": ({"mode": 9}, "mode"),
    "a ttl of 0": ({"ttl": Duration()}, "ttl"),
    "a ttl below 1 s": ({"ttl": Duration(nanos=999_999_999)}, "ttl"),
    "a ttl above 24 h": ({"ttl": Duration(seconds=86_400, nanos=10**6)}, "ttl"),
    "a negative ttl": ({"ttl": Duration(seconds=-60)}, "ttl"),
    "a ttl that is none": ({"ttl": Duration(seconds=60, nanos=2**31 - 1)}, "ttl"),
    "a ttl of AUTO": ({"mode": pb.BREAKER_MODE_AUTO, "ttl": Duration(seconds=60)}, "ttl"),
    "no reason": ({"reason": ""}, "reason"),
    "a short reason": ({"reason": "because"}, "reason"),
    "a reason of 201": ({"reason": "a" * 201}, "reason"),
    "a reason of two lines": ({"reason": "because\nof it"}, "reason"),
    "an actor of 65": ({"actor": "a" * 65}, "actor"),
    "an actor with controls": ({"actor": "a\x1b[2J"}, "actor"),
}


@pytest.mark.parametrize(("changes", "field"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
async def test_bad_settings(serving: Serving, changes: dict[str, Any], field: str) -> None:
    """The field is named, and nothing is set or told."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await serving.admin.SetBreaker(setting(**changes))
    (violation,) = details_of(caught.value)["BadRequest"].field_violations

    assert (caught.value.code(), violation.field) == (INVALID, field)
    assert (await modes(serving), serving.fakes.calls) == ({}, [])


@pytest.mark.parametrize(
    "name", ["", "redis/shard-99", "postgres/", "/*", "red*", "**", "redis/shard-0*", "mysql/*"]
)
async def test_unknown_breakers(serving: Serving, name: str) -> None:
    """Neither a breaker nor a pattern of any."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await serving.admin.SetBreaker(setting(name=name))

    assert caught.value.code() is NOT_FOUND
    assert details_of(caught.value)["ErrorInfo"].reason == "UNKNOWN_BREAKER"


async def test_limits_of_texts_and_times_are_taken(serving: Serving) -> None:
    """8 and 200 characters, 1 s and 24 h, and 15 min where nothing is said."""
    await serving.admin.SetBreaker(setting(reason="8 chars.", ttl=Duration(seconds=1)))
    await serving.admin.SetBreaker(setting(reason="ü" * 200, ttl=Duration(seconds=86_400)))

    assert decode_mode(setting()) == (Mode.FORCED_OPEN, 900_000)
    assert decode_mode(setting(mode=pb.BREAKER_MODE_AUTO)) == (Mode.AUTO, 0)


async def test_the_audit_line_comes_before_the_effect(serving: Serving) -> None:
    """One line says who, why, and from what to what, while the old mode is still in force."""
    seen = []
    begin = serving.fakes.audit.begin

    async def look(action: Action) -> int:
        seen.append((action, serving.machine.mode(SHARD)))
        return await begin(action)

    serving.fakes.audit.begin = look  # type: ignore[method-assign]
    await serving.admin.SetBreaker(setting(actor="alex"))
    ((action, mode),) = seen

    assert mode is Mode.AUTO
    assert serving.machine.mode(SHARD) is Mode.FORCED_OPEN
    assert (action.target, action.reason) == (f"breaker/{SHARD}", REASON)
    assert action.old == {SHARD: "AUTO"}
    assert action.new == {"mode": "FORCED_OPEN", "ttl_s": 900, "set_by": "alex"}


async def test_workers_that_do_not_answer_are_laggards(serving: Serving) -> None:
    """After a second the answer names them, and the mode is in force."""
    other_worker(serving, 4, seen=0)
    began_s = time.monotonic()
    done = await serving.admin.SetBreaker(setting())

    assert (list(done.acknowledged_workers), list(done.laggard_workers)) == ([0], [4])
    assert time.monotonic() - began_s == pytest.approx(1.0, abs=0.3)
    assert serving.machine.mode(SHARD) is Mode.FORCED_OPEN


async def test_the_list_shows_the_worst_of_all_workers(serving: Serving) -> None:
    """State, rates and the end of the opening, whichever worker they are of."""
    until_ns = time.monotonic_ns() + 5 * 10**9
    other_worker(serving, 1, 0, redis__shard_00=Reading(3, 0.25, 0.5, 0))
    other_worker(serving, 2, 0, redis__shard_00=Reading(2, 0.75, 0.125, until_ns))
    answer = await serving.admin.ListBreakers(pb.ListBreakersRequest())
    (shard,) = [one for one in answer.breakers if one.name == SHARD]

    assert (shard.state, shard.failure_rate, shard.slow_call_rate) == (2, 0.75, 0.5)
    assert shard.open_until.ToMilliseconds() / 1000 - time.time() == pytest.approx(5, abs=1)
    assert [(line.worker, line.state) for line in shard.workers] == [(0, 1), (1, 3), (2, 2)]
    assert [line.HasField("open_until") for line in shard.workers] == [False, False, True]


async def test_a_watch_tells_changes(serving: Serving) -> None:
    """What is first, then what changed, and nothing in between while nothing does."""
    stream = serving.admin.WatchBreakers(pb.WatchBreakersRequest())
    first = await stream.read()
    waiting = asyncio.ensure_future(stream.read())
    done, _ = await asyncio.wait({waiting}, timeout=0.3)
    assert not done
    await serving.admin.SetBreaker(setting())
    second = await asyncio.wait_for(waiting, 1)
    stream.cancel()

    assert [one.name for one in first.breakers] == sorted(BREAKERS)
    assert [one.mode for one in second.breakers if one.name == SHARD] == [2]


async def test_a_watch_ends_with_the_worker(serving: Serving) -> None:
    """UNAVAILABLE at once: another worker goes on."""
    stream = serving.admin.WatchBreakers(pb.WatchBreakersRequest())
    await stream.read()
    stopping = asyncio.create_task(serving.server.stop())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    await asyncio.wait_for(stopping, 2)

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_watches_are_limited(serving: Serving) -> None:
    """One more than there may be is refused; one that ended makes room."""
    streams = [serving.admin.WatchBreakers(pb.WatchBreakersRequest()) for _ in range(WATCHES_MAX)]
    for stream in streams:
        await stream.read()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await serving.admin.WatchBreakers(pb.WatchBreakersRequest()).read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for stream in streams:
        stream.cancel()
    async with asyncio.timeout(5):
        while True:
            another = serving.admin.WatchBreakers(pb.WatchBreakersRequest())
            try:
                assert await another.read()
                break
            except grpc.aio.AioRpcError:
                continue
    another.cancel()


async def test_faults_come_and_go(serving: Serving) -> None:
    """Set by pattern, listed by target, cleared one by one and all at once."""
    latency = fault(
        target="redis/*",
        kind=pb.FAULT_KIND_LATENCY,
        latency=Duration(nanos=80_000_000),
        probability=0.5,
        actor="alex",
    )
    done = await serving.admin.InjectFault(latency)
    (first, second) = done.faults

    assert (first.target, second.target) == ("redis/shard-00", "redis/shard-01")
    assert (first.kind, first.probability) == (pb.FAULT_KIND_LATENCY, 0.5)
    assert (first.latency.ToMilliseconds(), first.actor, first.reason) == (80, "alex", REASON)
    assert first.expire_time.seconds - time.time() == pytest.approx(60, abs=5)
    assert await serving.admin.ListFaults(pb.ListFaultsRequest()) == pb.ListFaultsResponse(
        faults=done.faults
    )
    left = await serving.admin.ClearFaults(pb.ClearFaultsRequest(target="redis/shard-00"))
    assert [one.target for one in left.faults] == ["redis/shard-01"]
    assert not (await serving.admin.ClearFaults(pb.ClearFaultsRequest())).faults


async def test_a_fault_replaces_the_one_before(serving: Serving) -> None:
    """One target has one fault; unset, it befalls every call."""
    await serving.admin.InjectFault(fault())
    await serving.admin.InjectFault(fault(kind=pb.FAULT_KIND_TIMEOUT, ttl=Duration(seconds=600)))
    (only,) = (await serving.admin.ListFaults(pb.ListFaultsRequest())).faults

    assert (only.kind, only.probability) == (pb.FAULT_KIND_TIMEOUT, 1.0)
    assert not only.HasField("latency")


BAD_FAULTS = {
    "no kind": ({"kind": 0}, "kind"),
    "an unknown kind": ({"kind": 9}, "kind"),
    "a probability of 0": ({"probability": 0.0}, "probability"),
    "a probability above 1": ({"probability": 1.01}, "probability"),
    "a probability that is none": ({"probability": float("nan")}, "probability"),
    "a latency of an error": ({"latency": Duration(seconds=1)}, "latency"),
    "no latency": ({"kind": pb.FAULT_KIND_LATENCY}, "latency"),
    "a latency above 10 s": (
        {"kind": pb.FAULT_KIND_LATENCY, "latency": Duration(seconds=10, nanos=10**6)},
        "latency",
    ),
    "a ttl above 10 min": ({"ttl": Duration(seconds=601)}, "ttl"),
    "a ttl of 0": ({"ttl": Duration()}, "ttl"),
    "no reason": ({"reason": ""}, "reason"),
    "an actor of 65": ({"actor": "a" * 65}, "actor"),
}


@pytest.mark.parametrize(("changes", "field"), BAD_FAULTS.values(), ids=BAD_FAULTS)
async def test_bad_faults(serving: Serving, changes: dict[str, Any], field: str) -> None:
    """The field is named, and nothing is set."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await serving.admin.InjectFault(fault(**changes))
    (violation,) = details_of(caught.value)["BadRequest"].field_violations

    assert (caught.value.code(), violation.field) == (INVALID, field)
    assert serving.machine.faults() == {}


@pytest.mark.parametrize("target", ["", "redis", "redis/shard-99", "mysql/*"])
async def test_unknown_targets(serving: Serving, target: str) -> None:
    """A parent has no calls of its own, so no fault either."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await serving.admin.InjectFault(fault(target=target))
    assert caught.value.code() is NOT_FOUND

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await serving.admin.ClearFaults(pb.ClearFaultsRequest(target=target or "nothing"))
    assert caught.value.code() is NOT_FOUND


async def test_a_shard_tells_what_its_breaker_does(serving: Serving) -> None:
    """By the line of the worker that answers."""
    serving.machine.say(0, serving.machine.generation, {"redis/shard-01": Reading(2, 1, 0, 1)})
    answer = await serving.admin.ListShards(pb.ListShardsRequest())

    assert [one.breaker_state for one in answer.shards] == [1, 2]


async def test_what_is_set_is_measured(serving: Serving) -> None:
    """A mode, a fault and a worker that lags are told while they are there, and not afterwards."""
    measuring = asyncio.create_task(measure_levers(serving.machine))
    await serving.admin.SetBreaker(setting(name="redis"))
    await serving.admin.InjectFault(fault())
    other_worker(serving, 4, seen=0)
    told = (
        ("standings_breaker_override", {"name": "redis", "mode": "forced_open"}),
        ("standings_fault_injected", {"target": SHARD, "kind": "error"}),
        ("standings_override_version_lag", {}),
    )

    async def are(*values: float) -> bool:
        return [REGISTRY.get_sample_value(*one) for one in told] == list(values)

    assert await until(lambda: are(1, 1, serving.machine.generation), timeout_s=5)
    serving.machine.leave(4)
    await serving.admin.SetBreaker(setting(name="*", mode=pb.BREAKER_MODE_AUTO))
    await serving.admin.ClearFaults(pb.ClearFaultsRequest())
    assert await until(lambda: are(0, 0, 0), timeout_s=5)
    measuring.cancel()


async def test_a_frozen_writer_holds_the_levers(serving: Serving, tmp_path: Path) -> None:
    """Who froze while it wrote is waited for, for a second; then callers are told."""
    frozen = MachineFile(tmp_path / "state", BREAKERS)
    with frozen._locked(1), pytest.raises(grpc.aio.AioRpcError) as caught:
        await serving.admin.SetBreaker(setting())
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert details_of(caught.value)["ErrorInfo"].reason == "LEVERS_BUSY"

    with frozen._locked(1):
        waiting = asyncio.ensure_future(serving.admin.SetBreaker(setting()))
        await asyncio.wait({waiting}, timeout=0.2)
    assert list((await waiting).acknowledged_workers) == [0]
    frozen.close()

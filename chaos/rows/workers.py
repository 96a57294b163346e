"""Rows 18 to 24: the server's own processes, its machine, and too much to do."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from typing import Final

from bootstrap.embedded.waiting import until
from chaos.admin import FORCED_OPEN, admin_of, flip
from chaos.deployment import WORKER_COUNT
from chaos.history import OK
from chaos.row import Expected, Row, Scene
from chaos.rows.postgres import nothing
from chaos.rows.redis import mend

_RESPAWN_S: Final = 10.0
_RESTART_S: Final = 6.0
"""The ports are free within 3 s; then it takes what any start takes beside load."""
_ROLL_S: Final = 60.0
_OVERLOAD: Final = 5
_LAST: Final = "postgres/read"
_LAST_S: Final = 2.0
_GOODPUT_MIN: Final = 0.8


async def kill_workers(scene: Scene) -> None:
    """SIGKILL at any moment, so before, in and after transactions, again and again."""
    rng = random.Random(int(scene.history.wall_offset_s))  # noqa: S311 - no secret
    servers = scene.deployment.servers
    for _ in range(max(2, round(5 * scene.scale))):
        servers.signal(rng.choice(servers.workers()), signal.SIGKILL)
        await asyncio.sleep(rng.uniform(1.0, 2.0))
        await servers.revive()
        await servers.whole(WORKER_COUNT, timeout_s=_RESPAWN_S)


async def kill_the_supervisor(scene: Scene) -> None:
    """It is gone, its workers go too, and it can be started again on the same ports at once."""
    servers = scene.deployment.servers
    await servers.kill()
    started_s = time.monotonic()
    await servers.start()
    took_s = time.monotonic() - started_s
    if took_s > _RESTART_S:
        scene.notes.append(f"the start took {took_s:.1f} s")
    await servers.whole(WORKER_COUNT, timeout_s=_RESPAWN_S)
    await asyncio.sleep(scene.seconds(5, 2))


async def freeze_a_worker(scene: Scene) -> None:
    """SIGSTOP; whoever watches it replaces it."""
    servers = scene.deployment.servers
    frozen = servers.workers()[0]
    servers.signal(frozen, signal.SIGSTOP)
    try:
        await asyncio.sleep(scene.seconds(8, 6))
        if frozen in servers.workers():
            scene.notes.append("the frozen worker was not replaced")
    finally:
        servers.signal(frozen, signal.SIGCONT)


async def roll_workers(scene: Scene) -> None:
    """Each in turn, as for a new release."""
    servers = scene.deployment.servers
    before = set(servers.workers())
    servers.roll()

    async def replaced() -> bool:
        return not before & set(servers.workers())

    if not await until(replaced, timeout_s=_ROLL_S):
        scene.notes.append("not all workers were replaced")
    await asyncio.sleep(1)


async def overload(scene: Scene) -> None:
    """Five times as many calls as before."""
    before_s = time.monotonic()
    usual = _goodput(scene, before_s - 2, before_s)
    scene.load.rate *= _OVERLOAD
    try:
        await asyncio.sleep(scene.seconds(20, 6))
    finally:
        scene.load.rate /= _OVERLOAD
    reached = _goodput(scene, before_s + 1, time.monotonic())
    if reached < _GOODPUT_MIN * usual:
        scene.notes.append(f"{reached:.0f} calls/s were answered, {usual:.0f} before")


async def flip_overrides(scene: Scene) -> None:
    """An operator in a panic, while a worker dies; then one override that is left to end."""
    history, servers = scene.history, scene.deployment.servers
    rng = random.Random(int(history.wall_offset_s))  # noqa: S311 - no secret
    async with admin_of(scene.deployment.admin_address) as admin:
        flipping = asyncio.create_task(flip(admin, history, rng, for_s=scene.seconds(15, 6)))
        await asyncio.sleep(scene.seconds(5, 2))
        servers.signal(servers.workers()[0], signal.SIGKILL)
        await flipping
        await servers.whole(WORKER_COUNT, timeout_s=_RESPAWN_S)
        await admin.clear(history)
        asked_s = time.monotonic()
        await admin.set_breaker(history, _LAST, FORCED_OPEN, ttl_s=_LAST_S)
        await admin.end_of(history, _LAST, asked_s + _LAST_S)
        if left := await admin.forced():
            scene.notes.append(f"still forced: {', '.join(left)}")


def _goodput(scene: Scene, since_s: float, until_s: float) -> float:
    """Calls answered in a second."""
    good = sum(
        1
        for attempt in scene.history.attempts
        if attempt.result == OK and since_s <= attempt.end_s < until_s
    )
    return good / (until_s - since_s)


ROWS: Final = (
    Row(
        18, "workers killed", kill_workers, mend, short=True,
        expected=Expected(reads_min=0.99, writes_min=0.99),
    ),
    Row(
        19, "supervisor killed", kill_the_supervisor, mend,
        expected=Expected(reads_min=None),
    ),
    Row(
        20, "a worker frozen", freeze_a_worker, mend, short=True,
        expected=Expected(reads_min=None, degrades_s=4.5),
    ),
    Row(
        21, "clocks jump", nothing, nothing,
        missing="Redis hangs under a faked clock; the tests of each part hand in clocks that jump",
    ),
    Row(
        22, "disk of the state full", nothing, nothing,
        missing="needs a small file system of its own, which takes rights that few have",
    ),
    Row(
        23, "workers replaced one by one", roll_workers, mend,
        expected=Expected(reads_min=0.9995, writes_min=0.9995),
    ),
    Row(
        25, "breakers forced at random, a worker killed", flip_overrides, mend,
        expected=Expected(reads_min=0.9),
    ),
    Row(
        24, "five times the load", overload, mend,
        expected=Expected(reads_min=None, heals_s=5.0),
    ),
)  # fmt: skip

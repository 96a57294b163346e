"""Rows from 101 on: what a deployment that somebody else runs is broken by, its own levers."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from chaos.admin import admin_of, flip
from chaos.row import Expected, Row, Scene, Step

_TTL_S: Final = 60.0
"""Should this process die, what it injected ends by itself."""
_OTHERS: Final = frozenset({"DATABASE", "SNAPSHOT"})


def injected(*targets: str, kind: str, latency_s: float = 0.0) -> Step:
    """Lets calls to some dependencies fail, hang or take longer."""

    async def break_(scene: Scene) -> None:
        async with admin_of(scene.target.admin_address) as admin:
            for target in targets:
                await admin.inject(target, kind, ttl_s=_TTL_S, latency_s=latency_s)
        await asyncio.sleep(scene.seconds(20, 8))

    return break_


async def flip_overrides(scene: Scene) -> None:
    """An operator in a panic."""
    rng = random.Random(int(scene.history.wall_offset_s))  # noqa: S311 - no secret
    async with admin_of(scene.target.admin_address) as admin:
        await flip(admin, scene.history, rng, for_s=scene.seconds(15, 6))


async def let_go(scene: Scene) -> None:
    """All levers back to where they were."""
    async with admin_of(scene.target.admin_address) as admin:
        await admin.clear(scene.history)


ROWS: Final = (
    Row(
        101, "every call to Redis fails", injected("redis/*", kind="ERROR"), let_go, index="down",
        expected=Expected(sources=_OTHERS, writes_min=0.99, heals_s=20.0, converges_s=30.0),
    ),
    Row(
        102, "Redis slow by 200 ms", injected("redis/*", kind="LATENCY", latency_s=0.2), let_go,
        expected=Expected(degrades_s=3.0, heals_s=20.0, converges_s=30.0),
    ),
    Row(
        103, "every call to PostgreSQL fails", injected("postgres/*", kind="ERROR"), let_go,
        expected=Expected(),
    ),
    Row(
        104, "PostgreSQL does not answer", injected("postgres/*", kind="TIMEOUT"), let_go,
        expected=Expected(),
    ),
    Row(
        105, "neither answers", injected("redis/*", "postgres/*", kind="ERROR"), let_go,
        index="down",
        expected=Expected(
            reads_min=None, tops_min=0.99, sources=frozenset({"SNAPSHOT", "CACHE"}), heals_s=20.0,
            converges_s=60.0,
        ),
    ),
    Row(
        106, "breakers forced at random", flip_overrides, let_go,
        expected=Expected(reads_min=0.9, heals_s=20.0, converges_s=30.0),
    ),
)  # fmt: skip

"""The stores of a process: those that the settings name, or embedded ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bootstrap.container import postgres_dsn
from bootstrap.embedded.stack import EmbeddedStack
from bootstrap.settings import Settings, SettingsInvalid
from storage.migrations import migrate


@asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[Settings]:
    """Settings whose stores are up. Embedded ones are migrated, and stopped on leaving.

    Raises SettingsInvalid where only one of the two is named: a real store beside an embedded
    one is a mistake that would be noticed too late.
    """
    named = (settings.postgres.dsn is not None, bool(settings.redis.nodes))
    if all(named):
        yield settings
        return
    if any(named):
        raise SettingsInvalid(
            "STANDINGS_POSTGRES_DSN and STANDINGS_REDIS_NODES: set both, or neither"
        )
    embedded = settings.embedded
    stack = EmbeddedStack(
        embedded.directory,
        redis_binary=embedded.redis_binary,
        postgres_bin=embedded.postgres_bin,
    )
    async with stack:
        started = settings.with_stores(
            postgres_dsn=stack.postgres_dsn, redis_nodes=stack.redis_nodes
        )
        await migrate(postgres_dsn(started, direct=True))
        yield started

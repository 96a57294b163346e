"""The stores of a process: those that the settings name, or embedded ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bootstrap.container import postgres_dsn
from bootstrap.embedded.stack import EmbeddedStack
from bootstrap.errors import NotConfigured
from bootstrap.settings import Settings, SettingsInvalid
from storage.migrations import MigrationChanged, migrate


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
    if settings.postgres.replica_dsns:
        raise SettingsInvalid("STANDINGS_POSTGRES_REPLICA_DSNS: of a PostgreSQL that is named")
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
        await migrate_database(started)
        yield started


async def migrate_database(settings: Settings) -> Sequence[str]:
    """Applies the migrations that are missing and returns their names.

    Raises NotConfigured, also where history was rewritten, and LedgerUnavailable.
    """
    try:
        return await migrate(postgres_dsn(settings, direct=True))
    except MigrationChanged as error:
        raise NotConfigured(
            f"{error} was applied in another form: restore it, and put the change in a new file"
        ) from error

"""PostgreSQL and a Redis Cluster together, in one directory that only one stack may use."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Mapping
from io import TextIOWrapper
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from bootstrap.embedded.binaries import Engine, find_postgres, find_redis
from bootstrap.embedded.errors import DirectoryLocked
from bootstrap.embedded.postgres import EmbeddedPostgres
from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster


class EmbeddedStack:
    """Both stores, started side by side.

    PostgreSQL's data stays in the directory; Redis starts empty, as the index it is. Without
    `fsync` a power cut may cost the data, which is right for tests only. Raises BinaryMissing at
    once; `start` raises DirectoryLocked and StartFailed.
    """

    def __init__(
        self,
        directory: Path,
        *,
        engine: Engine | None = None,
        redis_binary: Path | None = None,
        postgres_bin: Path | None = None,
        fsync: bool = True,
        postgres_settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._directory = directory.absolute()
        self._lock: TextIOWrapper | None = None
        program = find_redis(engine, setting=redis_binary)
        self.redis = EmbeddedRedisCluster(self._directory, program)
        self.postgres = EmbeddedPostgres(
            self._directory,
            find_postgres(setting=postgres_bin),
            fsync=fsync,
            settings=postgres_settings,
        )

    @property
    def postgres_dsn(self) -> str:
        """How to connect to PostgreSQL, the password included: never print it."""
        return self.postgres.dsn

    @property
    def redis_nodes(self) -> tuple[str, ...]:
        """`host:port` of the six nodes."""
        return self.redis.addresses

    async def start(self) -> None:
        """Starts both stores; if one fails, the other is stopped before the error is raised."""
        self._acquire()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.postgres.start())
                group.create_task(self.redis.start())
        except ExceptionGroup as failures:
            await self.stop()
            raise failures.exceptions[0] from None
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stops both stores and lets others have the directory. Does nothing a second time."""
        try:
            await asyncio.gather(self.postgres.stop(), self.redis.stop())
        finally:
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def _acquire(self) -> None:
        """Takes the directory; the kernel gives it back when this process ends, however it ends."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (self._directory / "lock").open("a+", encoding="ascii")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "another"
            lock.close()
            raise DirectoryLocked(
                f"{self._directory} is in use by process {holder}: stop that one, or choose another"
                " directory with STANDINGS_EMBEDDED_DIRECTORY"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

"""One server of the cluster: its connection, made on demand, and the functions on it."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hiredis import ReplyError
from pydantic import SecretStr

from sharding.connection import NodeConnection
from sharding.library import LIBRARY, Command
from sharding.replies import Answer, NodeLost
from sharding.settings import RedisSettings
from sharding.slot_map import Address

_BACKOFF_FIRST_S: Final = 0.02
_BACKOFF_MAX_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What all nodes have in common."""

    settings: RedisSettings
    tls: ssl.SSLContext | None
    rng: random.Random

    @classmethod
    def of(cls, settings: RedisSettings, rng: random.Random) -> NodeOptions:
        """The options of a cluster."""
        tls = ssl.create_default_context(cafile=settings.ca_file) if settings.tls else None
        return cls(settings, tls, rng)


class Node:
    """A node that is connected to when it is first needed, and again when that was lost."""

    def __init__(self, address: Address, options: NodeOptions) -> None:
        self._address = address
        self._options = options
        self._connection: NodeConnection | None = None
        self._connecting: asyncio.Task[NodeConnection | NodeLost] | None = None
        self._installing: asyncio.Task[None] | None = None
        self._failures = 0
        self._retry_at_s = 0.0

    @property
    def connected(self) -> bool:
        """Whether a call can be sent without connecting first."""
        return self._connection is not None and self._connection.usable

    @property
    def idle(self) -> bool:
        """Whether nothing waits on this node."""
        return self._connecting is None and (
            self._connection is None or self._connection.pending_count == 0
        )

    def send(self, commands: Sequence[Command]) -> asyncio.Future[Answer | NodeLost]:
        """As NodeConnection.send, over a connection that is made now if there is none."""
        if self._connection is not None and self._connection.usable:
            return self._connection.send(commands)
        return asyncio.get_running_loop().create_task(self._connect_and_send(commands))

    async def install(self) -> None:
        """Puts our functions on the node, if it takes them; callers share one attempt."""
        if self._installing is None:
            self._installing = asyncio.create_task(self._install())
        await asyncio.shield(self._installing)

    async def aclose(self) -> None:
        """Closes the connection; whatever waits on it is lost."""
        tasks = [task for task in (self._connecting, self._installing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._connection is not None:
            self._connection.abort()
            await self._connection.wait_closed()

    async def _connect_and_send(self, commands: Sequence[Command]) -> Answer | NodeLost:
        if self._connecting is None:
            now = asyncio.get_running_loop().time()
            if now < self._retry_at_s:
                return NodeLost("the last attempt to connect failed a moment ago")
            self._connecting = asyncio.create_task(self._connect())
        # Shielded: the attempt serves others, and the next call of this one.
        connection = await asyncio.shield(self._connecting)
        if isinstance(connection, NodeLost):
            return connection
        return await connection.send(commands)

    async def _connect(self) -> NodeConnection | NodeLost:
        settings = self._options.settings
        try:
            async with asyncio.timeout(settings.connect_timeout_s):
                connection = await self._open(settings.username, settings.password)
        except (OSError, TimeoutError, NodeLost) as error:
            self._failures += 1
            longest = min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2 ** min(self._failures, 10))
            pause_s = self._options.rng.uniform(longest / 2, longest)
            self._retry_at_s = asyncio.get_running_loop().time() + pause_s
            lost = NodeLost("no connection to be had")
            lost.__cause__ = error
            return lost
        else:
            self._failures = 0
            self._connection = connection
            await self.install()
            return connection
        finally:
            self._connecting = None

    async def _open(self, username: str | None, password: SecretStr | None) -> NodeConnection:
        """A connection that has said who we are. Raises OSError or NodeLost."""
        settings = self._options.settings
        connection = await NodeConnection.open(
            self._address,
            tls=self._options.tls,
            response_timeout_s=settings.response_timeout_s,
            pending_calls_max=settings.pending_calls_max,
        )
        if password is None:
            return connection
        user = () if username is None else (username.encode(),)
        try:
            answer = await connection.send([(b"AUTH", *user, password.get_secret_value().encode())])
        except BaseException:
            connection.abort()
            raise
        if isinstance(answer, NodeLost) or isinstance(answer[0], ReplyError):
            connection.abort()
            raise NodeLost("the node does not know us")
        return connection

    async def _install(self) -> None:
        try:
            async with asyncio.timeout(self._options.settings.connect_timeout_s):
                if self._options.settings.admin_username is not None:
                    await self._install_as_admin()
                elif self._connection is not None:
                    # A node that has the library says so, and a replica gets it from its primary.
                    await self._connection.send([LIBRARY.load])
        except (OSError, TimeoutError, NodeLost):
            # The call that wanted it asks again and tells what it then sees.
            return
        finally:
            self._installing = None

    async def _install_as_admin(self) -> None:
        settings = self._options.settings
        connection = await self._open(settings.admin_username, settings.admin_password)
        try:
            await connection.send([LIBRARY.load])
        finally:
            connection.abort()
            await connection.wait_closed()

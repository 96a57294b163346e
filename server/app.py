"""One worker's listeners: one for games, one for operators, and perhaps one for health checks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final

from bootstrap.server_settings import ServerSettings
from core.tracing import Tracer
from server.audit.describing import Known
from server.audit.link import Audit
from server.audit.refusals import Refusals
from server.drain import Drain
from server.health import Health, HealthServicer
from server.identity.access import OPEN, Access
from server.limits.accounts import Accounts
from server.reflection import ReflectionServicer
from server.rpc.admin_servicer import AdminServicer
from server.rpc.boards_servicer import BoardsServicer
from server.rpc.chain import Route, compose
from server.rpc.interceptors import default_chain
from server.rpc.methods import Servicer, method_table, service_names
from server.rpc.moderation_servicer import ModerationServicer
from server.rpc.ranking_servicer import RankingServicer
from server.transport.grpcio import GrpcioListener
from server.transport.listener import Listener, MakeListener
from server.use_cases import UseCases

_HURRIED_GRACE_S: Final = 1.0


class Server:
    """All listeners, started and ended together. `health` is for whoever proves the stores;
    `listener` makes the one for games. That for operators depends on nothing but this process.
    `access` says how callers reach them, and how they are known; `accounts`, how much they may ask
    for. Without a `tracer` nothing is traced.
    """

    def __init__(
        self,
        use_cases: UseCases,
        settings: ServerSettings,
        health: Health,
        listener: MakeListener = GrpcioListener,
        access: Access = OPEN,
        tracer: Tracer | None = None,
        *,
        accounts: Accounts | None = None,
    ) -> None:
        self._settings = settings
        self._access = access
        self._accounts = accounts
        self._health = health
        self._tracer = tracer
        self._drain = Drain()
        known = Known(use_cases.levers, use_cases.manage_boards, use_cases.index_operations)
        self._audit = Audit(use_cases.audit, known)
        self._refusals = Refusals(use_cases.audit)
        self._public = self._listener(
            (
                RankingServicer(use_cases, self._drain),
                BoardsServicer(use_cases.manage_boards),
                ModerationServicer(use_cases.moderate_users),
            ),
            listener,
        )
        self._admin = self._listener(
            (
                AdminServicer(
                    use_cases.list_shards,
                    use_cases.levers,
                    self._drain,
                    use_cases.index_operations,
                    use_cases.list_audit_events,
                ),
            ),
            GrpcioListener,
        )
        self._probed = self._health_listener()
        self.port = 0
        """Where games connect; set by start."""
        self.admin_port = 0
        """Where operators connect; set by start."""

    async def start(self) -> None:
        """Listens on all addresses. Raises RuntimeError when one is taken; then none is."""
        settings = self._settings
        self.port = await self._public.start(settings.address, settings.token_address)
        try:
            self.admin_port = await self._admin.start(settings.admin_address)
            if self._probed is not None and settings.health_address is not None:
                await self._probed.start(settings.health_address)
        except BaseException:
            await asyncio.gather(self._public.stop(0), self._admin.stop(0))
            raise

    async def drain(self) -> None:
        """Says goodbye: health first, then, when balancers had time to see it, the streams.

        A second time, nothing happens.
        """
        if self._drain.started:
            return
        self._health.drain()
        await asyncio.sleep(self._settings.drain_settle_s)
        self._drain.start()

    async def stop(self, *, hurried: bool = False) -> None:
        """Drains, and ends the listeners when their calls are done or the grace is over.

        Submissions that were read are recorded before this returns, if the grace allows; hurried,
        balancers get no time and calls a second.
        """
        grace_s = self._settings.drain_grace_s
        if hurried:
            grace_s = min(grace_s, _HURRIED_GRACE_S)
            self._health.drain()
            self._drain.start()
        await self.drain()
        end_s = time.monotonic() + grace_s
        await self._public.stop(grace_s)
        await self._drain.finished(max(0.0, end_s - time.monotonic()))
        # Last, so that operators can watch the end.
        last = [one for one in (self._admin, self._probed) if one is not None]
        await asyncio.gather(*(one.stop(max(0.0, end_s - time.monotonic())) for one in last))

    def _listener(self, servicers: Sequence[Servicer], make: MakeListener) -> Listener:
        """Every listener also tells its health and, if wanted, what it offers."""
        self._health.add_services(service_names(servicers))
        all_servicers: tuple[Servicer, ...] = (*servicers, HealthServicer(self._health))
        if self._settings.reflection:
            names = service_names(all_servicers)
            all_servicers = (*all_servicers, ReflectionServicer(names))
        return make(self._routes(all_servicers), self._settings, self._access.tls)

    def _health_listener(self) -> Listener | None:
        """Tells health and nothing else, without TLS: its callers are on this machine, and what it
        tells everybody may know.
        """
        if self._settings.health_address is None:
            return None
        return GrpcioListener(self._routes([HealthServicer(self._health)]), self._settings)

    def _routes(self, servicers: Sequence[Servicer]) -> Mapping[str, Route]:
        # A chain of its own: a flood of games must not lock operators out.
        chain = default_chain(
            in_flight_max=self._settings.in_flight_max,
            deadline_max_s=self._settings.deadline_max_s,
            slow_call_s=self._settings.slow_call_s,
            audit=self._audit,
            refusals=self._refusals,
            identify=self._access.callers,
            tracer=self._tracer,
            accounts=self._accounts,
        )
        return compose(method_table(servicers), chain)

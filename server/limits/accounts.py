"""What each caller has used, and may still."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from bootstrap.limit_settings import KINDS, LimitSettings
from bootstrap.server_settings import ServerSettings
from bootstrap.settings import Settings
from server import metrics
from server.errors import RateLimited, TooManyCalls
from server.identity.identity import ANONYMOUS, Identity, Role
from server.identity.policy import Kind
from server.limits.buckets import Bucket, SharedTimes
from server.limits.refusals import Refusals

_FILE: Final = "limits-1"
"""With the version of its layout."""


class Account:
    """One caller's tokens, by kind, and its calls in this worker."""

    __slots__ = ("_buckets", "_in_flight", "_in_flight_max", "_refusals", "name", "role")

    def __init__(
        self,
        name: str,
        role: str,
        buckets: Sequence[Bucket | None],
        in_flight_max: int,
        refusals: Refusals,
    ) -> None:
        self.name = name
        self.role = role
        self._buckets = buckets
        self._in_flight = 0
        self._in_flight_max = in_flight_max
        self._refusals = refusals

    def take(self, kind: Kind) -> None:
        """Pays for the beginning of a call. Raises RateLimited."""
        bucket = self._buckets[kind]
        if bucket is None:
            return
        wait_s = bucket.take()
        if wait_s > 0:
            self._refusals.count(self.name, self.role, kind, RateLimited.reason)
            raise RateLimited(retry_after_ms=math.ceil(wait_s * 1000))

    def enter(self, kind: Kind) -> None:
        """Takes one of the places that the caller may have. Raises TooManyCalls."""
        if self._in_flight >= self._in_flight_max:
            self._refusals.count(self.name, self.role, kind, TooManyCalls.reason)
            raise TooManyCalls("too many calls of this caller are in progress")
        self._in_flight += 1

    def leave(self) -> None:
        """Gives the place back."""
        self._in_flight -= 1

    def owe(self, kind: Kind, count: int) -> None:
        """Pays for work that was found out to be asked for."""
        bucket = self._buckets[kind]
        if bucket is not None and count > 0:
            bucket.owe(count)

    async def room(self, kind: Kind) -> None:
        """Returns when the caller has a token; takes none."""
        bucket = self._buckets[kind]
        if bucket is None or not bucket.wait_s():
            return
        start_s = time.monotonic()
        # Nobody tells when there is one; it is known, unless others take it.
        while wait_s := bucket.wait_s():  # noqa: ASYNC110
            await asyncio.sleep(wait_s)
        metrics.LIMIT_HELD_SECONDS.labels(self.role).inc(time.monotonic() - start_s)


class Accounts:
    """The accounts of the callers of late: a bounded number, whatever names callers may have."""

    def __init__(
        self, settings: LimitSettings, server: ServerSettings, shared: SharedTimes
    ) -> None:
        self._rates = {role: settings.rates_of(role.value) for role in Role}
        self._burst_s = settings.burst_s
        self._in_flight_max = max(1, int(server.in_flight_max * settings.in_flight_share))
        self._accounts: OrderedDict[tuple[str, frozenset[Role]], Account] = OrderedDict()
        self._count_max = settings.callers_max
        self._shared = shared
        self._refusals = Refusals()

    def of(self, identity: Identity, peer: str) -> Account:
        """The account of a caller; of one that nobody was asked for, that of its host."""
        key = (identity.name, identity.roles)
        if identity is ANONYMOUS:
            key = (f"anonymous/{peer.rpartition(':')[0] or peer}", _AS_GAME_SERVER)
        account = self._accounts.get(key)
        if account is not None:
            self._accounts.move_to_end(key)
            return account
        account = self._accounts[key] = self._made(*key)
        if len(self._accounts) > self._count_max:
            self._accounts.popitem(last=False)
        return account

    def _made(self, name: str, roles: frozenset[Role]) -> Account:
        role = min((role.value for role in roles), default="none")
        buckets = [self._bucket(name, roles, kind) for kind in KINDS]
        return Account(name, role, buckets, self._in_flight_max, self._refusals)

    def _bucket(self, name: str, roles: frozenset[Role], kind: str) -> Bucket | None:
        rates = [self._rates[role][kind] for role in roles]
        if not rates or 0 in rates:
            return None
        rate_per_s = max(rates)
        return Bucket(
            self._shared, f"{kind} {name}", rate_per_s=rate_per_s, burst=rate_per_s * self._burst_s
        )


_AS_GAME_SERVER: Final = frozenset({Role.GAME_SERVER})


def accounts_of(settings: Settings, *, asked: bool) -> Accounts | None:
    """The accounts that settings ask for, shared by the workers of the state directory; None where
    nobody is limited. `asked`: whether callers are asked who they are.
    """
    if not asked and not settings.limits.anonymous:
        return None
    shared = SharedTimes.open(settings.state.directory / _FILE)
    return Accounts(settings.limits, settings.server, shared)

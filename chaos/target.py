"""What a run needs of a deployment, and one that was there before the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from chaos.boards import fill_boards, make_boards
from chaos.conduct import Vitals
from chaos.stores import Stores


class Target(Protocol):
    """A deployment under test. Addresses are host:port."""

    @property
    def address(self) -> str:
        """Where games connect."""

    @property
    def admin_address(self) -> str:
        """Where operators connect."""

    @property
    def stores(self) -> Stores | None:
        """Where its stores can be looked into; None: nowhere."""

    async def prepare(self, users: Mapping[str, int]) -> None:
        """Makes the boards of a run, on which users 1 to so many have entries."""

    async def whole(self) -> bool:
        """Waits until every part of it is up again; False: in vain."""

    async def vitals(self) -> Vitals | None:
        """What its workers hold; None: nobody can tell from here."""

    async def probes_most(self) -> int | None:
        """The most probes that a breaker of a worker let through at once; None: as above."""


@dataclass(frozen=True, slots=True)
class Given:
    """A deployment that somebody else runs. It is broken by nothing but its own levers."""

    address: str
    admin_address: str
    stores: Stores | None

    async def prepare(self, users: Mapping[str, int]) -> None:
        """See `Target.prepare`; through the server, as any game would."""
        await make_boards(self.address)
        await fill_boards(self.address, users)

    async def whole(self) -> bool:
        """See `Target.whole`; whoever runs it sees to that."""
        return True

    async def vitals(self) -> Vitals | None:
        """See `Target.vitals`."""
        return None

    async def probes_most(self) -> int | None:
        """See `Target.probes_most`."""
        return None

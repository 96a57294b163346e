"""Those who follow a board: some go soon, some do not read for long, and all want the truth."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf import duration_pb2

from chaos.soak.calling import CODES, OK, Calling, Mood, end_of
from chaos.soak.owners import Owner
from chaos.soak.tally import End
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2

_Call: TypeAlias = grpc.aio.UnaryStreamCall[Any, pb.WatchEntriesResponse]

_EVERY: Final = duration_pb2.Duration(nanos=100_000_000)
_TOP_MAX: Final = 1_000
_STAY_S_MAX: Final = 3.0
_PAUSE_S_MAX: Final = 12.0
"""Longer than a message may wait to be read: some of the slow are sent away."""
_CATCH_UP_S: Final = 20.0
_SENT_AWAY: Final = "UNAVAILABLE"


@dataclass(slots=True)
class View:
    """A board as one watch has told of it."""

    scores: dict[int, int] = field(default_factory=dict)
    _live: dict[int, int] = field(default_factory=dict)
    """What the index itself showed."""
    backwards: str = ""
    """What was told in the wrong order; on these boards scores only rise."""

    def take(self, message: pb.WatchEntriesResponse) -> None:
        """Applies one message."""
        if message.event == pb.WATCH_EVENT_SNAPSHOT:
            self.scores.clear()
        for user in message.removed_user_ids:
            self.scores.pop(user, None)
        # Without the index a state may be older than the one before, and says so.
        live = message.meta.source == types_pb2.SOURCE_INDEX and not message.meta.stale
        for entry in message.entries:
            self.scores[entry.user_id] = entry.score
            if live:
                before = self._live.get(entry.user_id, entry.score)
                self._live[entry.user_id] = entry.score
                if before > entry.score:
                    text = f"user {entry.user_id} went from {before} back to {entry.score}"
                    self.backwards = text

    def shows(self, totals: dict[int, int]) -> bool:
        """Whether it is at least as new as these totals."""
        return all(self.scores.get(user, 0) >= total for user, total in totals.items())


@dataclass(frozen=True, slots=True)
class Watchers:
    """Follow the board of an owner who writes often."""

    owner: Owner
    calling: Calling
    rng: random.Random

    async def passing(self) -> None:
        """Looks at a board for a while or not at all, and goes."""
        mood = self.rng.choice((Mood.FICKLE, Mood.HASTY, Mood.CUT_OFF))
        stay_s = self.rng.choice((0.0, self.rng.uniform(0, _STAY_S_MAX)))
        call = self._call(mood, stay_s if mood is Mood.HASTY else None)
        view = View()
        end = End(OK)
        try:
            async with asyncio.timeout(None if mood is Mood.HASTY else stay_s):
                end = await _follow(call, view)
        except TimeoutError:
            call.cancel()
            end = End((await call.code()).name)
        finally:
            call.cancel()
        # A watch has no end of its own.
        allowed = {*CODES[mood], "CANCELLED"} - {OK}
        self._ended(f"{mood.value} on a watch", end, allowed, view)

    async def slow(self) -> None:
        """Reads nothing for a while, then everything, until that is what the board is now; unless
        it is sent away for that.
        """
        call = self._call(Mood.PATIENT, None)
        view = View()
        end = End("CANCELLED")
        try:
            # Its end, should it come so soon, comes again.
            await _read(call, view)
            await asyncio.sleep(self.rng.uniform(1, _PAUSE_S_MAX))
            due = dict(self.owner.totals)
            async with asyncio.timeout(_CATCH_UP_S):
                while not view.shows(due):
                    if not await _read(call, view):
                        end = End((await call.code()).name, await call.details())
                        break
                else:
                    self.calling.tally.check("WatchEntries", True, "")
        except grpc.aio.AioRpcError as error:
            end = end_of(error)
        except TimeoutError:
            self.calling.tally.wrong("a watch does not show what was acknowledged")
        finally:
            call.cancel()
        self._ended("slow on a watch", end, {"CANCELLED", _SENT_AWAY}, view)

    def _call(self, mood: Mood, timeout_s: float | None) -> _Call:
        request = pb.WatchEntriesRequest(
            board_id=self.owner.board, top_count=_TOP_MAX, min_interval=_EVERY
        )
        call: _Call = self.calling.stub(mood).WatchEntries(request, timeout=timeout_s)
        return call

    def _ended(self, kind: str, end: End, allowed: Collection[str], view: View) -> None:
        self.calling.tally.ended(kind, "WatchEntries", end, allowed)
        self.calling.tally.check("WatchEntries", not view.backwards, view.backwards)


async def _follow(call: _Call, view: View) -> End:
    """Reads to the end."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        async for message in call:
            view.take(message)
    return End((await call.code()).name, await call.details())


async def _read(call: _Call, view: View) -> bool:
    """Takes in the next message; False: there is none."""
    message = await call.read()
    if isinstance(message, pb.WatchEntriesResponse):
        view.take(message)
        return True
    return False

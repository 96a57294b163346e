"""What both stores hold, read straight from them and by nobody's code but this.

Boards of a run have both columns descending and subscores of 0, so a key is made here in one line
and not by what is under test.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import psycopg
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from core.ordering import KEY_BYTES
from sharding.keys import SHARDS, season_keys

_DESCENDING: Final = 2**63 - 1
_ANSWER_S: Final = 5.0
_KEY: Final = struct.Struct(">QQQQ")

_SEASON: Final = """
select s.season_no, clock_timestamp() from seasons s join boards b using (board_no)
where b.board_id = %s and b.delete_time is null order by s.ends_at desc limit 1
"""
_ENTRIES: Final = """
select user_id, score, arrival, revision, submission_count from entries
where season_no = %s and state = 0
"""
_EVENTS: Final = """
select id::text, user_id, score, outcome, new_score, new_arrival, revision from score_events
where season_no = %s and record_time >= %s and operator <> 5
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """An entry of the ledger."""

    score: int
    arrival: int
    revision: int
    count: int

    def key(self, user_id: int) -> bytes:
        """Where it stands: plain byte order is rank order."""
        return key_of(self.score, self.arrival, user_id)


@dataclass(frozen=True, slots=True)
class Event:
    """A submission as the ledger keeps it. `outcome` as in the contract."""

    submission_id: str
    user_id: int
    score: int
    outcome: int
    new_score: int | None
    new_arrival: int | None
    revision: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """The live entries of a board at one moment, when nobody was writing."""

    season: int
    time: datetime
    """By the clock of PostgreSQL."""
    entries: Mapping[int, Standing]

    def keys(self) -> Sequence[bytes]:
        """What the index has to hold, in rank order."""
        return sorted(standing.key(user) for user, standing in self.entries.items())


@dataclass(frozen=True, slots=True)
class Found:
    """All that the checker is given of one board: the ledger before and after, the submissions
    in between, and what the index held after; None where it could not be read.
    """

    board: str
    operator: str
    before: Ledger
    after: Ledger
    events: Mapping[str, Event]
    index: Sequence[bytes] | None = field(default=None, repr=False)


def key_of(score: int, arrival: int, user_id: int) -> bytes:
    """The key of an entry on a board of a run."""
    return _KEY.pack((score ^ _DESCENDING) % 2**64, 2**63 - 1, arrival, user_id)


@dataclass(frozen=True, slots=True)
class Stores:
    """Where the stores are, past every proxy."""

    dsn: str
    nodes: Sequence[str]

    async def ledger(self, board: str) -> Ledger:
        """The entries of a board now. Nobody may be writing."""
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            row = await (await connection.execute(_SEASON, (board,))).fetchone()
            if row is None:
                raise LookupError(board)
            season, time = row
            rows = await (await connection.execute(_ENTRIES, (season,))).fetchall()
        entries = {row[0]: Standing(*row[1:]) for row in rows}
        return Ledger(season, time, entries)

    async def events(self, season: int, since: datetime) -> Mapping[str, Event]:
        """The submissions of transactions that began since then, by id."""
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            rows = await connection.execute(_EVENTS, (season, since))
            return {row[0]: Event(*row) async for row in rows}

    async def index(self, season: int) -> Sequence[bytes] | None:
        """The keys that the index holds, in rank order; None while some shard cannot be read."""
        keys: list[bytes] = []
        for shard in SHARDS:
            found = await self._shard(season_keys(shard, season)[1])
            if found is None:
                return None
            keys += found
        return sorted(keys)

    async def found(self, board: str, operator: str, before: Ledger) -> Found:
        """The state of a board after a run that began with `before`."""
        after = await self.ledger(board)
        return Found(
            board,
            operator,
            before,
            after,
            await self.events(after.season, before.time),
            await self.index(after.season),
        )

    async def _shard(self, name: bytes) -> Sequence[bytes] | None:
        """The members of a sorted set, whichever node has it."""
        for address in self.nodes:
            host, _, port = address.rpartition(":")
            client = Redis(
                host=host, port=int(port), protocol=2,
                socket_timeout=_ANSWER_S, socket_connect_timeout=_ANSWER_S,
                retry=Retry(NoBackoff(), 0),
            )  # fmt: skip
            try:
                members = await client.zrange(name, 0, -1)
            except ResponseError:
                continue  # another node's
            except (RedisError, OSError):
                continue
            finally:
                await client.aclose()
            # The member '' is there always, so that a lost set is not taken for an empty one.
            if members:
                return [member[:KEY_BYTES] for member in members[1:] if isinstance(member, bytes)]
        return None

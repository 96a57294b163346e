"""Board definitions and their seasons."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from psycopg import errors as pg

from core.errors import BoardExists, BoardNotFound, EtagMismatch
from core.types import Board, BoardSpec, Operator, Season, SortOrder
from storage.pool import Pool, Row, query
from storage.settings import PostgresSettings
from storage.statement import Statement

_SELECT: Final = """
select b.board_no, b.board_id, b.title, b.sort_order, b.subscore_sort_order, b.operator,
       b.min_score, b.max_score, b.client_writes, b.metadata::text, b.version,
       (extract(epoch from b.create_time) * 1000)::bigint,
       (extract(epoch from b.update_time) * 1000)::bigint, s.season_no, s.season_id, b.index_only
"""
_CURRENT: Final = """
from boards b join seasons s using (board_no)
where b.delete_time is null and s.starts_at <= now() and now() < s.ends_at
"""
_GET: Final = Statement.of(f"{_SELECT} {_CURRENT} and b.board_id = %(board_id)s")
_LIST: Final = Statement.of(
    f"{_SELECT} {_CURRENT} and b.board_id > %(after)s"
    " and starts_with(b.board_id, %(prefix)s) order by b.board_id limit %(limit)s"
)
_CREATE: Final = Statement.of(f"""
with b as (
  insert into boards (board_id, title, sort_order, subscore_sort_order, operator, min_score,
                      max_score, client_writes, metadata, index_only)
  values (%(board_id)s, %(title)s, %(sort_order)s, %(subscore_sort_order)s, %(operator)s,
          %(min_score)s, %(max_score)s, %(client_writes)s, %(metadata)s::jsonb,
          %(index_only)s)
  returning *
), s as (
  insert into seasons (board_no, season_id, starts_at) select board_no, 's1', now() from b
  returning *
)
{_SELECT} from b join s using (board_no)
""")  # noqa: S608
_MATCH: Final = """
board_id = %(board_id)s and delete_time is null
and (%(version)s::bigint is null or (board_no, version) = (%(board_no)s::integer, %(version)s))
"""
_UPDATE: Final = Statement.of(f"""
with b as (
  update boards set
    title = case when 'title' = any(%(fields)s::text[]) then %(title)s::text else title end,
    min_score = case when 'min_score' = any(%(fields)s) then %(min_score)s::bigint
                     else min_score end,
    max_score = case when 'max_score' = any(%(fields)s) then %(max_score)s::bigint
                     else max_score end,
    client_writes = case when 'client_writes' = any(%(fields)s) then %(client_writes)s::boolean
                         else client_writes end,
    metadata = case when 'metadata' = any(%(fields)s) then %(metadata)s::jsonb else metadata end,
    index_only = case when 'index_only' = any(%(fields)s) then %(index_only)s::boolean
                      else index_only end,
    version = version + 1,
    update_time = now()
  where {_MATCH}
  returning *
)
{_SELECT} from b join seasons s using (board_no)
where s.starts_at <= now() and now() < s.ends_at
""")  # noqa: S608  # constants of this module
_DELETE: Final = Statement.of(f"""
with b as (
  update boards set delete_time = now(), version = version + 1, update_time = now()
  where {_MATCH}
  returning *
), s as (
  update seasons set ends_at = greatest(now(), starts_at + interval '1 microsecond')
  from b where seasons.board_no = b.board_no and now() < seasons.ends_at
  returning seasons.*
)
{_SELECT} from b join s using (board_no)
""")  # noqa: S608  # constants of this module
_ETAG: Final = re.compile(r"([0-9a-f]{1,7})-([0-9a-f]{1,15})")
"""As core.types.Board.etag makes it, and no larger than the columns."""
_NOTHING: Final = {
    "title": None,
    "min_score": None,
    "max_score": None,
    "client_writes": None,
    "metadata": None,
    "index_only": None,
}
"""The mutable fields; which of them are to be changed, the statement is told by name."""


class PostgresBoards:
    """The `Boards` port on PostgreSQL."""

    def __init__(self, settings: PostgresSettings, *, write: Pool, read: Pool) -> None:
        self._write = write
        self._read = read
        self._write_timeout_s = settings.write_timeout_ms / 1000
        self._read_timeout_s = settings.read_timeout_ms / 1000

    async def create(self, spec: BoardSpec) -> Board:
        """See `Boards.create`. One round trip."""
        try:
            rows = await self._change(
                _CREATE,
                {
                    "board_id": spec.board_id,
                    "title": spec.title,
                    "sort_order": int(spec.sort_order),
                    "subscore_sort_order": int(spec.subscore_sort_order),
                    "operator": int(spec.operator),
                    "min_score": spec.min_score,
                    "max_score": spec.max_score,
                    "client_writes": spec.client_writes,
                    "metadata": spec.metadata,
                    "index_only": spec.index_only,
                },
            )
        except pg.UniqueViolation as error:
            raise BoardExists from error
        return _board(rows[0])

    async def get(self, board_id: str) -> Board:
        """See `Boards.get`. One round trip."""
        rows = await query(
            self._read,
            _GET,
            {"board_id": board_id},
            timeout_s=self._read_timeout_s,
            idempotent=True,
        )
        if not rows:
            raise BoardNotFound
        return _board(rows[0])

    async def list(self, *, after: str, limit: int, prefix: str = "") -> Sequence[Board]:
        """See `Boards.list`. One round trip."""
        rows = await query(
            self._read,
            _LIST,
            {"after": after, "limit": limit, "prefix": prefix},
            timeout_s=self._read_timeout_s,
            idempotent=True,
        )
        return [_board(row) for row in rows]

    async def update(self, board_id: str, changes: Mapping[str, object], *, etag: str) -> Board:
        """See `Boards.update`. One round trip, two where the etag may be at fault."""
        rows = await self._change(
            _UPDATE,
            {
                "board_id": board_id,
                **_version(etag),
                **_NOTHING,
                **changes,
                "fields": list(changes),
            },
        )
        return await self._changed(rows, board_id)

    async def delete(self, board_id: str, *, etag: str) -> Board:
        """See `Boards.delete`. One round trip, two where the etag may be at fault."""
        rows = await self._change(_DELETE, {"board_id": board_id, **_version(etag)})
        return await self._changed(rows, board_id)

    async def _change(self, statement: Statement, parameters: dict[str, object]) -> Sequence[Row]:
        return await query(self._write, statement, parameters, timeout_s=self._write_timeout_s)

    async def _changed(self, rows: Sequence[Row], board_id: str) -> Board:
        if rows:
            return _board(rows[0])
        # Nothing matched: either there is no such board, or its etag was another one.
        await self.get(board_id)
        raise EtagMismatch


def _version(etag: str) -> dict[str, Any]:
    """The parameters that an etag stands for; an empty one asks for nothing, a strange one for a
    version that never was.
    """
    if not etag:
        return {"board_no": None, "version": None}
    match = _ETAG.fullmatch(etag)
    if match is None:
        return {"board_no": 0, "version": 0}
    return {"board_no": int(match[1], 16), "version": int(match[2], 16)}


def _board(row: Row) -> Board:
    spec = BoardSpec(
        board_id=row[1],
        title=row[2],
        sort_order=SortOrder(row[3]),
        subscore_sort_order=SortOrder(row[4]),
        operator=Operator(row[5]),
        min_score=row[6],
        max_score=row[7],
        client_writes=row[8],
        metadata=row[9],
        index_only=row[15],
    )
    return Board(
        number=row[0],
        spec=spec,
        season=Season(row[13], row[14]),
        version=row[10],
        create_time_ms=row[11],
        update_time_ms=row[12],
    )

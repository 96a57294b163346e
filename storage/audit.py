"""The audit of all machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from core.audit_lines import AuditLine, Head, parse_line
from core.audit_ports import AuditEvent, AuditFilter, AuditPoint
from core.errors import AuditBroken
from storage.pool import Pool, Row, query
from storage.statement import Statement

_TIMEOUT_S: Final = 5.0

_HEADS: Final = Statement.of("""
select chain, sequence, line from audit_lines
where (chain, sequence) in (select chain, max(sequence) from audit_lines group by chain)
order by chain
""")
_HEAD: Final = Statement.of("""
select chain, sequence, line from audit_lines where chain = %(chain)s::text
order by sequence desc limit 1
""")
_STORE: Final = Statement.of("""
insert into audit_lines (chain, sequence, line)
select * from unnest(%(chain)s::text[], %(sequence)s::bigint[], %(line)s::text[])
on conflict (chain, sequence) do nothing
""")
_LINES: Final = Statement.of("""
select sequence, line from audit_lines
where chain = %(chain)s::text and sequence > %(after)s::bigint
order by sequence limit %(limit)s::integer
""")
_PAGE: Final = Statement.of("""
select a.line, o.line
from audit_lines a
left join lateral (
  select line from audit_lines o
  where o.kind = 'outcome' and o.chain = a.chain and o.action = a.sequence
  order by o.sequence limit 1
) o on true
where a.kind = 'action'
  and (%(time)s::text is null
       or (a.time, a.chain, a.sequence)
          < (%(time)s::text collate "C", %(chain)s::text collate "C", %(sequence)s::bigint))
  and a.time >= %(since)s::text and (%(until)s::text = '' or a.time < %(until)s::text)
  and (%(actor)s::text = '' or a.actor = %(actor)s::text)
  and (%(method)s::text = '' or a.method = %(method)s::text)
  and (%(target)s::text = '' or a.target = %(target)s::text)
order by a.time desc, a.chain desc, a.sequence desc limit %(limit)s::integer
""")


class PostgresAudit:
    """The `AuditArchive` port on PostgreSQL. One round trip each."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def heads(self) -> Sequence[Head]:
        """See `AuditArchive.heads`."""
        return [_head(row) for row in await self._query(_HEADS)]

    async def head(self, chain: str) -> Head | None:
        """See `AuditArchive.head`."""
        rows = await self._query(_HEAD, chain=chain)
        return _head(rows[0]) if rows else None

    async def store(self, lines: Sequence[AuditLine]) -> None:
        """See `AuditArchive.store`."""
        await self._query(
            _STORE,
            chain=[line.chain for line in lines],
            sequence=[line.sequence for line in lines],
            line=[line.data.decode() for line in lines],
        )

    async def lines(self, chain: str, *, after: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """See `AuditArchive.lines`."""
        rows = await self._query(_LINES, chain=chain, after=after, limit=limit)
        return [(sequence, line.encode()) for sequence, line in rows]

    async def page(
        self, wanted: AuditFilter, *, before: AuditPoint | None, limit: int
    ) -> Sequence[AuditEvent]:
        """See `AuditReads.page`."""
        time, chain, sequence = before or (None, "", 0)
        rows = await self._query(
            _PAGE,
            time=time,
            chain=chain,
            sequence=sequence,
            since=wanted.since,
            until=wanted.until,
            actor=wanted.actor,
            method=wanted.method,
            target=wanted.target,
            limit=limit,
        )
        return [
            AuditEvent(_line(action), None if outcome is None else _line(outcome))
            for action, outcome in rows
        ]

    async def _query(self, statement: Statement, **parameters: Any) -> list[Row]:  # noqa: ANN401
        return await query(self._pool, statement, parameters, timeout_s=_TIMEOUT_S, idempotent=True)


def _line(text: str) -> AuditLine:
    line = parse_line(text.encode())
    if line is None:
        raise AuditBroken
    return line


def _head(row: Row) -> Head:
    """The end of a chain, also where its last line is not what was taken in."""
    chain, sequence, text = row
    line = parse_line(text.encode())
    return Head(chain, sequence, "" if line is None else line.hash)

"""What operators see, as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from rich import box
from rich.markup import escape
from rich.table import Table

from server.admin_client import AuditRow, BreakerRow, OperationShardRow, ShardRow, WorkerRow

_USERS_MAX: Final = 5
"""Of those that differ: the first, to begin with."""
_STYLES: Final = {
    "CLOSED": "green",
    "HALF_OPEN": "yellow",
    "OPEN": "red",
    "READY": "green",
    "REBUILDING": "yellow",
    "UNBUILT": "red",
    "DOWN": "red",
    "FORCED_OPEN": "bold red",
    "FORCED_CLOSED": "bold yellow",
}


def breakers_table(rows: Sequence[BreakerRow], now: datetime) -> Table:
    """The breakers, each with what it does, who decides, and for how long yet."""
    table = _table("breaker", "state", "mode", "failed", "slow", "open for", "workers", "set by")
    for row in rows:
        table.add_row(
            row.name,
            _coloured(row.state),
            _coloured(row.mode),
            _percent(row.failure_rate),
            _percent(row.slow_rate),
            _left(row.until, now),
            _workers(row.workers),
            _setting(row, now),
        )
    return table


def workers_table(rows: Sequence[BreakerRow], now: datetime) -> Table:
    """The breakers, each with a line for every worker."""
    table = _table("breaker", "worker", "pid", "state", "failed", "slow", "open for")
    for row in rows:
        for worker in row.workers:
            table.add_row(
                row.name,
                str(worker.worker),
                str(worker.pid),
                _coloured(worker.state),
                _percent(worker.failure_rate),
                _percent(worker.slow_rate),
                _left(worker.until, now),
            )
    return table


def shards_table(rows: Sequence[ShardRow]) -> Table:
    """The shards, each with where it lives and how far it is."""
    table = _table("shard", "node", "slot", "entries", "watermark", "lag", "state", "breaker")
    for row in rows:
        table.add_row(
            f"{row.shard:02}",
            row.node_address or "-",
            str(row.slot),
            f"{row.entry_count:,}",
            str(row.watermark),
            "-" if row.lag_s is None else f"{row.lag_s:.1f} s",
            _coloured(row.state),
            _coloured(row.breaker),
        )
    return table


def operation_table(rows: Sequence[OperationShardRow]) -> Table:
    """Shards of seasons that differ, or that were built."""
    table = _table("board", "season", "shard", "in database", "in index", "differ", "users", "")
    for row in rows:
        table.add_row(
            row.board_id,
            row.season_id,
            f"{row.shard:02}",
            f"{row.database_entry_count:,}",
            f"{row.index_entry_count:,}",
            f"{row.difference_count:,}",
            ", ".join(map(str, row.user_ids[:_USERS_MAX])),
            "rebuilt" if row.rebuilt else "",
        )
    return table


def audit_table(rows: Sequence[AuditRow]) -> Table:
    """Events of the audit: who did what, and what became of it."""
    table = _table("time", "actor", "method", "target", "status", "from", "to", "reason")
    for row in rows:
        table.add_row(
            f"{row.time:%Y-%m-%d %H:%M:%S}",
            escape(row.actor),
            row.method.rpartition("/")[2],
            escape(row.target),
            row.status or "not known",
            _values(row.old_values),
            _values(row.new_values),
            escape(row.reason),
        )
    return table


def _values(values: Mapping[str, object]) -> str:
    return escape(", ".join(f"{name}={value}" for name, value in values.items()))


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table


def _coloured(word: str) -> str:
    style = _STYLES.get(word)
    return f"[{style}]{word}[/]" if style else word


def _percent(rate: float) -> str:
    return f"{rate:.0%}" if rate else "-"


def _workers(workers: Sequence[WorkerRow]) -> str:
    """How many of the workers are in which state."""
    counted = Counter(worker.state for worker in workers)
    return ", ".join(f"{count} {state.lower()}" for state, count in sorted(counted.items())) or "-"


def _setting(row: BreakerRow, now: datetime) -> str:
    if row.expires is None:
        return ""
    # What operators write is text, whatever it looks like.
    return f"{escape(row.actor)}, {_left(row.expires, now)} left: {escape(row.reason)}"


def _left(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return "-"
    left_s = max(0, round((moment - now).total_seconds()))
    minutes, seconds = divmod(left_s, 60)
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"

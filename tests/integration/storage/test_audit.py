"""The audit in PostgreSQL: what comes from files, once, and what is asked of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from bootstrap.audit_files import AuditFiles, audit_files
from bootstrap.embedded.postgres import EmbeddedPostgres
from bootstrap.embedded.waiting import until
from core.audit_lines import Action, Head, next_line
from core.audit_ports import AuditFilter, AuditPoint
from core.errors import AuditBroken, LedgerUnavailable
from core.list_audit_events import ListAuditEvents
from core.ship_audit import ShipAudit
from core.tokens import TokenSigner
from core.verify_audit import Fault, walk_archive
from storage.audit import PostgresAudit
from storage.pool import open_pool
from storage.sessions import PoolUse
from storage.settings import PostgresSettings

pytestmark = pytest.mark.both_postgres

HIDE = "standings.v1.ModerationService/HideUser"
SIGNER = TokenSigner([b"secret"])


class Clock:
    """Every look is a ms later, on whichever machine."""

    ms = 1_700_000_000_000

    def now_ms(self) -> int:
        """The time."""
        self.ms += 1
        return self.ms

    def monotonic_s(self) -> float:
        """The same."""
        return self.ms / 1000


CLOCK = Clock()


@pytest.fixture
async def archive(database: str) -> AsyncIterator[PostgresAudit]:
    """The lines of a fresh database."""
    settings = PostgresSettings(dsn=SecretStr(database))
    async with open_pool(settings, database, PoolUse.JOBS) as pool:
        await pool.wait(10)
        yield PostgresAudit(pool)


@pytest.fixture
def files(tmp_path: Path) -> AuditFiles:
    """The files of a machine, small ones."""
    return machine(tmp_path)


def machine(folder: Path) -> AuditFiles:
    """One of several."""
    return AuditFiles(folder / "audit", CLOCK, file_bytes_max=4096)


async def act(files: AuditFiles, *targets: str, actor: str = "ann", end: bool = True) -> None:
    """Some actions, done or still under way."""
    for target in targets:
        sequence = await files.begin(Action(HIDE, target, actor, "ipv4:1", "cheats ü\\u", "r1"))
        if end:
            await files.end(sequence, "OK", {"changed": True})


async def count(database: str, statement: str = "select count(*) from audit_lines") -> int:
    """What the database says past all of ours."""
    async with await psycopg.AsyncConnection.connect(database) as connection:
        row = await (await connection.execute(statement)).fetchone()
        assert row is not None
        return int(row[0])


def targets(page: object) -> list[str]:
    """Of the events of a page."""
    return [event.action.content["target"] for event in page]  # type: ignore[attr-defined]


async def test_lines_come_as_they_stand_in_the_files(
    files: AuditFiles, archive: PostgresAudit, database: str
) -> None:
    """To the byte, over several files, each once, however often they are shipped."""
    ship = ShipAudit(files, archive)
    await act(files, *map(str, range(8)))
    assert await ship() == 16
    await act(files, "more", end=False)
    assert (await ship(), await ship(), ship.unshipped_count) == (1, 0, 0)
    assert await ShipAudit(files, archive)() == 0

    end = await files.head()
    assert end is not None
    stored = await archive.lines(end.chain, after=0, limit=100)
    assert [data for _, data in stored] == [
        line.data for line in await files.lines_after(0, limit=100)
    ]
    assert await archive.heads() == [end]
    (chain,) = (await walk_archive(archive)).values()
    assert (chain.whole, chain.last, chain.open_actions) == (True, 17, {17})
    assert await count(database) == 17


async def test_a_shipment_that_was_cut_off_goes_on(
    files: AuditFiles, archive: PostgresAudit, database: str
) -> None:
    """Killed after some lines were stored and before anybody heard of it; twice at once."""
    await act(files, *map(str, range(6)))
    await archive.store(await files.lines_after(0, limit=5))
    await archive.store(await files.lines_after(2, limit=5))

    assert await ShipAudit(files, archive)() == 5
    await archive.store(await files.lines_after(0, limit=100))
    assert await count(database) == 12
    assert await count(database, "select count(distinct (chain, sequence)) from audit_lines") == 12


async def test_away_and_back(
    files: AuditFiles, archive: PostgresAudit, database: str, postgres_faults: EmbeddedPostgres
) -> None:
    """While PostgreSQL is down actions are recorded, and listed from the file, which is said;
    afterwards all of it comes.
    """
    ship, list_events = ShipAudit(files, archive), ListAuditEvents(files, archive, SIGNER)
    await act(files, "before")
    await ship()
    await postgres_faults.kill()
    await act(files, "meanwhile")
    with pytest.raises(LedgerUnavailable):
        await ship()
    assert ship.unshipped_count == 2
    away = await list_events(AuditFilter(), page_size=10, page_token="")
    await postgres_faults.restart()

    async def shipped() -> bool:
        try:
            return await ship() == 2
        except LedgerUnavailable:
            return False

    assert await until(shipped, timeout_s=30)
    back = await list_events(AuditFilter(), page_size=10, page_token="")

    assert (away.from_file, targets(away.events)) == (True, ["meanwhile", "before"])
    assert (back.from_file, targets(back.events)) == (False, ["meanwhile", "before"])
    assert await count(database) == 4


async def test_events_of_all_machines(tmp_path: Path, archive: PostgresAudit) -> None:
    """Newest first, with outcomes, filtered, page by page; a token belongs to its question."""
    list_events = ListAuditEvents(machine(tmp_path / "x"), archive, SIGNER)
    for number in range(4):
        files = machine(tmp_path / str(number % 2))
        await act(files, f"user/{number}", actor=f"actor-{number % 2}", end=number != 3)
    for name in ("0", "1"):
        await ShipAudit(machine(tmp_path / name), archive)()

    first = await list_events(AuditFilter(), page_size=3, page_token="")
    second = await list_events(AuditFilter(), page_size=3, page_token=first.next_page_token)
    one = await list_events(AuditFilter(actor="actor-1"), page_size=9, page_token="")
    assert targets(first.events) == ["user/3", "user/2", "user/1"]
    assert (targets(second.events), second.next_page_token) == (["user/0"], "")
    assert [event.outcome is None for event in first.events] == [True, False, False]
    assert targets(one.events) == ["user/3", "user/1"]
    for wanted, found in (
        (AuditFilter(method=HIDE, target="user/2"), ["user/2"]),
        (AuditFilter(method="other"), []),
        (AuditFilter(since=first.events[1].action.time, actor="actor-1"), ["user/3"]),
        (AuditFilter(until=second.events[0].action.time), []),
    ):
        page = await list_events(wanted, page_size=9, page_token="")
        assert targets(page.events) == found
    with pytest.raises(Exception, match="page_token"):
        await list_events(AuditFilter(actor="x"), page_size=3, page_token=first.next_page_token)


async def test_the_file_pages_as_the_database_does(
    files: AuditFiles, archive: PostgresAudit
) -> None:
    """Whatever is asked, and from wherever on."""
    for number in range(12):
        await act(files, f"user/{number % 3}", actor=f"a{number % 2}", end=number % 4 != 0)
    await ShipAudit(files, archive)()
    everything = await archive.page(AuditFilter(), before=None, limit=100)
    points: list[AuditPoint | None] = [None, *(event.point for event in everything)]
    times = [event.action.time for event in everything[::5]]
    for wanted in (
        AuditFilter(),
        AuditFilter(actor="a1"),
        AuditFilter(target="user/2", method=HIDE),
        AuditFilter(since=times[1]),
        AuditFilter(until=times[1]),
    ):
        for before in points:
            for limit in (1, 4, 100):
                assert await files.page(wanted, before=before, limit=limit) == await archive.page(
                    wanted, before=before, limit=limit
                )


async def test_a_machine_that_forgot_is_broken(
    files: AuditFiles, archive: PostgresAudit, tmp_path: Path
) -> None:
    """Its files end before what PostgreSQL has, or tell something else: nothing more is taken."""
    await act(files, *map(str, range(3)))
    ship = ShipAudit(files, archive)
    await ship()
    (path,) = audit_files(tmp_path / "audit")
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:4]))
    with pytest.raises(AuditBroken):
        await ship()
    await act(files, "other", "than before")
    with pytest.raises(AuditBroken):
        await ship()
    path.write_bytes(whole)
    assert await ship() == 0


async def test_lines_are_neither_changed_nor_removed(
    files: AuditFiles, archive: PostgresAudit, database: str
) -> None:
    """Not by accident; and who does it all the same is found by the chain."""
    await act(files, "one", "two")
    await ShipAudit(files, archive)()
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        for statement in (
            "update audit_lines set line = line",
            "delete from audit_lines",
            "truncate audit_lines",
        ):
            with pytest.raises(psycopg.errors.RaiseException):
                await connection.execute(statement)
        await connection.execute("alter table audit_lines disable trigger all")
        await connection.execute(
            "update audit_lines set line = replace(line, 'cheats', 'nothing') where sequence = 3"
        )
    (chain,) = (await walk_archive(archive)).values()

    assert chain.broken is not None
    assert (chain.broken.fault, chain.broken.sequence) == (Fault.EDITED, 3)


async def test_a_line_stands_under_its_own_number(archive: PostgresAudit, database: str) -> None:
    """What is asked for is made of the line, and cannot tell anything else."""
    line = next_line(Head("c"), {"kind": "action", "actor": "ann"}, 0)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        for chain, sequence in (("d", 1), ("c", 2)):
            with pytest.raises(psycopg.errors.CheckViolation):
                await connection.execute(
                    "insert into audit_lines (chain, sequence, line) values (%s, %s, %s)",
                    (chain, sequence, line.data.decode()),
                )

"""Secrets stay secrets: whatever fails, none is logged, answered, measured or shown.

A real server is given passwords and keys that can be recognised, and everything is made to fail.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from bootstrap.embedded.redis_cluster import EmbeddedRedisCluster
from bootstrap.settings import Settings
from standings_client import AsyncClient, Board
from tests.fixtures.redis import empty
from tests.fixtures.server import settings_for

CANARIES: Final = {
    "PostgreSQL": "canary-postgres-7f3a",
    "Redis": "canary-redis-91bd",
    "loader": "canary-loader-c4e0",
    "tokens": "canary-tokens-55aa-and-longer",
    "tokens before": "canary-before-17cc-and-longer",
}
_DEAD: Final = "127.0.0.1:1"
_COMMANDS: Final = (
    ("doctor",),
    ("migrate",),
    ("health",),
    ("verify",),
    ("rebuild",),
    ("shards", "--once"),
    ("breakers", "--once"),
    ("jobs",),
    ("serve",),
)


@dataclass
class Seen:
    """All that anybody was told, by where."""

    texts: dict[str, str] = field(default_factory=dict)

    def add(self, where: str, text: object) -> None:
        """More of it."""
        self.texts[where] = self.texts.get(where, "") + f"{text}\n"

    def leaks(self) -> list[tuple[str, str]]:
        """Where which canary was seen."""
        return [
            (where, name)
            for where, text in self.texts.items()
            for name, canary in CANARIES.items()
            if canary in text
        ]


async def _as_postgres(dsn: str, *statements: sql.Composable | str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            await connection.execute(statement)


async def _as_operator(cluster: EmbeddedRedisCluster, *command: str) -> None:
    for node in cluster.nodes:
        async with node.client() as client:
            await client.execute_command(*command)


@pytest.fixture
async def canary_settings(
    database: str, redis_cluster: EmbeddedRedisCluster, tmp_path: Path
) -> AsyncIterator[Settings]:
    """Settings of a server whose users have these passwords."""
    await empty(redis_cluster)
    role = sql.Identifier("canary")
    await _as_postgres(
        database,
        sql.SQL("create role {} superuser login password {}").format(
            role, sql.Literal(CANARIES["PostgreSQL"])
        ),
    )
    everything = ("allkeys", "allchannels", "+@all")
    await _as_operator(
        redis_cluster, *("ACL", "SETUSER", "canary", "on", f">{CANARIES['Redis']}", *everything)
    )
    await _as_operator(
        redis_cluster, "ACL", "SETUSER", "loader", "on", f">{CANARIES['loader']}", "+@all"
    )
    base = settings_for(database, redis_cluster).environment()
    yield Settings.load(
        base
        | {
            "STANDINGS_POSTGRES_DSN": make_conninfo(
                database, user="canary", password=CANARIES["PostgreSQL"]
            ),
            "STANDINGS_REDIS_USERNAME": "canary",
            "STANDINGS_REDIS_PASSWORD": CANARIES["Redis"],
            "STANDINGS_REDIS_ADMIN_USERNAME": "loader",
            "STANDINGS_REDIS_ADMIN_PASSWORD": CANARIES["loader"],
            "STANDINGS_TOKENS_SECRET": CANARIES["tokens"],
            "STANDINGS_TOKENS_SECRET_BEFORE": CANARIES["tokens before"],
            "STANDINGS_STATE_DIRECTORY": str(tmp_path / "state"),
            "STANDINGS_SERVER_WORKERS": "1",
            "STANDINGS_METRICS_ADDRESS": "127.0.0.1:0",
            # The drivers' own lines, too.
            "STANDINGS_LOG_LEVEL": "DEBUG",
        }
    )
    await _as_operator(redis_cluster, "ACL", "DELUSER", "canary", "loader")
    await _as_postgres(
        database,
        sql.SQL("reassign owned by {} to postgres").format(role),
        sql.SQL("drop owned by {}").format(role),
        sql.SQL("drop role {}").format(role),
    )


async def _break(database: str, cluster: EmbeddedRedisCluster) -> None:
    """Other passwords, and nobody is connected any more."""
    await _as_postgres(
        database,
        "alter role canary password 'another'",
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'canary'",
    )
    await _as_operator(cluster, "ACL", "SETUSER", "canary", "resetpass", ">another")
    await _as_operator(cluster, "CLIENT", "KILL", "USER", "canary")


async def _try(seen: Seen, where: str, call: Callable[[], Awaitable[object]]) -> bool:
    """Whether it worked; what a caller sees is kept in either case."""
    try:
        seen.add(where, repr(await call()))
    except Exception as error:  # noqa: BLE001 - whatever a caller sees
        cause = error.__cause__
        seen.add(where, f"{error!r} {error} {cause!r}")
        if isinstance(cause, grpc.aio.AioRpcError):
            seen.add(where, f"{cause.details()} {cause.debug_error_string()}")
            seen.add(where, list(cause.trailing_metadata() or ()))
        return False
    return True


async def _call_everything(seen: Seen, client: AsyncClient) -> list[bool]:
    token = (await client.list_entries("canary", page_size=1)).next_page_token
    return [
        await _try(seen, "answers", call)
        for call in (
            lambda: client.submit_score("canary", 1, 5),
            lambda: client.boards.create(Board(board_id="more")),
            lambda: client.boards.get("unknown"),
            lambda: client.get_entry("canary", 999),
            lambda: client.list_entries("canary", start_rank=2, page_size=2),
            lambda: client.list_entries("canary", page_size=1, page_token=token),
            lambda: client.list_entries("canary", page_size=1, page_token="forged"),
            lambda: client.moderation.hide_user(1, board_id="canary", reason="a reason"),
        )
    ]


async def _command(
    settings: Settings, words: tuple[str, ...], **other: str
) -> tuple[str, int | None]:
    """All that a command of the program says within a few seconds."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", *words),
        env=settings.environment() | other,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 20)
    except TimeoutError:
        process.send_signal(signal.SIGTERM)
        output, _ = await process.communicate()
    return output.decode(), process.returncode


@asynccontextmanager
async def _server(settings: Settings, seen: Seen) -> AsyncIterator[tuple[str, str]]:
    """`standings serve`; its public and its metrics' address. What it said is seen at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "serve"),
        env=settings.environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    errors = process.stderr
    measured = asyncio.get_running_loop().create_future()

    async def read() -> None:
        while line := (await errors.readline()).decode():
            seen.add("log", line)
            if "metrics are served" in line and not measured.done():
                measured.set_result(line.split('"address": "')[1].split('"')[0])

    reading = asyncio.create_task(read())
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        seen.add("command lines", _command_lines(process.pid))
        yield line.split("listening on ")[1].split(",")[0], await measured
    finally:
        process.terminate()
        output, _ = await asyncio.gather(process.stdout.read(), process.wait())
        seen.add("output", output.decode())
        await reading


def _command_lines(parent: int) -> str:
    """Of the server and its workers: everybody on a machine can read these."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return "\n".join(
        Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in (str(parent), *children)
    )


async def _metrics(address: str) -> str:
    reader, writer = await asyncio.open_connection(*address.split(":"))
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    page = (await reader.read()).decode()
    writer.close()
    return page


async def test_no_secret_is_told_by_a_server(
    canary_settings: Settings, database: str, redis_cluster: EmbeddedRedisCluster
) -> None:
    """While it works, and while both stores refuse it."""
    seen = Seen()
    async with (
        _server(canary_settings, seen) as (address, metrics),
        AsyncClient(address, timeout_s=3) as client,
    ):
        await client.boards.create(Board(board_id="canary"))
        await client.submit_score("canary", 1, 1)
        await client.submit_score("canary", 2, 2)
        worked = await _call_everything(seen, client)
        await _break(database, redis_cluster)
        broken = [
            await _try(seen, "answers", call)
            for call in (
                lambda: client.submit_score("canary", 1, 9),
                lambda: client.boards.create(Board(board_id="none")),
                lambda: client.list_entries("canary", start_rank=2, page_size=2),
                lambda: client.get_entry("canary", 2),
                lambda: client.moderation.hide_user(2, board_id="canary", reason="a reason"),
            )
        ]
        seen.add("metrics", await _metrics(metrics))

    assert any(worked)
    assert not all(broken)
    assert {"answers", "metrics", "log", "command lines"} <= seen.texts.keys()
    assert "the jobs have no database" in seen.texts["log"]
    assert "UNAVAILABLE" in seen.texts["log"]
    assert seen.leaks() == []


@pytest.mark.parametrize("words", _COMMANDS, ids=lambda words: words[0])
async def test_no_secret_is_told_by_a_command(
    words: tuple[str, ...],
    canary_settings: Settings,
    database: str,
    redis_cluster: EmbeddedRedisCluster,
) -> None:
    """With passwords that are refused, with stores that are away, with settings that are wrong."""
    seen = Seen()
    dead = {
        "STANDINGS_POSTGRES_DSN": f"postgresql://canary:{CANARIES['PostgreSQL']}@{_DEAD}/none",
        "STANDINGS_REDIS_NODES": _DEAD,
    }
    broken: Mapping[str, Mapping[str, str]] = {
        "refused": {},
        "away": dead,
        "malformed": {"STANDINGS_POSTGRES_DSN": f"canary:{CANARIES['PostgreSQL']}@@/"},
        "unknown": {"STANDINGS_REDIS_PASSWROD": CANARIES["Redis"]},
        "too short": {"STANDINGS_TOKENS_SECRET": CANARIES["tokens"][:15]},
    }
    await _break(database, redis_cluster)

    told = await asyncio.gather(
        *(_command(canary_settings, words, **variables) for variables in broken.values())
    )
    for why, (text, code) in zip(broken, told, strict=True):
        seen.add(f"{words[0]}, {why}", text)
        # Stopped by us, it ends well.
        assert code != 0 or words == ("jobs",), text

    assert all(seen.texts.values())
    assert seen.leaks() == []
    assert CANARIES["tokens"][:15] not in "".join(seen.texts.values())

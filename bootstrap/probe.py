"""Looks at the configured servers from outside: reachable, which version, what is missing.

Every text is for people and free of passwords.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from sharding.library import LIBRARY
from sharding.settings import RedisSettings
from storage.migrations import MigrationChanged, pending_migrations
from storage.pool import Connection
from storage.sessions import (
    PoolUse,
    connect_query,
    pooled_database,
    session_settings,
    settings_in_force,
)
from storage.settings import PostgresSettings

PROBE_TIMEOUT_S: Final = 3
POSTGRES_VERSION_MIN: Final = 150000
REDIS_VERSION_MIN: Final = (7, 0)
SLOT_COUNT: Final = 16384

_Info = Mapping[str, str]
_Ask = Callable[..., Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, and what mends it."""

    problem: str
    remedy: str


@dataclass(slots=True)
class Report:
    """What was seen of one server. `version` is empty where it could not be asked."""

    name: str
    version: str = ""
    findings: list[Finding] = field(default_factory=list)

    def add(self, problem: str, remedy: str) -> None:
        """Notes something wrong."""
        self.findings.append(Finding(problem, remedy))


Look = Callable[[Connection, Report], Awaitable[None]]
"""Looks at a server that answers, and notes what is wrong."""


async def probe_postgres(dsn: str) -> Report:
    """PostgreSQL: version and pending migrations."""
    return await probe_server(dsn, "PostgreSQL", "STANDINGS_POSTGRES_DSN", _look_at_postgres)


async def probe_server(dsn: str, kind: str, setting: str, look: Look) -> Report:
    """A PostgreSQL of some kind that a setting leads to: its version, and what `look` finds."""
    try:
        parameters = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # The driver's text would repeat the string, password and all.
        report = Report(kind)
        report.add(
            f"{setting} is no connection string",
            "write it as postgresql://user:password@host:5432/database",
        )
        return report
    place = f"{parameters.get('host', 'localhost')}:{parameters.get('port', 5432)}"
    report = Report(f"{kind} {place}/{parameters.get('dbname', '')}")
    try:
        async with await psycopg.AsyncConnection.connect(
            dsn, autocommit=True, connect_timeout=PROBE_TIMEOUT_S
        ) as connection:
            number = connection.info.server_version
            report.version = f"{number // 10000}.{number % 10000}"
            if number < POSTGRES_VERSION_MIN:
                report.add("older than PostgreSQL 15", "upgrade it; MERGE and others are missing")
            await look(connection, report)
    except psycopg.Error as error:
        _add_unreachable(report, error, dsn, setting)
    return report


async def probe_pooler(settings: PostgresSettings) -> Sequence[Report]:
    """The entries of a transaction pooler: whether their sessions are set as ours have to be."""
    return await asyncio.gather(*(_probe_entry(settings, use) for use in PoolUse))


async def _probe_entry(settings: PostgresSettings, use: PoolUse) -> Report:
    dsn = "" if settings.dsn is None else settings.dsn.get_secret_value()
    report = Report(f"PgBouncer {pooled_database(dsn, use)}")
    try:
        found = await settings_in_force(settings, use, connect_timeout_s=PROBE_TIMEOUT_S)
    except psycopg.Error as error:
        _add_unreachable(report, error, dsn, "STANDINGS_POSTGRES_DSN")
        return report
    wanted = session_settings(settings, use)
    different = [name for name, value in wanted.items() if found.get(name) != value]
    if different:
        report.add(
            f"its sessions are set otherwise: {', '.join(different)}",
            f"connect_query='{connect_query(settings, use)}' in its entry, then RECONNECT",
        )
    return report


def _add_unreachable(report: Report, error: psycopg.Error, dsn: str, setting: str) -> None:
    text = " ".join(str(error).split())
    secret = str(conninfo_to_dict(dsn).get("password") or "")
    report.add(
        f"unreachable: {text.replace(secret, '***') if secret else text}",
        f"check that it runs, {setting}, and the way between",
    )


async def _look_at_postgres(connection: Connection, report: Report) -> None:
    try:
        pending = await pending_migrations(connection)
    except MigrationChanged as error:
        report.add(
            f"migration {error} was changed after it was applied",
            "install the release that the database was migrated by, or a later one",
        )
        return
    if pending:
        report.add(f"migrations pending: {', '.join(pending)}", "standings migrate")


async def probe_redis(settings: RedisSettings) -> Sequence[Report]:
    """Each node of the cluster, those that the configured ones name included, then the cluster."""
    seeds = list(dict.fromkeys(settings.nodes))
    states = await asyncio.gather(*(_probe_node(settings, address) for address in seeds))
    known = {address for state in states for address in state.neighbours}
    others = sorted(known.difference(seeds))
    states += await asyncio.gather(*(_probe_node(settings, address) for address in others))
    return [*(state.report for state in states), _look_at_cluster(states)]


@dataclass(slots=True)
class _NodeState:
    report: Report
    cluster: _Info = field(default_factory=dict)
    neighbours: Sequence[str] = ()


async def _probe_node(settings: RedisSettings, address: str) -> _NodeState:
    state = _NodeState(Report(f"Redis {address}"))
    try:
        async with _client(settings, address) as client:
            info = {name: str(value) for name, value in (await client.info("everything")).items()}
            if _look_at_info(info, state.report):
                # Word by word: redis-py reshapes the answers to commands it knows by full name.
                await _look_at_node(cast("_Ask", client.execute_command), state)
    except (RedisError, OSError) as error:
        state.report.add(
            f"unreachable: {' '.join(str(error).split()) or type(error).__name__}",
            "check that it runs, STANDINGS_REDIS_NODES, user and password, and the way between",
        )
    return state


def _client(settings: RedisSettings, address: str) -> Redis:
    host, _, port = address.rpartition(":")
    return Redis(
        host=host.strip("[]"),
        port=int(port),
        protocol=2,
        decode_responses=True,
        username=settings.username,
        password=settings.password.get_secret_value() if settings.password else None,
        ssl=settings.tls,
        ssl_ca_certs=str(settings.ca_file) if settings.ca_file else None,
        socket_connect_timeout=PROBE_TIMEOUT_S,
        socket_timeout=PROBE_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )


def _look_at_info(info: _Info, report: Report) -> bool:
    """Whether the node is of a kind that can be asked further."""
    report.version = _version(info)
    if info.get("cluster_enabled") == "0":
        report.add("not in cluster mode", "cluster-enabled yes in its configuration")
        return False
    # Valkey also tells the Redis version that it stands for.
    numbers = info.get("redis_version", "0.0").split(".")
    if tuple(int(part) for part in numbers[:2]) < REDIS_VERSION_MIN:
        report.add("older than Redis 7.0", "upgrade it; functions are missing")
        return False
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        report.add(
            f"may drop entries when memory is short (maxmemory-policy {policy})",
            "CONFIG SET maxmemory-policy noeviction, and the same in its configuration",
        )
    return True


async def _look_at_node(ask: _Ask, state: _NodeState) -> None:
    if not await ask("FUNCTION", "LIST", "LIBRARYNAME", _library_name()):
        state.report.add("lacks the functions of this release", "standings serve loads them")
    state.cluster = _fields(await ask("CLUSTER", "INFO"))
    state.neighbours = _addresses(await ask("CLUSTER", "SLOTS"))


def _look_at_cluster(states: Sequence[_NodeState]) -> Report:
    report = Report("Redis Cluster")
    asked = [state for state in states if state.cluster]
    if not asked:
        report.add("no node can be asked", "see the nodes above")
        return report
    report.version = f"{asked[0].cluster.get('cluster_known_nodes')} nodes"
    for state in asked:
        name, cluster = state.report.name, state.cluster
        if cluster.get("cluster_state") != "ok":
            report.add(
                f"{name} says cluster_state:{cluster.get('cluster_state')}",
                "see CLUSTER NODES there for failed nodes and uncovered slots",
            )
        covered = int(cluster.get("cluster_slots_ok", 0))
        if covered != SLOT_COUNT:
            report.add(
                f"{name} sees {SLOT_COUNT - covered} of {SLOT_COUNT} slots uncovered",
                "bring the failed primaries back, or redis-cli --cluster fix",
            )
    return report


def _fields(text: object) -> _Info:
    lines = str(text).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def _version(info: _Info) -> str:
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return info.get("redis_version", "")


def _library_name() -> str:
    """The name in the first line of the library's source, `#!lua name=...`."""
    first_line = LIBRARY.source.split(b"\n", 1)[0]
    return first_line.partition(b"name=")[2].decode()


def _addresses(slots: object) -> Sequence[str]:
    """`host:port` of every node in an answer of CLUSTER SLOTS."""
    ranges = cast("list[list[list[object]]]", slots)
    return [f"{node[0]}:{node[1]}" for part in ranges for node in part[2:]]

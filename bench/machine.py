"""What the figures were seen on; nothing of it names a host."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from os import cpu_count
from pathlib import Path

from bootstrap.embedded.binaries import Engine, find_postgres, find_redis, server_version


def machine_of(ghz: Path) -> Mapping[str, str]:
    """The machine that the load comes from."""
    cores, system = cpu_count(), f"{platform.system()} {platform.release()}"
    return {
        "machine": f"{cores} cores, {_processor()}, {system}, Python {platform.python_version()}",
        "generator": f"ghz {_ghz_version(ghz)}",
    }


def stores_of(engine: Engine | None, postgres_settings: Mapping[str, str]) -> Mapping[str, str]:
    """The embedded stores, as their programs call themselves, and how they are set."""
    redis, postgres = find_redis(engine), find_postgres() / "postgres"
    return {
        "stores": f"{'Valkey' if is_valkey(engine) else 'Redis'} {_version(redis)},"
        f" PostgreSQL {_version(postgres)}",
        "postgres": ", ".join(f"{name} {value}" for name, value in postgres_settings.items()),
    }


def is_valkey(engine: Engine | None) -> bool:
    """Whether the program that would be started is Valkey's."""
    return "valkey" in find_redis(engine).name


def _version(program: Path) -> str:
    return ".".join(map(str, server_version(program)))


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return " ".join(value.split())
    return platform.processor() or platform.machine()


def _ghz_version(program: Path) -> str:
    done = subprocess.run(  # noqa: S603 - found or installed by us
        [str(program), "--version"], capture_output=True, text=True, check=False
    )
    return (done.stdout or done.stderr).strip()

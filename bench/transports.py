"""The transports that can be measured: how their floor is started, and how the product is told."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from bootstrap.server_settings import ServerSettings

ANSWERS_VARIABLE: Final = "ECHO_ANSWERS"
"""Where an Envoy, which takes no arguments of ours, finds the file of its answers."""

EchoCommand: TypeAlias = Callable[[str, Path, Path], Sequence[str]]
"""Of an address, the file of the answers and a path that no other process has."""


@dataclass(frozen=True, slots=True)
class Transport:
    """`echo` is the program of the floor; `settings` choose the transport in the environment of
    `standings serve`.
    """

    echo: EchoCommand
    settings: Mapping[str, str] = field(default_factory=dict)


def _by_grpcio(address: str, answers: Path, _own: Path) -> Sequence[str]:
    program = (sys.executable, "-P", "-m", "bench.echo")
    return (*program, "--address", address, "--answers", str(answers))


def _by_envoy(address: str, answers: Path, own: Path) -> Sequence[str]:
    from server.transport.envoy_program import envoy_command, envoy_environment  # noqa: PLC0415

    variables = {**envoy_environment(), ANSWERS_VARIABLE: str(answers)}
    given = (f"{name}={value}" for name, value in variables.items())
    settings = ServerSettings(address=address, reuse_port=True)
    return ("/usr/bin/env", *given, *envoy_command("bench.envoy_echo:app", settings, str(own)))


TRANSPORTS: Final[Mapping[str, Transport]] = {
    "grpcio": Transport(_by_grpcio),
    "envoy": Transport(_by_envoy, {"STANDINGS_SERVER_TRANSPORT": "envoy"}),
}

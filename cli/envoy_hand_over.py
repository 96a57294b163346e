"""What a supervisor tells a worker that is an Envoy, which takes no arguments of ours."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, Self

from bootstrap.server_settings import ServerSettings
from bootstrap.settings import taken

_ENVOYS: Final = ("PYTHONHOME", "PYTHONPATH", "LD_PRELOAD")
_VARIABLE: Final = "ENVOY_WORKER"
_APP: Final = "cli.envoy_worker:app"


@dataclass(frozen=True, slots=True)
class HandOver:
    """Which worker it is: its slot, the descriptor of the link to its supervisor, whether it may
    run jobs, where its Envoy hears its operators, and what Python it would be without Envoy.
    """

    slot: int
    link: int
    jobs: bool
    admin: str
    python: str = sys.executable

    def command(self, settings: ServerSettings, *, tokens: bool = False) -> Sequence[str]:
        """The worker's program and its arguments; `tokens`: whether callers may come with those in
        place of certificates.
        """
        from server.transport.envoy_program import envoy_command, envoy_environment
        from server.transport.envoy_tls import first_secrets

        variables = {**envoy_environment(), _VARIABLE: json.dumps(asdict(self))}
        given = (f"{name}={value}" for name, value in variables.items())
        # env replaces itself: the process that is started is Envoy.
        command = envoy_command(_APP, settings, self.admin, tokens=tokens)
        first_secrets(self.admin, settings)
        return ("/usr/bin/env", *given, *command)

    @classmethod
    def read(cls, text: str) -> Self:
        """What `command` has written."""
        return cls(**json.loads(text))


def taken_over() -> HandOver:
    """In the worker: what it was told. What only Envoy needed is forgotten, so that children of
    this process do not inherit it.
    """
    for name in _ENVOYS:
        taken(name)
    return HandOver.read(taken(_VARIABLE))

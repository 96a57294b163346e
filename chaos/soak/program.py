"""What `standings soak` does, from the first process to the report."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import grpc

from bootstrap.embedded.errors import EmbeddedError
from chaos.deployment import Deployment
from chaos.soak.playing import Soak
from chaos.soak.tally import Tally
from chaos.soak.vitals import resident_slope

_WARM_SHARE: Final = 0.2
_WARM_S_MAX: Final = 120.0
"""How long workers may fill their caches and pools before they are measured."""
_SETTINGS: Final = {
    # So that connections are sent away all the time, and who does not read is sent away at all.
    "STANDINGS_SERVER_CONNECTION_AGE_MAX_S": "20",
    "STANDINGS_SERVER_SEND_TIMEOUT_S": "5",
    # A worker that grows is what is looked for.
    "STANDINGS_SERVER_WORKER_MEMORY_GROWTH_MAX": "0",
}


class SoakFailed(Exception):
    """There was nothing to soak: what is to be soaked did not start."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How long, on which transport, and how much: turns a second, of a write and two reads each.
    `report` is a folder that is there.
    """

    minutes: float
    rate: float
    transport: str
    seed: int
    report: Path
    echo: Callable[[str], object]


async def soak(wanted: Wanted) -> bool:
    """Soaks a deployment of its own, leaves the report, and says whether all held. Raises
    SoakFailed.
    """
    rng = random.Random(wanted.seed)  # noqa: S311 - no secret
    settings = _SETTINGS | {"STANDINGS_SERVER_TRANSPORT": wanted.transport}
    whole_s = wanted.minutes * 60
    warm_s = min(_WARM_S_MAX, whole_s * _WARM_SHARE)
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="standings-soak-") as folder:
        try:
            async with Deployment(Path(folder), rng, settings) as deployment:
                wanted.echo(f"a server by {wanted.transport} is up")
                done = Soak(deployment, rng, wanted.rate, tally)
                await done.run(warm_s, whole_s - warm_s)
        except (EmbeddedError, RuntimeError, OSError, grpc.aio.AioRpcError) as error:
            raise SoakFailed(f"it could not go on: {error}") from error
        finally:
            _keep_log(Path(folder), wanted.report)
    _write(done, wanted)
    for line in _lines(done):
        wanted.echo(line)
    return tally.wrong_count == 0


def _lines(done: Soak) -> Sequence[str]:
    """What was seen, for a reader."""
    tally = done.tally
    resident = [sample.vitals.resident_bytes / 2**20 for sample in done.samples]
    before, after = (asdict(vitals) for vitals in done.rest)
    checked = ", ".join(f"{count:,} {name}" for name, count in sorted(tally.checked.items()))
    return [
        *tally.lines(),
        f"held against what had to be: {checked}",
        f"{sum(len(owner.taken) for owner in done.owners):,} submissions were acknowledged",
        f"a worker held {resident[0]:.1f}, then {resident[-1]:.1f} MiB under load",
        f"at most {max(resident):.1f} MiB, {resident_slope(done.samples) / 2**20:+.1f} an hour",
        *(f"{name} at rest: {before[name]:,.1f}, then {after[name]:,.1f}" for name in before),
        *tally.texts,
        f"{tally.wrong_count} were wrong" if tally.wrong_count else "all held",
    ]


def _write(done: Soak, wanted: Wanted) -> None:
    plain = {
        "transport": wanted.transport,
        "minutes": wanted.minutes,
        "rate": wanted.rate,
        "seed": wanted.seed,
        "ends": done.tally.told(),
        "checked": done.tally.checked,
        "submissions": sum(len(owner.taken) for owner in done.owners),
        "wrong": done.tally.wrong_count,
        "texts": done.tally.texts,
        "rest": [asdict(vitals) for vitals in done.rest],
        "resident_bytes_per_hour": resident_slope(done.samples),
        "samples": [{"time_s": one.time_s} | asdict(one.vitals) for one in done.samples],
    }
    text = json.dumps(plain, indent=1) + "\n"
    (wanted.report / "soak.json").write_text(text, encoding="utf-8")


def _keep_log(folder: Path, report: Path) -> None:
    """What the server said is worth most when something did not hold."""
    log = folder / "server.log"
    if log.exists():
        (report / "server.log").write_bytes(log.read_bytes())

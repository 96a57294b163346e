"""`standings bench`: measures a deployment against what the same machine can do at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from bench.figures import Results
    from bench.program import Wanted

_WIDTH: Final = 140
"""What the widest table takes."""
_QUIET: Final = 0.1
"""A machine on which others take less is a quiet one."""


def bench(  # noqa: PLR0913 - each option by itself
    *,
    address: str = typer.Option(
        "", help="A deployment that runs somewhere, host:port; on a board made for it."
    ),
    smoke: bool = typer.Option(False, "--smoke", help="A minute on 50,000 entries."),
    full: bool = typer.Option(
        False, "--full", help="Also on 10,000,000 entries: long, and some gigabytes."
    ),
    entries: int = typer.Option(0, min=0, help="Of the board. 0: 1,000,000, or as --smoke says."),
    callers: str = typer.Option("", help="How many at once, such as 64,256."),
    runs: int = typer.Option(0, min=0, help="How often each load is put on. 0: 3, with --smoke 1."),
    seconds: float = typer.Option(0.0, min=0.0, help="How long each time. 0: 4, with --smoke 0.8."),
    workers: int = typer.Option(1, min=1, help="Of the server, and of its floor."),
    transport: str = typer.Option("grpcio", help="Of the server, and of its floor."),
    engine: str = typer.Option("", help="redis or valkey. Empty: the first that is found."),
    results: str = typer.Option(
        ".standings/bench", help="Where the figures and their pictures are left."
    ),
) -> None:
    """Starts stores, a server and floors of its own, puts load on them in turn, and tells medians
    and ratios. The floors are an echo on the same transport, and loops of the same calls to the
    stores. A deployment that runs somewhere is measured without floors. Exits 1 if nothing could be
    measured; a figure that falls short is told, no more.
    """
    import asyncio

    from bench.deployment import Form
    from bench.planning import Changes, plan_of
    from bench.program import Wanted
    from bench.transports import TRANSPORTS
    from bootstrap.embedded.binaries import Engine

    if transport not in TRANSPORTS:
        raise typer.BadParameter(f"--transport: one of {', '.join(TRANSPORTS)}")
    if engine not in ("", *Engine):
        raise typer.BadParameter(f"--engine: one of {', '.join(Engine)}")
    counts = tuple(int(count) for count in callers.split(",") if count.strip())
    changes = Changes(entries, counts, runs, seconds)
    form = Form(workers, transport, Engine(engine) if engine else None)
    wanted = Wanted(plan_of(smoke=smoke, full=full, changes=changes), form, typer.echo)
    with _told():
        done = asyncio.run(_play(wanted, address))
    _leave(done, Path(results))


async def _play(wanted: Wanted, address: str) -> Results:
    import asyncio
    import signal

    from bench.program import play, play_on

    # So that a polite kill takes back what was started.
    story = asyncio.ensure_future(play_on(address, wanted) if address else play(wanted))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, story.cancel)
    return await story


def _leave(done: Results, folder: Path) -> None:
    """Prints the tables, and leaves the figures and their pictures in a folder."""
    from rich.console import Console

    from bench.report import tables_of, write_json

    write_json(done, folder / "latest.json")
    console = Console(highlight=False)
    # In a file nothing needs to be cut off.
    console.width = max(console.width, _WIDTH)
    for name, value in done.about.items():
        console.print(f"{name}: {value}", markup=False)
    if done.disturbed > _QUIET:
        share = f"{done.disturbed:.0%} of its processors"
        console.print(f"the machine was not quiet: others took up to {share}", style="yellow")
    for table in tables_of(done):
        console.print(table)
    typer.echo(f"all figures: {folder / 'latest.json'}")
    try:
        from bench.charts import draw
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        typer.echo("no pictures: they need matplotlib")
    else:
        typer.echo(f"pictures: {', '.join(path.name for path in draw(done, folder))}")


@contextmanager
def _told() -> Iterator[None]:
    """What keeps a run from ending is told without a traceback."""
    import asyncio

    from bench.errors import BenchFailed

    try:
        yield
    except asyncio.CancelledError:
        typer.echo("interrupted", err=True)
        raise typer.Exit(1) from None
    except BenchFailed as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None

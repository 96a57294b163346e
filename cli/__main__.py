"""The program `standings`: `standings COMMAND`, or `python -m cli COMMAND`."""

from __future__ import annotations

import typer

from cli.audit import audit
from cli.bench import bench
from cli.breakers import breakers
from cli.chaos import chaos
from cli.demo import demo
from cli.doctor import doctor
from cli.health import health
from cli.jobs import jobs
from cli.migrate import migrate
from cli.rebuild import rebuild
from cli.serve import serve
from cli.shards import shards
from cli.soak import soak
from cli.verify import verify
from cli.worker import worker

app = typer.Typer(
    name="standings",
    help="A ranking backend for games.",
    no_args_is_help=True,
    add_completion=False,
    # A plain traceback: a decorated one may show the values of variables, passwords too.
    pretty_exceptions_enable=False,
)
for command in (
    *(serve, migrate, jobs, demo, chaos, soak, bench),
    *(doctor, health, shards, verify, rebuild),
):
    app.command()(command)
app.add_typer(breakers, name="breakers")
app.add_typer(audit, name="audit")
app.command(hidden=True)(worker)


def main() -> None:
    """Runs the command that the arguments name."""
    app()


if __name__ == "__main__":
    main()

"""How a command that cannot do its work says so: in a sentence, not in a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from bootstrap.embedded.errors import EmbeddedError
from bootstrap.errors import NotConfigured
from bootstrap.settings import SettingsInvalid
from core.errors import StandingsError


@contextmanager
def told() -> Iterator[None]:
    """Turns what an operator can mend into its message and exit code 1."""
    try:
        yield
    except (SettingsInvalid, NotConfigured, EmbeddedError, StandingsError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except OSError as error:
        # A folder that cannot be made or written, most likely the embedded servers'.
        typer.echo(f"{error.strerror}: {error.filename}", err=True)
        raise typer.Exit(1) from None

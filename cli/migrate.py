"""`standings migrate`: brings the schema of PostgreSQL up to date."""

from __future__ import annotations

import typer


def migrate() -> None:
    """Applies the migrations that the database of STANDINGS_POSTGRES_DSN lacks.

    Goes to STANDINGS_POSTGRES_DIRECT_DSN where that is set. Harmless to run twice, or from
    several places at once.
    """
    import asyncio

    from bootstrap.settings import Settings
    from bootstrap.stores import migrate_database
    from cli.failures import told

    with told():
        names = asyncio.run(migrate_database(Settings.load()))
        typer.echo("\n".join(f"applied {name}" for name in names) or "nothing to apply")

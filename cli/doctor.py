"""`standings doctor`: what is reachable, which versions, what is missing and how to mend it."""

from __future__ import annotations

import typer


def doctor() -> None:
    """Looks at the configured servers, or at the embedded ones' programs where none are.

    Exits 0 only if all is well.
    """
    import asyncio

    from cli.examination import examine

    if not asyncio.run(examine()):
        raise typer.Exit(1)

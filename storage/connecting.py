"""Connections of which nothing is left where they come to nothing."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import psycopg


class LedgerConnection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """psycopg's, for all that connect again and again.

    The error of an attempt that is given up keeps the frames of the attempt, and those the error
    and the socket, until the garbage collector comes along. A server that stood still for 20 s had
    twenty of them open from each worker (measured), and would have gone on with those first.
    """

    @classmethod
    async def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:  # noqa: ANN401 - psycopg's
        """As that of psycopg. Raises psycopg.Error."""
        try:
            return await super().connect(conninfo, **kwargs)
        except (psycopg.Error, asyncio.CancelledError) as error:
            raise error.with_traceback(None) from None

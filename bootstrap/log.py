"""Where log lines go and how they look; rooms use the standard library's logging."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from bootstrap.settings import LogSettings


def configure_logging(
    settings: LogSettings, about: Callable[[], Mapping[str, object]] = dict
) -> None:
    """Sends every record to standard error, as JSON lines or as text for people.

    `about` is asked at each record for what all of them carry: which worker, which request. What
    a record says itself stays.
    """

    def add_about(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {**about(), **event}

    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        add_about,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if settings.json_lines
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(level=settings.level, handlers=[handler], force=True)
    # Its warnings quote the driver's messages, which name hosts and users; callers are told what
    # failed, and that is logged.
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)

"""Where log lines go and how they look; rooms use the standard library's logging."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import Processor

from bootstrap.settings import LogSettings


def configure_logging(settings: LogSettings) -> None:
    """Sends every record to standard error, as JSON lines or as text for people."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
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

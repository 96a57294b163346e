"""Where log lines go and how they look; rooms use the standard library's logging."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from bootstrap.settings import LogSettings


def configure_logging(
    settings: LogSettings, about: Callable[[], Mapping[str, object]] = dict
) -> None:
    """Sends every record to standard error, as JSON lines or as text for people. docs/telemetry.md
    names the fields.

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
        _add_time,
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


def _add_time(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """When the record was made, by RFC 3339: UTC, with milliseconds."""
    record: logging.LogRecord = event["_record"]
    made = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return {**event, "timestamp": made.replace("+00:00", "Z")}

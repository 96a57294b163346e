"""What a line of the log carries."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from bootstrap.log import configure_logging
from bootstrap.settings import LogSettings


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Takes back what a test configures."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_every_record_carries_what_is_known_then(capfd: pytest.CaptureFixture[str]) -> None:
    """The worker and the request of the moment; what a record says itself stays."""
    known: dict[str, object] = {"slot": 3}
    configure_logging(LogSettings(), lambda: known)
    logging.getLogger("here").info("first")
    known["request_id"] = "abc"
    logging.getLogger("here").warning("second", extra={"slot": 4, "pid": 7})
    first, second = map(json.loads, capfd.readouterr().err.splitlines())

    assert (first["event"], first["level"], first["logger"]) == ("first", "info", "here")
    assert (first["slot"], first.get("request_id")) == (3, None)
    assert (second["slot"], second["request_id"], second["pid"]) == (4, "abc", 7)


def test_times_are_those_of_records(capfd: pytest.CaptureFixture[str]) -> None:
    """By RFC 3339, in UTC and milliseconds, and of the moment when the record was made."""
    configure_logging(LogSettings())
    record = logging.getLogger("here").makeRecord("here", logging.INFO, "f", 1, "it was", (), None)
    record.created = 1_767_225_599.9996
    logging.getLogger("here").handle(record)
    logging.getLogger("here").info("it is")
    then, now = (json.loads(line)["timestamp"] for line in capfd.readouterr().err.splitlines())

    assert then == "2025-12-31T23:59:59.999Z"
    assert abs(datetime.fromisoformat(now) - datetime.now(UTC)) < timedelta(seconds=10)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", now)


def test_an_error_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    """A traceback is a field of its record."""
    configure_logging(LogSettings())
    logging.getLogger("here").error("it failed", exc_info=ValueError("a\nb"))
    (line,) = capfd.readouterr().err.splitlines()

    assert "ValueError: a\nb" in json.loads(line)["exception"]

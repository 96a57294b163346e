"""What a line of the log carries."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

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


def test_an_error_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    """A traceback is a field of its record."""
    configure_logging(LogSettings())
    logging.getLogger("here").error("it failed", exc_info=ValueError("a\nb"))
    (line,) = capfd.readouterr().err.splitlines()

    assert "ValueError: a\nb" in json.loads(line)["exception"]

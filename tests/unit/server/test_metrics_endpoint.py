"""Metrics over HTTP, and where that fails."""

from __future__ import annotations

import logging
import socket
import urllib.request

import pytest

from bootstrap.errors import NotConfigured
from cli.telling import metrics_told
from server.metrics_endpoint import served


def test_a_process_tells_its_own() -> None:
    """On a free port, as Prometheus reads it."""
    with (
        served("127.0.0.1:0") as address,
        urllib.request.urlopen(f"http://{address}/metrics") as page,
    ):
        text = page.read().decode()

    assert "# TYPE standings_calls_in_flight gauge" in text


def test_a_taken_port(caplog: pytest.LogCaptureFixture) -> None:
    """One that was asked for stops the start; the usual one is done without."""
    caplog.set_level(logging.INFO)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(NotConfigured, match=address), metrics_told(address, served):
            pass
        with metrics_told(None, served, otherwise=address):
            assert caplog.messages == ["metrics are not served"]


@pytest.mark.parametrize("address", ["off", None])
def test_nobody_wants_them(address: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """Then no port is opened."""
    caplog.set_level(logging.INFO)
    with metrics_told(address, served):
        assert caplog.messages == []

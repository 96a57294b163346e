"""What the server under test says of itself on its metrics port."""

from __future__ import annotations

from contextlib import closing
from http.client import HTTPConnection
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_S: Final = 5.0


def measured(address: str, name: str) -> float:
    """The largest value that a gauge has with any labels, 0 if it is not there. Raises OSError."""
    # urllib would ask a proxy of the environment, even for this machine.
    with closing(HTTPConnection(address, timeout=_TIMEOUT_S)) as connection:
        connection.request("GET", "/metrics")
        families = text_string_to_metric_families(connection.getresponse().read().decode())
    return max(
        (sample.value for family in families if family.name == name for sample in family.samples),
        default=0.0,
    )

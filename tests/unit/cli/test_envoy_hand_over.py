"""What a supervisor hands to a worker that is an Envoy."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bootstrap.errors import NotConfigured
from bootstrap.server_settings import ServerSettings
from bootstrap.settings import Settings
from cli import supervising
from cli.envoy_hand_over import HandOver, taken_over

SETTINGS = ServerSettings(
    address="localhost:50051", streams_per_connection_max=7, connection_age_max_s=60
)


def _variables(command: list[str]) -> dict[str, str]:
    program = next(index for index, word in enumerate(command[1:], 1) if "=" not in word)
    return dict(word.split("=", 1) for word in command[1:program])


def test_a_worker_knows_what_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """And its children inherit nothing that was for Envoy alone."""
    told = HandOver(slot=3, link=17, jobs=True, admin="/run/a b/0")
    variables = _variables(list(told.command(SETTINGS)))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert taken_over() == told
    assert not variables.keys() & os.environ.keys()


def test_envoy_is_told_the_settings() -> None:
    """Addresses as numbers, limits, and an admin interface that is a file."""
    command = list(HandOver(0, 17, jobs=False, admin="/run/0").command(SETTINGS))
    config = json.loads(command[command.index("--config-yaml") + 1])

    (listener,) = config["static_resources"]["listeners"]
    assert listener["address"]["socket_address"]["address"] in {"127.0.0.1", "::1"}
    assert listener["address"]["socket_address"]["port_value"] == 50051
    assert listener["enable_reuse_port"]
    http = listener["filter_chains"][0]["filters"][0]["typed_config"]
    assert http["http2_protocol_options"]["max_concurrent_streams"] == 7
    assert http["common_http_protocol_options"]["max_connection_duration"] == "60.0s"
    assert config["admin"]["address"] == {"pipe": {"path": "/run/0", "mode": 0o600}}


@pytest.mark.parametrize("tokens", [False, True])
def test_envoy_is_told_of_certificates(tmp_path: Path, *, tokens: bool) -> None:
    """By files for this user alone; callers may come without one where there are tokens."""
    files = {"tls_cert_file": "chain", "tls_key_file": "key", "tls_client_ca_file": "ca"}
    for name in files.values():
        (tmp_path / name).write_text(f"the {name}")
    settings = ServerSettings.model_validate(
        {field: tmp_path / name for field, name in files.items()}
    )
    admin = str(tmp_path / "0")
    command = list(HandOver(0, 17, jobs=False, admin=admin).command(settings, tokens=tokens))
    config = json.loads(command[command.index("--config-yaml") + 1])

    (listener,) = config["static_resources"]["listeners"]
    (chain,) = listener["filter_chains"]
    socket = chain["transport_socket"]["typed_config"]
    assert socket["require_client_certificate"] is not tokens
    http = chain["filters"][0]["typed_config"]
    assert http["forward_client_cert_details"] == "SANITIZE_SET"
    assert "the key" not in " ".join(command)
    secrets = tmp_path / "0.server.json"
    assert "the key" in secrets.read_text()
    assert secrets.stat().st_mode & 0o777 == 0o600


def test_envoy_may_be_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Then the start says what to do."""
    monkeypatch.setattr(supervising, "find_spec", lambda _name: None)

    with pytest.raises(NotConfigured, match="extra"):
        supervising._envoy(Settings(server=SETTINGS), tmp_path, with_jobs=True)

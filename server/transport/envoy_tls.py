"""How Envoy is told of certificates: by two files beside the socket of its operators' interface.

It reads them anew when others are moved there. Knows no gRPC: supervisors load this.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bootstrap.server_settings import ServerSettings

_TYPES: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_SERVER: Final = "server"
_CALLERS: Final = "callers"


def write_secrets(admin: str, chain: bytes, key: bytes, client_ca: bytes | None) -> None:
    """Leaves certificates, as PEM, for the Envoy whose operators' socket that is."""
    certificate = {"certificate_chain": _inline(chain), "private_key": _inline(key)}
    _write(admin, _SERVER, {"tls_certificate": certificate})
    if client_ca is not None:
        _write(admin, _CALLERS, {"validation_context": {"trusted_ca": _inline(client_ca)}})


def first_secrets(admin: str, settings: ServerSettings) -> None:
    """Leaves what the files of the settings have, unseen: the worker looks at them before its Envoy
    listens, and does not start where they are bad.
    """
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return
    files = (settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
    chain, key, client_ca = (None if file is None else _text(file) for file in files)
    write_secrets(admin, chain or b"", key or b"", client_ca)


def secured(http: dict[str, Any], admin: str, *, asks: bool, requires: bool) -> Mapping[str, Any]:
    """The socket of a listener with TLS. `asks` callers for a certificate, and `requires` one. What
    Envoy has seen of it goes to the application by a header, whose like it takes from callers.
    """
    if asks:
        http["forward_client_cert_details"] = "SANITIZE_SET"
        http["set_current_client_cert_details"] = {"uri": True}
    context: dict[str, Any] = {
        "alpn_protocols": ["h2"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificate_sds_secret_configs": [_source(admin, _SERVER)],
    }
    if asks:
        context["validation_context_sds_secret_config"] = _source(admin, _CALLERS)
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TYPES}.DownstreamTlsContext",
            "common_tls_context": context,
            "require_client_certificate": asks and requires,
        },
    }


def _text(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _path(admin: str, name: str) -> Path:
    # By this ending Envoy knows how to read it.
    return Path(f"{admin}.{name}.json")


def _source(admin: str, name: str) -> Mapping[str, Any]:
    source = {"path": str(_path(admin, name))}
    config = {"path_config_source": source, "resource_api_version": "V3"}
    return {"name": name, "sds_config": config}


def _write(admin: str, name: str, content: Mapping[str, Any]) -> None:
    """The file is there as a whole, for this user only."""
    path = _path(admin, name)
    before = path.with_suffix(".new")
    descriptor = os.open(before, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        json.dump({"resources": [{"@type": f"{_TYPES}.Secret", "name": name, **content}]}, file)
    before.replace(path)


def _inline(pem: bytes) -> Mapping[str, str]:
    return {"inline_string": pem.decode("ascii", "replace")}

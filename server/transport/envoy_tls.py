"""How Envoy is told of certificates: by a file beside the socket of its own operators' interface,
which it reads anew when another one is moved there. Knows no gRPC: supervisors load this.
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


def secrets_path(admin: str) -> Path:
    """Where the file of an Envoy is, by the path of its own operators' socket."""
    return Path(f"{admin}.tls")


def write_secrets(path: Path, chain: bytes, key: bytes, client_ca: bytes | None) -> None:
    """Leaves certificates, as PEM, for Envoy: the file is there as a whole, for this user only."""
    certificate = {"certificate_chain": _inline(chain), "private_key": _inline(key)}
    resources = [_secret(_SERVER, "tls_certificate", certificate)]
    if client_ca is not None:
        context = {"trusted_ca": _inline(client_ca)}
        resources.append(_secret(_CALLERS, "validation_context", context))
    before = path.with_suffix(".new")
    descriptor = os.open(before, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        json.dump({"resources": resources}, file)
    before.replace(path)


def first_secrets(path: Path, settings: ServerSettings) -> None:
    """Leaves what the files of the settings have, unseen: the worker looks at them before its Envoy
    listens, and does not start where they are bad.
    """
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return
    files = (settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
    chain, key, client_ca = (None if file is None else _text(file) for file in files)
    write_secrets(path, chain or b"", key or b"", client_ca)


def secured(http: dict[str, Any], path: Path, *, asks: bool, requires: bool) -> Mapping[str, Any]:
    """The socket of a listener with TLS. `asks` callers for a certificate, and `requires` one. What
    Envoy has seen of it goes to the application by a header, whose like it takes from callers.
    """
    if asks:
        http["forward_client_cert_details"] = "SANITIZE_SET"
        http["set_current_client_cert_details"] = {"uri": True}
    source = {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}
    context: dict[str, Any] = {
        "alpn_protocols": ["h2"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificate_sds_secret_configs": [{"name": _SERVER, "sds_config": source}],
    }
    if asks:
        context["validation_context_sds_secret_config"] = {"name": _CALLERS, "sds_config": source}
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


def _secret(name: str, kind: str, content: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"@type": f"{_TYPES}.Secret", "name": name, kind: content}


def _inline(pem: bytes) -> Mapping[str, str]:
    return {"inline_string": pem.decode("ascii", "replace")}

"""The server's certificate, the key to it, and who vouches for callers: three files, read anew when
they change. What does not fit together leaves the ones before in use.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from core.ports import Clock
from server import metrics
from server.identity.watching import CHECK_S, Stamp, stamp_of

_log = logging.getLogger(__name__)


class TlsInvalid(Exception):
    """Files that no TLS can be made of; the text says why, and nothing of what is in them."""


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """What TLS is made of, as PEM."""

    chain: bytes
    key: bytes
    client_ca: bytes | None
    expires_s: float
    """When the certificate ends, in s since the epoch."""


class TlsFiles:
    """The files of a server. Raises TlsInvalid where they cannot be used at the start. `version`
    grows when `material` changes.
    """

    def __init__(self, chain: Path, key: Path, client_ca: Path | None, clock: Clock) -> None:
        self._chain, self._key, self._client_ca = chain, key, client_ca
        self._paths = (chain, key) if client_ca is None else (chain, key, client_ca)
        self._clock = clock
        self._stamp: Stamp = stamp_of(self._paths)
        self._told: list[Callable[[TlsMaterial], None]] = []
        self.material = self._read()
        self.version = 0
        metrics.TLS_EXPIRES.set(self.material.expires_s)

    async def run(self) -> None:
        """Looks every second whether the files are others; never returns by itself."""
        while True:
            await asyncio.sleep(CHECK_S)
            self.look()

    def subscribe(self, told: Callable[[TlsMaterial], None]) -> None:
        """Tells whenever there is other material."""
        self._told.append(told)

    def look(self) -> None:
        """Takes files that changed, if they can be used."""
        stamp = stamp_of(self._paths)
        if stamp == self._stamp:
            return
        # A file that is written while it is read changes once more.
        self._stamp = stamp
        try:
            material = self._read()
        except TlsInvalid as error:
            metrics.IDENTITY_RELOAD_FAILURES.labels("tls").inc()
            _log.error("TLS files cannot be used; those before stay", extra={"why": str(error)})
            return
        if material == self.material:
            return
        self.material = material
        self.version += 1
        metrics.TLS_EXPIRES.set(material.expires_s)
        for told in self._told:
            told(material)
        _log.info("TLS files were read")

    def _read(self) -> TlsMaterial:
        try:
            chain = self._chain.read_bytes()
            key = self._key.read_bytes()
            client_ca = None if self._client_ca is None else self._client_ca.read_bytes()
        except OSError as error:
            raise TlsInvalid("one of the files cannot be read") from error
        leaf = _certificates(chain, "certificate")[0]
        if client_ca is not None:
            _certificates(client_ca, "client CA")
        if _public_part(key) != leaf.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        ):
            raise TlsInvalid("the key is not that of the certificate")
        expires: datetime = leaf.not_valid_after_utc
        if expires.timestamp() * 1000 <= self._clock.now_ms():
            raise TlsInvalid("the certificate has expired")
        return TlsMaterial(chain, key, client_ca, expires.timestamp())


def _certificates(text: bytes, what: str) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(text)
    except ValueError as error:
        raise TlsInvalid(f"the {what} file has no certificate that can be read") from error
    return found


def _public_part(key: bytes) -> bytes:
    try:
        loaded = load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as error:
        raise TlsInvalid("the key file has no key that can be read") from error
    return loaded.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

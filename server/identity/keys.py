"""The public keys of whoever signs tokens: a JSON Web Key Set in a file or at a URL, read anew when
it changes. What cannot be read leaves the keys as they are.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.request import urlopen

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from server import metrics
from server.identity.watching import CHECK_S, Stamp, stamp_of

_log = logging.getLogger(__name__)

_BYTES_MAX: Final = 256 * 1024
_KEYS_MAX: Final = 100
_ANSWER_S: Final = 5.0

Keys = Mapping[str, Ed25519PublicKey]


class KeysInvalid(Exception):
    """A key set that is none, or has no key for us; the text says why."""


class KeySource(Protocol):
    """Keys by their ids. `version` grows when they change."""

    keys: Keys
    version: int

    async def run(self) -> None:
        """Looks for changes; never returns by itself."""


def read_keys(text: bytes) -> Keys:
    """The Ed25519 keys of a key set, by id; keys of other kinds are somebody else's. Raises
    KeysInvalid.
    """
    if len(text) > _BYTES_MAX:
        raise KeysInvalid("it is too large")
    try:
        entries = json.loads(text)["keys"]
        if not isinstance(entries, list) or len(entries) > _KEYS_MAX:
            raise KeysInvalid(f"it is no list of at most {_KEYS_MAX} keys")
        ours = [entry for entry in entries if _is_ours(entry)]
        keys = {entry["kid"]: _key(entry) for entry in ours}
    except (
        jwt.PyJWTError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise KeysInvalid("it is no JSON Web Key Set") from error
    if not keys or len(keys) != len(ours):
        raise KeysInvalid("it needs Ed25519 keys, each with an id of its own")
    return keys


class KeyFile:
    """Keys of a file. Raises KeysInvalid where it cannot be read at the start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: Stamp = stamp_of((path,))
        self.keys = self._read()
        self.version = 0

    async def run(self) -> None:
        """Looks every second whether the file is another one."""
        while True:
            await asyncio.sleep(CHECK_S)
            self.look()

    def look(self) -> None:
        """Takes the keys of a file that changed."""
        stamp = stamp_of((self._path,))
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self.keys = self._read()
        except KeysInvalid as error:
            _tell_bad(error)
            return
        self.version += 1
        _log.info("keys of tokens were read", extra={"keys": sorted(self.keys)})

    def _read(self) -> Keys:
        try:
            return read_keys(self._path.read_bytes())
        except OSError as error:
            raise KeysInvalid("it cannot be read") from error


class KeyUrl:
    """Keys of a server; none until it has answered."""

    def __init__(self, url: str, refresh_s: float) -> None:
        self._url = url
        self._refresh_s = refresh_s
        self.keys: Keys = {}
        self.version = 0

    async def run(self) -> None:
        """Asks again and again."""
        while True:
            await self.ask()
            await asyncio.sleep(self._refresh_s if self.keys else min(1.0, self._refresh_s))

    async def ask(self) -> None:
        """Takes the keys that the server has now."""
        try:
            keys = read_keys(await asyncio.to_thread(self._fetch))
        except (KeysInvalid, OSError, HTTPException, ValueError) as error:
            _tell_bad(error)
            return
        if keys.keys() != self.keys.keys() or any(keys[kid] != self.keys[kid] for kid in keys):
            self.keys = keys
            self.version += 1
            _log.info("keys of tokens were read", extra={"keys": sorted(keys)})

    def _fetch(self) -> bytes:
        # The scheme was checked with the settings.
        with urlopen(self._url, timeout=_ANSWER_S) as answer:  # noqa: S310
            body: bytes = answer.read(_BYTES_MAX + 1)
        return body


def _is_ours(entry: Mapping[str, Any]) -> bool:
    if "d" in entry:
        raise KeysInvalid("it has a private key in it: make another one, that is known now")
    return (
        entry.get("kty") == "OKP"
        and entry.get("crv") == "Ed25519"
        and entry.get("use", "sig") == "sig"
        and entry.get("alg", "EdDSA") in {"EdDSA", "Ed25519"}
    )


def _key(entry: Mapping[str, Any]) -> Ed25519PublicKey:
    if not isinstance(entry["kid"], str):
        raise KeysInvalid("it has a key whose id is no text")
    key = jwt.PyJWK({**entry, "alg": "EdDSA"}).key
    if not isinstance(key, Ed25519PublicKey):
        raise KeysInvalid("it has a key that is no public one")
    return key


def _tell_bad(error: Exception) -> None:
    metrics.IDENTITY_RELOAD_FAILURES.labels("keys").inc()
    why = str(error) if isinstance(error, KeysInvalid) else type(error).__name__
    _log.error("keys of tokens cannot be read; those before stay", extra={"why": why})

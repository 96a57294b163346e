"""Whom a certificate names, and how files of certificates change."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from core.clock import SystemClock
from server.errors import Unauthenticated
from server.identity.certificates import Certificates
from server.identity.identity import Evidence, Identity, Role
from server.identity.tls_files import TlsFiles, TlsInvalid
from tests.fixtures.authority import Authority, Pair, write_pair

_CERTIFICATES = Certificates("standings")
_AUTHORITY = Authority()


@pytest.mark.parametrize(
    ("uri", "role", "game"),
    [
        ("spiffe://standings/game-server/eu1", Role.GAME_SERVER, None),
        ("spiffe://standings/game-server/arena/eu1", Role.GAME_SERVER, "arena"),
        ("spiffe://standings/internal/arena/web.1", Role.INTERNAL, "arena"),
        ("spiffe://standings/sre/alice@example.org", Role.SRE, None),
        ("spiffe://standings/privacy-officer/bob", Role.PRIVACY_OFFICER, None),
    ],
)
def test_a_certificate_names_its_caller(uri: str, role: Role, game: str | None) -> None:
    """Role, game and name are the steps of its URI."""
    name = uri.removeprefix("spiffe://standings/")

    assert _CERTIFICATES.identity((uri,)) == Identity(
        name, Evidence.CERTIFICATE, frozenset({role}), game
    )


@pytest.mark.parametrize(
    "uris",
    [
        ("spiffe://another/sre/alice",),
        ("spiffe://standings.evil/sre/alice",),
        ("https://standings/sre/alice",),
        ("spiffe://standings/sre",),
        ("spiffe://standings/sre/",),
        ("spiffe://standings/sre//alice",),
        ("spiffe://standings/root/alice",),
        ("spiffe://standings/SRE/alice",),
        ("spiffe://standings/sre/arena/alice",),
        ("spiffe://standings/privacy-officer/arena/bob",),
        ("spiffe://standings/client/7",),
        ("spiffe://standings/client/arena/7",),
        ("spiffe://standings/game-server/arena.daily/eu1",),
        ("spiffe://standings/game-server/Arena/eu1",),
        ("spiffe://standings/game-server/arena/eu1/more",),
        ("spiffe://standings/game-server/" + "x" * 49,),
        ("spiffe://standings/sre/alice\nroot",),
        ("spiffe://standings/sre/alice", "spiffe://standings/sre/bob"),
        ("spiffe://standings/sre/alice", "https://example.org"),
    ],
)
def test_any_other_certificate_names_nobody(uris: tuple[str, ...]) -> None:
    """A strange URI, or more than one."""
    with pytest.raises(Unauthenticated):
        _CERTIFICATES.identity(uris)


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    """The files of a server, with somebody who vouches for callers."""
    return _files(tmp_path, _AUTHORITY.server())


def test_a_rotated_pair_is_taken(files: TlsFiles, tmp_path: Path) -> None:
    """Certificate and key may change one after the other; between that the old ones stay."""
    before, new = files.material, _AUTHORITY.server()
    (tmp_path / "chain.pem").write_bytes(new.chain)
    files.look()
    assert files.material is before
    (tmp_path / "key.pem").write_bytes(new.key)
    files.look()

    assert (files.material.chain, files.material.key) == (new.chain, new.key)
    assert files.version == 1


def test_a_rotated_ca_is_taken(files: TlsFiles, tmp_path: Path) -> None:
    """Old and new may vouch together for a while."""
    both = _AUTHORITY.pem + Authority().pem
    (tmp_path / "ca.pem").write_bytes(both)
    files.look()

    assert files.material.client_ca == both


def test_a_link_that_leads_elsewhere_is_noticed(tmp_path: Path) -> None:
    """As Kubernetes changes what it mounts: the files stay, what they lead to does not."""
    for name, pair in (("one", _AUTHORITY.server()), ("two", _AUTHORITY.server())):
        (tmp_path / name).mkdir()
        _write(tmp_path / name, pair)
    (tmp_path / "now").symlink_to("one")
    files = TlsFiles(
        tmp_path / "now/chain.pem", tmp_path / "now/key.pem", tmp_path / "now/ca.pem", SystemClock()
    )
    (tmp_path / "next").symlink_to("two")
    os.replace(tmp_path / "next", tmp_path / "now")  # noqa: PTH105 - of a link
    files.look()

    assert files.material.chain == (tmp_path / "two/chain.pem").read_bytes()


@pytest.mark.parametrize("bad", ["chain", "key", "ca", "other key", "expired", "gone"])
def test_bad_files_change_nothing(files: TlsFiles, tmp_path: Path, bad: str) -> None:
    """What does not fit together stays out, and is not told to be in."""
    before = files.material
    match bad:
        case "other key":
            (tmp_path / "key.pem").write_bytes(_AUTHORITY.server().key)
        case "expired":
            write_pair(tmp_path, _AUTHORITY.server(valid_for=-timedelta(hours=1)))
        case "gone":
            (tmp_path / "chain.pem").unlink()
        case name:
            (tmp_path / f"{name}.pem").write_text("-----BEGIN CERTIFICATE-----\nxx\n")
    files.look()

    assert files.material is before
    assert files.version == 0


@pytest.mark.parametrize("valid_for", [-timedelta(hours=1), timedelta(hours=1)])
def test_the_first_files_must_be_good(tmp_path: Path, valid_for: timedelta) -> None:
    """There is nothing to fall back on at the start."""
    pair = _AUTHORITY.server(valid_for=valid_for)
    if valid_for > timedelta(0):
        pair = Pair(pair.chain, b"no key")
    with pytest.raises(TlsInvalid):
        _files(tmp_path, pair)


def _files(directory: Path, pair: Pair) -> TlsFiles:
    _write(directory, pair)
    return TlsFiles(
        directory / "chain.pem", directory / "key.pem", directory / "ca.pem", SystemClock()
    )


def _write(directory: Path, pair: Pair) -> None:
    write_pair(directory, pair)
    (directory / "ca.pem").write_bytes(_AUTHORITY.pem)

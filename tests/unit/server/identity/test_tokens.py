"""What a token has to be so that somebody is taken for its caller."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from bootstrap.identity_settings import IdentitySettings
from core.clock import SystemClock
from core.errors import Unavailable
from server.errors import Unauthenticated
from server.identity.identity import Evidence, Identity, Role
from server.identity.keys import KeyFile, KeysInvalid, KeyUrl, read_keys
from server.identity.tokens import TOKEN_CHARS_MAX, Tokens
from server.identity.used_tokens import UsedTokens
from tests.fixtures.authority import ISSUER, Issuer, write_keys

_SETTINGS = IdentitySettings(issuer=ISSUER)
_ISSUER = Issuer()


class Clock(SystemClock):
    """A clock that can be put forward."""

    ahead_ms = 0

    def now_ms(self) -> int:
        """By what it was put forward."""
        return super().now_ms() + self.ahead_ms


class Verifying:
    """A verifier with the keys of a file."""

    def __init__(self, directory: Path, *issuers: Issuer) -> None:
        self.path = write_keys(directory / "keys.json", *(issuers or (_ISSUER,)))
        self.keys = KeyFile(self.path)
        self.clock = Clock()
        self.used = UsedTokens(directory / "used", self.clock)
        self.tokens = Tokens(_SETTINGS, self.keys, self.used, self.clock)

    def identity(self, token: str) -> Identity:
        """Who it is."""
        return self.tokens.identity(f"Bearer {token}")


@pytest.fixture
def verifying(tmp_path: Path) -> Verifying:
    """One that knows one key."""
    return Verifying(tmp_path)


@pytest.mark.parametrize(
    ("claims", "identity"),
    [
        (
            {"role": "client", "sub": "7"},
            Identity("client/arena/7", Evidence.TOKEN, frozenset({Role.CLIENT}), "arena", 7),
        ),
        (
            {"role": "game-server", "game": "*"},
            Identity("game-server/somebody", Evidence.TOKEN, frozenset({Role.GAME_SERVER})),
        ),
        (
            {"role": "sre", "roles": ["sre", "privacy-officer"], "game": None},
            Identity(
                "privacy-officer/somebody",
                Evidence.TOKEN,
                frozenset({Role.SRE, Role.PRIVACY_OFFICER}),
            ),
        ),
    ],
    ids=["player", "every game", "operator"],
)
def test_a_good_token_names_its_caller(
    verifying: Verifying, claims: dict[str, Any], identity: Identity
) -> None:
    """Role, game and user are those of the token."""
    # Made here: one made when the tests were collected has expired before a long run comes to it.
    token = _ISSUER.token(**claims)
    assert verifying.identity(token) == identity
    assert verifying.tokens.identity(f"bearer {token}") is verifying.identity(token)


def _hs256_with_the_public_key() -> str:
    """The old trick: the public key, which everybody has, as the secret of another algorithm."""
    public = _ISSUER.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    head = _part({"alg": "HS256", "typ": "JWT", "kid": "one"})
    signed = f"{head}.{_part(_ISSUER.claims('sre'))}"
    return f"{signed}.{_text(hmac.digest(public, signed.encode(), hashlib.sha256))}"


def _unsigned() -> str:
    head = _part({"alg": "none", "typ": "JWT", "kid": "one"})
    return f"{head}.{_part(_ISSUER.claims('sre'))}."


def _signed_with_header(**header: Any) -> str:
    return jwt.encode(_ISSUER.claims("sre"), _ISSUER.key, "EdDSA", {"kid": "one", **header})


def _tampered() -> str:
    head, _, signature = _ISSUER.token("client").split(".")
    return f"{head}.{_part(_ISSUER.claims('sre'))}.{signature}"


_BAD: dict[str, Callable[[], str]] = {
    "alg none": _unsigned,
    "alg None without a signature's point": lambda: _unsigned().rstrip("."),
    "HS256 with the public key": _hs256_with_the_public_key,
    "claims of another token": _tampered,
    "another issuer's key of the same id": lambda: Issuer().token("sre"),
    "an unknown key": lambda: Issuer(kid="two").token("sre"),
    "no key id": lambda: jwt.encode(_ISSUER.claims("sre"), _ISSUER.key, "EdDSA"),
    "a key id that is a list": lambda: _part({"alg": "EdDSA", "kid": ["one"]}) + ".e30.AA",
    "a key that it brings along": lambda: _signed_with_header(jwk=Issuer().jwk),
    "a key at a URL of its own": lambda: _signed_with_header(jku="https://evil.test/keys"),
    "a critical extension": lambda: _signed_with_header(crit=["b64"], b64=False),
    "no end": lambda: _ISSUER.token("client", exp=None),
    "an end in words": lambda: _ISSUER.token("client", exp="9999999999"),
    "no beginning": lambda: _ISSUER.token("client", iat=None),
    "ended": lambda: _ISSUER.token("client", iat=1, exp=600),
    "not begun": lambda: _ISSUER.token("client", nbf=4_000_000_000),
    "issued in the future": lambda: _ISSUER.token("client", iat=4_000_000_000, exp=4_000_000_600),
    "good for too long": lambda: _ISSUER.token("client", iat=1_700_000_000, exp=4_000_000_000),
    "an operator's for too long": lambda: _aged("sre", 901),
    "for somebody else": lambda: _ISSUER.token("client", aud="another"),
    "for nobody": lambda: _ISSUER.token("client", aud=None),
    "of another issuer": lambda: _ISSUER.token("client", iss="https://evil.test"),
    "of no issuer": lambda: _ISSUER.token("client", iss=None),
    "no subject": lambda: _ISSUER.token("client", sub=None),
    "no roles": lambda: _ISSUER.token("client", roles=None),
    "an empty list of roles": lambda: _ISSUER.token("client", roles=[]),
    "a role in place of a list": lambda: _ISSUER.token("client", roles="sre"),
    "a role that there is not": lambda: _ISSUER.token("client", roles=["root"]),
    "a player who is more": lambda: _ISSUER.token("client", roles=["client", "sre"]),
    "a server that is an operator": lambda: _ISSUER.token("sre", roles=["game-server", "sre"]),
    "no game": lambda: _ISSUER.token("client", game=None),
    "a game with a point": lambda: _ISSUER.token("client", game="arena.daily"),
    "a game that is empty": lambda: _ISSUER.token("client", game=""),
    "a player who is no number": lambda: _ISSUER.token("client", sub="alice"),
    "a player who is 0": lambda: _ISSUER.token("client", sub="0"),
    "a player with two texts": lambda: _ISSUER.token("client", sub="007"),
    "a player below 0": lambda: _ISSUER.token("client", sub="-7"),
    "a player beyond int64": lambda: _ISSUER.token("client", sub=str(2**63)),
    "a player in other digits": lambda: _ISSUER.token("client", sub="\u0667"),
    "a name with a line break": lambda: _ISSUER.token("internal", sub="a\nb"),
    "an operator's without an id": lambda: _ISSUER.token("sre", jti=None),
    "huge": lambda: _ISSUER.token("client", padding="x" * TOKEN_CHARS_MAX),
    "nested without end": lambda: _text(b"[" * 3000) + ".e30.AA",
    "a header that is a list": lambda: _part([]) + ".e30.AA",
    "claims that are a list": lambda: jwt.PyJWS().encode(  # type: ignore[no-untyped-call]
        b"[]", _ISSUER.key, "EdDSA", {"kid": "one"}
    ),
    "empty": lambda: "",
    "two parts": lambda: "e30.e30",
    "no base64": lambda: "!!.!!.!!",
}


def _aged(role: str, lifetime_s: int) -> str:
    issued_s = _ISSUER.claims(role)["iat"]
    return _ISSUER.token(role, exp=issued_s + lifetime_s)


@pytest.mark.parametrize("case", _BAD)
def test_any_other_token_names_nobody(verifying: Verifying, case: str) -> None:
    """Whatever is wrong with it: nobody is known, and the caller is not told what it was."""
    with pytest.raises(Unauthenticated) as refusal:
        verifying.identity(_BAD[case]())

    assert str(refusal.value) == str(Unauthenticated("anything else"))


@pytest.mark.parametrize("value", ["", "Bearer", "Basic QWxhZGRpbg==", "Bearer  ", "Token x.y.z"])
def test_only_bearer_tokens_are_taken(verifying: Verifying, value: str) -> None:
    """Another scheme, or none, names nobody."""
    with pytest.raises(Unauthenticated):
        verifying.tokens.identity(value)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
@settings(max_examples=300, deadline=None)
def test_whatever_comes_nothing_else_is_raised(text: str) -> None:
    """Random text is refused as everything else is."""
    tokens = Tokens(_SETTINGS, _Fixed(), UsedTokens(Path("/nonexistent"), Clock()), Clock())
    with pytest.raises(Unauthenticated):
        tokens.identity(f"Bearer {text}")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=8,
    )
)
@settings(max_examples=300, deadline=None)
def test_whatever_the_claims_are_nothing_else_is_raised(value: object) -> None:
    """Each claim of a well-signed token may be anything."""
    tokens = Tokens(_SETTINGS, _Fixed(), UsedTokens(Path("/nonexistent"), Clock()), Clock())
    for claim in ("exp", "iat", "nbf", "iss", "aud", "sub", "roles", "game", "jti"):
        claims = {**_ISSUER.claims("client"), claim: value}
        head = _part({"alg": "EdDSA", "kid": "one"})
        signed = f"{head}.{_part(claims)}"
        token = f"{signed}.{_text(_ISSUER.key.sign(signed.encode()))}"
        try:
            identity = tokens.identity(f"Bearer {token}")
        except Unauthenticated:
            continue
        # What makes no difference, such as a nbf of None, or what is as good.
        assert identity.roles == {Role.CLIENT}


def test_a_known_token_expires(verifying: Verifying) -> None:
    """A token that was verified is known only until its end."""
    token = _ISSUER.token("client")
    verifying.identity(token)
    verifying.clock.ahead_ms = 629_000
    verifying.identity(token)
    verifying.clock.ahead_ms = 631_000

    with pytest.raises(Unauthenticated):
        verifying.identity(token)


def test_a_known_token_is_not_verified_again(
    verifying: Verifying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second call with a token costs a look-up."""
    token = _ISSUER.token("client")
    known = verifying.identity(token)
    monkeypatch.setattr(jwt, "get_unverified_header", None)

    assert verifying.identity(token) is known


def test_keys_are_rotated(tmp_path: Path) -> None:
    """A new key is taken beside the old one; when the old one goes, so do its tokens."""
    old, new = Issuer(kid="old"), Issuer(kid="new")
    verifying = Verifying(tmp_path, old)
    of_old, of_new = old.token("client"), new.token("client")
    verifying.identity(of_old)
    with pytest.raises(Unauthenticated):
        verifying.identity(of_new)
    write_keys(verifying.path, old, new)
    verifying.keys.look()
    verifying.identity(of_old)
    verifying.identity(of_new)
    write_keys(verifying.path, new)
    verifying.keys.look()
    verifying.identity(of_new)

    with pytest.raises(Unauthenticated):
        verifying.identity(of_old)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"keys": []}', '{"keys": [{"kty": "RSA"}]}'])
def test_a_bad_key_file_changes_nothing(verifying: Verifying, text: str) -> None:
    """What cannot be read leaves the keys as they were."""
    verifying.path.write_text(text)
    verifying.keys.look()

    assert verifying.identity(_ISSUER.token("client")).user_id == 7


@pytest.mark.parametrize(
    "entries",
    [
        [{**_ISSUER.jwk, "d": "AAAA"}],
        [_ISSUER.jwk, _ISSUER.jwk],
        [{**_ISSUER.jwk, "kid": 1}],
        [{key: value for key, value in _ISSUER.jwk.items() if key != "kid"}],
        [{**_ISSUER.jwk, "x": "AAAA"}],
        [{**_ISSUER.jwk, "use": "enc"}],
        [{**_ISSUER.jwk, "crv": "X25519"}],
        ["text"],
        [None],
    ],
)
def test_a_key_set_has_public_keys_with_ids_of_their_own(entries: list[Any]) -> None:
    """A private key, two of one id, one without, one that is none and one for something else."""
    with pytest.raises(KeysInvalid):
        read_keys(json.dumps({"keys": entries}).encode())


def test_keys_of_other_kinds_are_passed_over() -> None:
    """A key set may be shared with others."""
    text = json.dumps({"keys": [{"kty": "RSA", "n": "AA", "e": "AQAB"}, _ISSUER.jwk]})

    assert set(read_keys(text.encode())) == {"one"}


async def test_keys_of_a_url_stay_while_it_is_away() -> None:
    """Keys are those that the server gave last."""
    source = KeyUrl("http://127.0.0.1:9/keys", 60)
    await source.ask()
    assert source.keys == {}
    answers = [json.dumps({"keys": [_ISSUER.jwk]}).encode(), b"", b"<html>"]
    source._fetch = lambda: answers.pop(0)  # type: ignore[method-assign]
    for _ in range(3):
        await source.ask()

    assert set(source.keys) == {"one"}
    assert source.version == 1


def test_an_operators_token_is_good_for_one_act(verifying: Verifying, tmp_path: Path) -> None:
    """Also where another worker of the machine has seen it; reads may go on."""
    token = f"Bearer {_ISSUER.token('sre')}"
    another = Tokens(
        _SETTINGS, verifying.keys, UsedTokens(tmp_path / "used", SystemClock()), SystemClock()
    )
    verifying.tokens.use_up(token)
    with pytest.raises(Unauthenticated):
        verifying.tokens.use_up(token)
    with pytest.raises(Unauthenticated):
        another.use_up(token)

    assert another.identity(token).roles == {Role.SRE}


def test_where_its_use_cannot_be_noted_nothing_is_done(
    verifying: Verifying, tmp_path: Path
) -> None:
    """A disk that takes nothing refuses the act, not the server's other calls."""
    (tmp_path / "file").write_text("")
    used = UsedTokens(tmp_path / "file" / "used", SystemClock())
    tokens = Tokens(_SETTINGS, verifying.keys, used, SystemClock())

    with pytest.raises(Unavailable):
        tokens.use_up(f"Bearer {_ISSUER.token('sre')}")


def test_used_tokens_are_forgotten_when_they_have_expired(tmp_path: Path) -> None:
    """The directory does not grow for ever."""
    clock = Clock()
    used = UsedTokens(tmp_path, clock)
    assert used.use("one", clock.now_ms() / 1000 + 900)
    clock.ahead_ms = 800_000
    assert used.use("two", clock.now_ms() / 1000 + 900)
    assert not used.use("one", 0)
    clock.ahead_ms = 1_000_000
    assert used.use("three", clock.now_ms() / 1000 + 900)

    assert len(list(tmp_path.iterdir())) == 2


class _Fixed:
    def __init__(self) -> None:
        self.keys = {"one": _ISSUER.key.public_key()}
        self.version = 0

    async def run(self) -> None:
        """Never changes."""


def _part(value: object) -> str:
    return _text(json.dumps(value).encode())


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

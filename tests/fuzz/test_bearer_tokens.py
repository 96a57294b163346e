"""Bearer tokens that are not what an issuer gave: whoever shows one is nobody, at every method, and
no store is touched.
"""

from __future__ import annotations

import atexit
import base64
import json
import tempfile
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from bootstrap.identity_settings import IdentitySettings
from core.clock import SystemClock
from resilience.machine import MachineFile
from server.identity.callers import Callers
from server.identity.certificates import Certificates
from server.identity.keys import KeyFile
from server.identity.policy import POLICY
from server.identity.tokens import Tokens
from server.identity.used_tokens import UsedTokens
from server.rpc.status import RpcFailure
from tests.fixtures.authority import ISSUER, Issuer, write_keys
from tests.fuzz.choices import BYTES, Choices, budget, mutated
from tests.fuzz.routes import answers_of, routes_of
from tests.unit.server.fakes import BREAKERS, Fakes

_FOLDER = tempfile.TemporaryDirectory(prefix="standings-test-")
atexit.register(_FOLDER.cleanup)
_STATE: Final = Path(_FOLDER.name)
GIVER: Final = Issuer()
FAKES: Final = Fakes()
CALLERS: Final = Callers(
    Certificates("standings"),
    Tokens(
        IdentitySettings(issuer=ISSUER),
        KeyFile(write_keys(_STATE / "keys.json", GIVER)),
        UsedTokens(_STATE / "used", SystemClock()),
        SystemClock(),
    ),
)
ROUTES: Final = routes_of(FAKES.use_cases(MachineFile(_STATE, BREAKERS)), CALLERS)
ASKED: Final = sorted(path for path in ROUTES if POLICY[path].roles is not None)


def good() -> list[str]:
    """A token of every role, new ones each time: some are good for one call."""
    return [
        GIVER.token(role, game=game)
        for role in ("game-server", "client", "internal", "sre", "privacy-officer")
        for game in ("arena", "*")
    ]


GOOD: Final = good()
_VALUES: Final = (
    *(None, True, 0, -1, 2**63, 1e308, float("inf"), "", "x", "sre", "\0", "\ud800", "a" * 300),
    *([], ["sre"], [["sre"]], [None], {}, {"a": {}}, ["client", "sre"], [{}]),
)
_HEADERS: Final = ("alg", "kid", "typ", "crit", "jwk", "jku", "x5c", "b64", "zip", "cty")
_ALGORITHMS: Final = ("none", "HS256", "EdDSA", "eddsa", "", "RS256")


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def resigned(choices: Choices) -> str:
    """Claims that an issuer would not make, and nobody's or somebody else's signature under them;
    or a header that is not the issuer's.
    """
    claims = GIVER.claims("sre", game="*")
    for _ in range(choices.below(3)):
        claims[choices.one_of(sorted(claims))] = choices.one_of(_VALUES)
    header = {"alg": choices.one_of(_ALGORITHMS), "kid": "one"}
    for _ in range(choices.below(3)):
        header[choices.one_of(_HEADERS)] = choices.one_of(_VALUES)
    match choices.below(3):
        case 0:
            return f"{_part(header)}.{_part(claims)}.{_part(choices.some_bytes(64).hex())}"
        case 1:
            return f"{_part(header)}.{_part(claims)}."
        case _:
            return Issuer().token("sre", sub=choices.one_of(("somebody", "7")))


def damaged(choices: Choices) -> str:
    """A good token after accidents: to its text, to the bytes of a part, or to its parts' order."""
    token = choices.one_of(GOOD)
    parts = token.split(".")
    match choices.below(4):
        case 0:
            return mutated(token.encode(), choices).decode("latin-1")
        case 1:
            at = choices.below(3)
            data = mutated(base64.urlsafe_b64decode(parts[at] + "=="), choices)
            parts[at] = base64.urlsafe_b64encode(data).decode().rstrip("=")
        case 2:
            parts[choices.below(3)] = choices.one_of(GOOD).split(".")[choices.below(3)]
        case _:
            return token + choices.one_of((".", ".e30", "==", " ", "\n", "\0", token))
    return ".".join(parts)


def signed(choices: Choices) -> str:
    """By the issuer itself, and saying what it should not: right in form, wrong in a claim."""
    claims = GIVER.claims("game-server")
    for _ in range(1 + choices.below(3)):
        claims[choices.one_of((*claims, "nbf", "scope"))] = choices.one_of(_VALUES)
    return _signed(claims)


def _signed(claims: Any) -> str:
    text = json.dumps(claims).encode()
    return jwt.PyJWS().encode(text, GIVER.key, "EdDSA", headers={"kid": "one"})


async def refused(path: str, authorization: str) -> None:
    """Nobody, told in the same words as everybody, and nothing was asked or recorded."""
    FAKES.reset()
    FAKES.audit.written.clear()
    payload = ROUTES[path].method.request_type().SerializeToString()
    answers = await answers_of(ROUTES[path], [payload], authorization=authorization)

    assert [type(answer) for answer in answers] == [RpcFailure], authorization
    (answer,) = answers
    assert isinstance(answer, RpcFailure)
    assert answer.code is StatusCode.UNAUTHENTICATED, (authorization, answer.error)
    assert (FAKES.calls, FAKES.audit.written) == ([], []), authorization


@pytest.mark.parametrize("path", ASKED)
@budget(40)
@given(data=BYTES)
async def test_a_token_that_was_changed(path: str, data: bytes) -> None:
    """However little, or put together of those of others."""
    choices = Choices(data)
    token = damaged(choices) if choices.below(2) else resigned(choices)
    if token not in GOOD:
        await refused(path, f"Bearer {token}")


@budget(500)
@given(
    text=st.one_of(
        st.text(max_size=200), st.binary(max_size=400).map(lambda b: b.decode("latin-1"))
    )
)
async def test_text_that_is_no_token(text: str) -> None:
    """As it comes, with the scheme before it and without."""
    path = ASKED[len(text) % len(ASKED)]
    await refused(path, text)
    await refused(path, f"bearer {text}")


@budget(500)
@given(data=BYTES)
async def test_claims_that_an_issuer_should_not_make(data: bytes) -> None:
    """With a right signature: the caller is whom they name, or nobody; never an error of ours."""
    choices = Choices(data)
    path = choices.one_of(ASKED)
    payload = ROUTES[path].method.request_type().SerializeToString()
    token = signed(choices)
    answers = await answers_of(ROUTES[path], [payload], authorization=f"Bearer {token}")

    for answer in answers:
        if isinstance(answer, RpcFailure):
            assert answer.code not in {StatusCode.INTERNAL, StatusCode.UNKNOWN}, answer.error


@pytest.mark.parametrize("path", ASKED)
async def test_a_good_token_is_taken(path: str) -> None:
    """Else what is refused would prove nothing: of those, one at least is somebody everywhere."""
    payload = ROUTES[path].method.request_type().SerializeToString()
    codes = set()
    for token in good():
        answers = await answers_of(ROUTES[path], [payload], authorization=f"Bearer {token}")
        codes |= {answer.code if isinstance(answer, RpcFailure) else None for answer in answers}

    assert codes - {StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED}

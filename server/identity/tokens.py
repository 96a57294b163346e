"""Who a bearer token says that calls.

A JSON Web Token, signed with EdDSA by an issuer whose keys we know. Its claims:

    iss, aud     as in the settings
    exp, iat     at most an hour apart; of operators' tokens 15 minutes
    sub          the caller's name; of a player, the user's number
    roles        what it is
    game         the namespace that it is kept in, or "*" for every game
    jti          of operators' tokens: names the token, which is good for one act
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
from jwt.utils import base64url_decode, base64url_encode

from bootstrap.identity_settings import IdentitySettings
from core.ports import Clock
from server.errors import Unauthenticated
from server.identity.certificates import GAME, NAME
from server.identity.identity import OPERATORS, Evidence, Identity, Role
from server.identity.keys import KeySource
from server.identity.used_tokens import UsedTokens

TOKEN_CHARS_MAX: Final = 4096
OPERATOR_LIFETIME_MAX_S: Final = 900
EVERY_GAME: Final = "*"
_ALGORITHM: Final = "EdDSA"
_HEADER: Final = frozenset({"alg", "kid", "typ"})
"""Anything else, such as `crit` or a key that the token brings, asks for what we do not do."""
_KNOWN_MAX: Final = 10_000
_USER_ID_MAX: Final = 2**63 - 1
_USER_DIGITS_MAX: Final = 19
_TOKEN_ID_CHARS_MAX: Final = 256
_ROLES: Final = {role.value: role for role in Role}


@dataclass(frozen=True, slots=True)
class _Known:
    """A token that was verified."""

    identity: Identity
    expires_ms: float
    token_id: str | None


class Tokens:
    """Identities by tokens. One that was verified is known until it expires or the keys change."""

    def __init__(
        self, settings: IdentitySettings, keys: KeySource, used: UsedTokens, clock: Clock
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._used = used
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._version = keys.version
        self._jwt = jwt.PyJWT()

    def identity(self, authorization: str) -> Identity:
        """Whom the value of an authorization header names. Raises Unauthenticated, for all reasons
        alike. Cost: a hash and a look-up, but for a token's first call, which verifies it.
        """
        return self._look_up(authorization).identity

    def use_up(self, authorization: str) -> None:
        """Raises Unauthenticated unless this is the token's first act. Raises Unavailable."""
        known = self._look_up(authorization)
        if known.token_id is None:
            raise Unauthenticated("a token without an id, where it is good for one call")
        if not self._used.use(known.token_id, known.expires_ms / 1000):
            raise Unauthenticated("a token that was used before, where it is good for one call")

    def _look_up(self, authorization: str) -> _Known:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or len(token) > TOKEN_CHARS_MAX:
            raise Unauthenticated("the authorization is no bearer token of a usual length")
        if self._version != self._keys.version:
            self._version = self._keys.version
            self._known.clear()
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known is None:
            known = self._verified(token)
            self._known[digest] = known
            if len(self._known) > _KNOWN_MAX:
                self._known.popitem(last=False)
        elif known.expires_ms <= self._clock.now_ms():
            del self._known[digest]
            raise Unauthenticated("the token has expired")
        return known

    def _verified(self, token: str) -> _Known:
        try:
            return self._read(self._claims(token))
        except Unauthenticated:
            raise
        except jwt.PyJWTError as error:
            raise Unauthenticated(type(error).__name__) from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise Unauthenticated("the token is not well formed") from error

    def _claims(self, token: str) -> Mapping[str, Any]:
        header = jwt.get_unverified_header(token)
        # Before anything is looked up by what the token says of itself.
        if header.get("alg") != _ALGORITHM or not header.keys() <= _HEADER:
            raise Unauthenticated("the token is signed in another way than is taken here")
        key = self._keys.keys.get(header["kid"])
        if key is None:
            raise Unauthenticated("the token is signed with a key that is not known here")
        _check_spelling(token.rpartition(".")[2])
        settings = self._settings
        claims: Mapping[str, Any] = self._jwt.decode(
            token,
            key,
            algorithms=[_ALGORITHM],
            audience=settings.audience,
            issuer=settings.issuer,
            leeway=settings.leeway_s,
            options={"require": ["exp", "iat", "sub", "aud", "iss"]},
        )
        return claims

    def _read(self, claims: Mapping[str, Any]) -> _Known:
        roles = _roles(claims["roles"])
        operator = not roles.isdisjoint(OPERATORS)
        lifetime_max_s = self._settings.lifetime_max_s
        if operator:
            lifetime_max_s = min(lifetime_max_s, OPERATOR_LIFETIME_MAX_S)
        expires_s, issued_s = _seconds(claims["exp"]), _seconds(claims["iat"])
        if expires_s - issued_s > lifetime_max_s:
            raise Unauthenticated("the token is good for longer than is taken here")
        token_id = claims.get("jti")
        if token_id is not None or operator:
            _check_token_id(token_id)
        game = None if operator else _game(claims)
        return _Known(
            _identity(claims["sub"], roles, game),
            (expires_s + self._settings.leeway_s) * 1000,
            token_id,
        )


def _check_spelling(signature: str) -> None:
    # Base64 is read leniently, and a token that one has could be shown as countless others.
    if base64url_encode(base64url_decode(signature)) != signature.encode():
        raise Unauthenticated("the token's signature is not spelt as it should be")


def _roles(names: object) -> frozenset[Role]:
    if not isinstance(names, list) or not names or not all(name in _ROLES for name in names):
        raise Unauthenticated("the token names no roles, or one that there is not")
    roles = frozenset(_ROLES[name] for name in names)
    if len(roles) > 1 and (Role.CLIENT in roles or not roles <= OPERATORS):
        # A player is nothing else, and operators are not kept in a namespace.
        raise Unauthenticated("the token names roles that exclude each other")
    return roles


def _game(claims: Mapping[str, Any]) -> str | None:
    game = claims["game"]
    if game == EVERY_GAME:
        return None
    if not isinstance(game, str) or not GAME.fullmatch(game):
        raise Unauthenticated("the token's game is no name of one")
    return game


def _identity(subject: object, roles: frozenset[Role], game: str | None) -> Identity:
    if not isinstance(subject, str) or not NAME.fullmatch(subject):
        raise Unauthenticated("the token's subject is no name")
    user_id = _user_id(subject) if Role.CLIENT in roles else None
    role = min(role.value for role in roles)
    name = f"{role}/{subject}" if game is None else f"{role}/{game}/{subject}"
    return Identity(name, Evidence.TOKEN, roles, game, user_id)


def _user_id(subject: str) -> int:
    # No sign, no spaces, no other digits: one user, one text.
    if not (subject.isascii() and subject.isdigit() and len(subject) <= _USER_DIGITS_MAX):
        raise Unauthenticated("the subject of a player's token is no user")
    user_id = int(subject)
    if subject[0] == "0" or user_id > _USER_ID_MAX:
        raise Unauthenticated("the subject of a player's token is no user")
    return user_id


def _seconds(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unauthenticated("the token has a time that is no whole number")
    return value


def _check_token_id(token_id: object) -> None:
    if not isinstance(token_id, str) or not 1 <= len(token_id) <= _TOKEN_ID_CHARS_MAX:
        raise Unauthenticated("the token has no id, or one that is none")

"""Which role may call which method: one table by full name. What it does not name does not start,
and whom it does not name is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum, IntEnum
from typing import Final, NamedTuple

from google.protobuf.message import Message

from server.identity.identity import OPERATORS, Role
from server.identity.scope import scope_of


class Boards(Enum):
    """How a method is kept within the namespace of a caller that has one."""

    NAMED = "named"
    """Its requests name boards; each must be the caller's."""
    CREATED = "created"
    """They name boards that are not there yet, in the caller's namespace."""
    LISTED = "listed"
    """It names boards in its answers, and looks at the caller's namespace itself."""
    ALL = "all"
    """It is about every board at once: not for callers who are kept in a namespace."""
    NONE = "none"
    """It is about no board."""


class Kind(IntEnum):
    """What a method does, as far as limits care: each kind has its own."""

    WRITES = 0
    """It changes entries."""
    READS = 1
    """It changes nothing."""
    ADMIN = 2
    """It changes what others stand on, or looks at the machinery."""


class Rule(NamedTuple):
    """A row of the table. `roles` None: everybody, without evidence. `kind` None: it is never
    refused for being called too often.
    """

    roles: frozenset[Role] | None
    kind: Kind | None
    boards: Boards = Boards.NAMED


def _for(kind: Kind, *roles: Role) -> Rule:
    return Rule(frozenset(roles), kind)


_WRITES: Final = _for(Kind.WRITES, Role.GAME_SERVER, Role.CLIENT)
_READS: Final = _for(Kind.READS, Role.GAME_SERVER, Role.CLIENT, Role.INTERNAL)
_DEFINITIONS: Final = _for(Kind.ADMIN, Role.GAME_SERVER, Role.SRE)
_CREATION: Final = Rule(_DEFINITIONS.roles, Kind.ADMIN, Boards.CREATED)
_MODERATION: Final = _for(Kind.ADMIN, Role.GAME_SERVER, Role.SRE, Role.PRIVACY_OFFICER)
_OPERATION: Final = _for(Kind.ADMIN, Role.SRE)
_ADMIN: Final = Rule(frozenset({Role.SRE}), Kind.ADMIN, Boards.ALL)
# Balancers and operators have to learn how a worker is when it is at its worst.
_ANYBODY: Final = Rule(None, None, Boards.NONE)
_HEALTH_IN_DETAIL: Final = Rule(frozenset({Role.INTERNAL, Role.SRE}), None, Boards.NONE)
_REFLECTION: Final = Rule(frozenset(Role), None, Boards.NONE)

POLICY: Final[Mapping[str, Rule]] = {
    "/standings.v1.RankingService/SubmitScore": _WRITES,
    "/standings.v1.RankingService/BatchSubmitScores": _WRITES,
    "/standings.v1.RankingService/StreamSubmitScores": _WRITES,
    "/standings.v1.RankingService/GetEntry": _READS,
    "/standings.v1.RankingService/BatchGetEntries": _READS,
    "/standings.v1.RankingService/ListEntries": _READS,
    "/standings.v1.RankingService/ListEntriesAround": _READS,
    "/standings.v1.RankingService/EstimateRank": _READS,
    "/standings.v1.RankingService/GetPercentile": _READS,
    "/standings.v1.RankingService/WatchEntries": _READS,
    "/standings.v1.RankingService/DeleteEntry": _for(
        Kind.WRITES, Role.GAME_SERVER, Role.PRIVACY_OFFICER
    ),
    "/standings.v1.BoardService/CreateBoard": _CREATION,
    "/standings.v1.BoardService/GetBoard": _for(
        Kind.READS, Role.GAME_SERVER, Role.CLIENT, Role.INTERNAL, Role.SRE
    ),
    "/standings.v1.BoardService/ListBoards": Rule(
        frozenset({Role.GAME_SERVER, Role.INTERNAL, Role.SRE}), Kind.READS, Boards.LISTED
    ),
    "/standings.v1.BoardService/UpdateBoard": _DEFINITIONS,
    "/standings.v1.BoardService/DeleteBoard": _DEFINITIONS,
    "/standings.v1.ModerationService/HideUser": _MODERATION,
    "/standings.v1.ModerationService/RestoreUser": _MODERATION,
    "/standings.v1.ModerationService/DeleteUser": Rule(
        frozenset({Role.PRIVACY_OFFICER}), Kind.ADMIN, Boards.ALL
    ),
    "/standings.v1.AdminService/ListShards": _ADMIN,
    "/standings.v1.AdminService/ListBreakers": _ADMIN,
    "/standings.v1.AdminService/SetBreaker": _ADMIN,
    "/standings.v1.AdminService/WatchBreakers": _ADMIN,
    "/standings.v1.AdminService/VerifyShards": _OPERATION,
    "/standings.v1.AdminService/RebuildShards": _OPERATION,
    "/standings.v1.AdminService/GetOperation": _ADMIN,
    "/standings.v1.AdminService/ListOperations": _ADMIN,
    "/standings.v1.AdminService/CancelOperation": _ADMIN,
    "/standings.v1.AdminService/InjectFault": _ADMIN,
    "/standings.v1.AdminService/ListFaults": _ADMIN,
    "/standings.v1.AdminService/ClearFaults": _ADMIN,
    "/standings.v1.AdminService/ListAuditEvents": Rule(OPERATORS, Kind.ADMIN, Boards.ALL),
    # Whether the server serves is told to balancers, which have no credentials.
    "/grpc.health.v1.Health/Check": _ANYBODY,
    "/grpc.health.v1.Health/Watch": _ANYBODY,
    "/grpc.health.v1.Health/List": _HEALTH_IN_DETAIL,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _REFLECTION,
}

_IN_REQUESTS: Final = frozenset({Boards.NAMED, Boards.CREATED})

SINGLE_USE: Final = frozenset(
    {
        "/standings.v1.AdminService/SetBreaker",
        "/standings.v1.AdminService/VerifyShards",
        "/standings.v1.AdminService/RebuildShards",
        "/standings.v1.AdminService/CancelOperation",
        "/standings.v1.AdminService/InjectFault",
        "/standings.v1.AdminService/ClearFaults",
        "/standings.v1.ModerationService/DeleteUser",
    }
)
"""What operators do rather than ask: a token is good for one such call."""


def rule_of(path: str) -> Rule:
    """The row of a method. Raises LookupError, which stops the start, where it has none."""
    rule = POLICY.get(path)
    if rule is None:
        raise LookupError(f"{path} has no row in the policy")
    return rule


def check_policy(methods: Iterable[tuple[str, type[Message]]]) -> None:
    """Raises LookupError when a method, by its path and type of request, has no row, or one that
    does not say how its boards are looked after: both stop the start.
    """
    for path, request_type in methods:
        rule = rule_of(path)
        if scope_of(request_type).names_boards != (rule.boards in _IN_REQUESTS):
            raise LookupError(f"{path} has a row that is wrong about boards in its requests")

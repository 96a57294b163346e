"""Whose boards and users a request is about, found by its type: every field named `board_id`,
`user_id`, `user_ids` or `viewer_user_id`, at any depth. A new method is looked after by that.

Requests that stand in lists, such as the submissions of a batch, succeed or fail each by itself, so
they are checked where they are decoded, by the same rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, TypeAlias

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from core.errors import BoardNotFound, InvalidInput
from server.errors import PermissionDenied
from server.identity.identity import Identity

AnyDescriptor: TypeAlias = Any
"""Of a message; its types differ with what protobuf runs on."""
_BOARD: Final = "board_id"
_USERS: Final = frozenset({"user_id", "user_ids", "viewer_user_id"})


@dataclass(frozen=True, slots=True)
class _Field:
    path: str
    repeated: bool
    read: attrgetter[Any]

    @classmethod
    def at(cls, path: str, descriptor: FieldDescriptor) -> _Field:
        return cls(path, descriptor.is_repeated, attrgetter(path))


@dataclass(frozen=True, slots=True)
class Scope:
    """The fields of a type of request that name boards and users; `items` are the types that
    stand in lists of it.
    """

    boards: tuple[_Field, ...]
    users: tuple[_Field, ...]
    items: tuple[Scope, ...]

    @property
    def names_boards(self) -> bool:
        """Whether such a request says which boards it is about."""
        return bool(self.boards) or any(item.names_boards for item in self.items)

    def check(self, identity: Identity, message: Message, *, creates: bool = False) -> None:
        """Raises BoardNotFound, InvalidInput or PermissionDenied where a request is about what is
        not its caller's. Whether there is such a board or user is not looked at, and cannot be
        told from the answer. `creates`: the board is to be made.
        """
        if identity.game is not None:
            for field in self.boards:
                _check_board(identity, field, message, creates=creates)
        if identity.user_id is not None:
            for field in self.users:
                _check_users(identity.user_id, field, message)


def scope_of(type_: type[Message]) -> Scope:
    """The scope of a type of request. Looked for anew each time: keep it."""
    return _scope(type_.DESCRIPTOR)


def _scope(descriptor: AnyDescriptor) -> Scope:
    fields = list(_fields(descriptor, "", ()))
    return Scope(
        boards=tuple(field for name, field, _ in fields if name == _BOARD),
        users=tuple(field for name, field, _ in fields if name in _USERS),
        items=tuple(_scope(item) for _, _, item in fields if item is not None),
    )


def _fields(
    descriptor: AnyDescriptor, prefix: str, around: tuple[AnyDescriptor, ...]
) -> Iterator[tuple[str, _Field, AnyDescriptor | None]]:
    """The name, the place and, for a list of messages, their type of every field of ours."""
    for field in descriptor.fields:
        path = prefix + field.name
        type_ = field.message_type
        if type_ is None or not type_.full_name.startswith("standings."):
            yield field.name, _Field.at(path, field), None
        elif field.is_repeated:
            yield field.name, _Field.at(path, field), type_
        elif type_ not in around:
            yield from _fields(type_, f"{path}.", (*around, descriptor))


def _check_board(identity: Identity, field: _Field, message: Message, *, creates: bool) -> None:
    board_id: str = field.read(message)
    if not board_id:
        # Where that means every board, it means more than is this caller's.
        raise InvalidInput(field.path, "must name a board of the caller's game")
    if identity.owns(board_id):
        return
    if creates:
        raise PermissionDenied(f"{field.path}: must begin with {identity.board_prefix}")
    raise BoardNotFound


def _check_users(own: int, field: _Field, message: Message) -> None:
    given = field.read(message)
    named: Iterable[int] = given if field.repeated else (given,)
    # 0 is nobody; where somebody is needed the codec says so.
    if any(user_id not in {0, own} for user_id in named):
        raise PermissionDenied(f"{field.path}: players may name themselves only")

"""Entries and users that leave the boards: what is sent, and what is made of the answer."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from grpc import StatusCode

from standings.v1 import moderation_service_pb2 as moderation_pb
from standings_client import Erasure, Outcome, StandingsError, UserHidden, UserRestored
from tests.unit.clients.faces import Either
from tests.unit.clients.fake_server import Fake, refuse

pytestmark = pytest.mark.timeout(30)

SERVER_MS = 1_700_000_000_000


def from_the_future() -> Any:
    """Refuses an id that a fast clock made."""
    metadata = {"server_time_ms": str(SERVER_MS)}
    return refuse(StatusCode.INVALID_ARGUMENT, "SUBMISSION_ID_IN_FUTURE", metadata=metadata)


def ids_of(fake: Fake) -> Any:
    """The ids under which the entry was deleted."""
    return [request.submission_id for request in fake.asked["DeleteEntry"]]


async def test_an_entry_is_deleted_under_one_id(client: Either, fake: Fake) -> None:
    """A retry keeps the id; the answer tells what was there."""
    fake.tell("DeleteEntry", refuse(StatusCode.UNAVAILABLE))

    deleted = await client.call("delete_entry", "board", 7, season_id="s1")

    assert ids_of(fake) == [deleted.submission_id] * 2
    assert uuid.UUID(deleted.submission_id).version == 7
    assert {request.season_id for request in fake.asked["DeleteEntry"]} == {"s1"}
    assert (deleted.outcome, deleted.entry.score) == (Outcome.APPLIED, 7)
    assert (deleted.indexed, deleted.consistency_token) == (True, "token")


async def test_a_deletion_from_the_future_is_dated_anew(client: Either, fake: Fake) -> None:
    """Refused when sent first: a new id by the server's clock."""
    fake.tell("DeleteEntry", from_the_future())

    await client.call("delete_entry", "board", 7)

    first, second = ids_of(fake)
    assert (first != second, uuid.UUID(second).int >> 80) == (True, SERVER_MS)


@pytest.mark.parametrize(
    ("before", "own"),
    [([refuse(StatusCode.UNAVAILABLE)], None), ([], "01890a5d-ac96-774b-bcce-b302099a8057")],
    ids=["a retry", "the caller's own"],
)
async def test_a_deletion_that_may_have_counted_is_not(
    client: Either, fake: Fake, before: Any, own: str | None
) -> None:
    """The id of a retry, or of the caller, stays, and the refusal is told."""
    fake.tell("DeleteEntry", *before, from_the_future())

    with pytest.raises(StandingsError, match="SUBMISSION_ID_IN_FUTURE"):
        await client.call("delete_entry", "board", 7, submission_id=own)

    assert len(set(ids_of(fake))) == 1


async def test_a_user_is_hidden_and_restored(client: Either, fake: Fake) -> None:
    """Where and why go out, what changed comes back."""
    hidden = await client.call("moderation.hide_user", 7, board_id="weekly", reason="cheats")
    restored = await client.call("moderation.restore_user", 7)

    assert fake.asked["HideUser"] == [
        moderation_pb.HideUserRequest(user_id=7, board_id="weekly", reason="cheats")
    ]
    assert fake.asked["RestoreUser"] == [moderation_pb.RestoreUserRequest(user_id=7)]
    assert hidden == UserHidden(changed=True, entry_count=2, indexed=True, consistency_token="")
    assert restored == UserRestored(
        changed=True, entry_count=2, still_hidden=True, indexed=False, consistency_token=""
    )


async def test_a_user_is_deleted(client: Either, fake: Fake) -> None:
    """The erasure goes out; a time that has not come is None."""
    deleted = await client.call("moderation.delete_user", 7, erasure=Erasure.ANONYMIZE)

    assert fake.asked["DeleteUser"] == [
        moderation_pb.DeleteUserRequest(user_id=7, erasure=moderation_pb.ERASURE_ANONYMIZE)
    ]
    assert (deleted.deleted_entry_count, deleted.erased_submission_count) == (2, 5)
    assert (deleted.done, deleted.complete_time) == (False, None)
    assert deleted.create_time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


async def test_a_deletion_that_is_done_says_when(client: Either, fake: Fake) -> None:
    """The second call finds nothing left to do."""
    response = moderation_pb.DeleteUserResponse(done=True, erasure=moderation_pb.ERASURE_ERASE)
    response.complete_time.FromMilliseconds(SERVER_MS)
    fake.tell("DeleteUser", response)

    deleted = await client.call("moderation.delete_user", 7)

    assert (deleted.done, deleted.complete_time.year) == (True, 2023)
    assert deleted.erasure is Erasure.ERASE
    assert fake.asked["DeleteUser"][0].erasure == moderation_pb.ERASURE_ERASE

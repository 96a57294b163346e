"""A status becomes the exception of its reason, with all that the server said."""

from datetime import timedelta
from typing import Any

import pytest
from grpc import StatusCode

import standings_client
from standings_client import FieldViolation, StandingsError, errors
from tests.unit.clients.faces import Either
from tests.unit.clients.fake_server import Fake, refuse

pytestmark = pytest.mark.timeout(30)

REASONS = [
    (StatusCode.INVALID_ARGUMENT, "INVALID_INPUT", errors.InvalidArgument),
    (StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID", errors.PageTokenInvalid),
    (StatusCode.INVALID_ARGUMENT, "CONSISTENCY_TOKEN_INVALID", errors.ConsistencyTokenInvalid),
    (StatusCode.INVALID_ARGUMENT, "SUBMISSION_ID_TOO_OLD", errors.SubmissionIdTooOld),
    (StatusCode.NOT_FOUND, "BOARD_NOT_FOUND", errors.BoardNotFound),
    (StatusCode.NOT_FOUND, "SEASON_NOT_FOUND", errors.SeasonNotFound),
    (StatusCode.NOT_FOUND, "ENTRY_NOT_FOUND", errors.EntryNotFound),
    (StatusCode.ALREADY_EXISTS, "BOARD_EXISTS", errors.BoardExists),
    (StatusCode.ALREADY_EXISTS, "SUBMISSION_ID_REUSED", errors.SubmissionIdReused),
    (StatusCode.FAILED_PRECONDITION, "SEASON_NOT_OPEN", errors.SeasonNotOpen),
    (StatusCode.FAILED_PRECONDITION, "USER_BEING_DELETED", errors.UserBeingDeleted),
    (StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHES", errors.TooManyWatches),
    (StatusCode.ABORTED, "ETAG_MISMATCH", errors.EtagMismatch),
    (StatusCode.ABORTED, "WRITE_CONFLICT", errors.WriteConflict),
    (StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", errors.ResourceExhausted),
    (StatusCode.NOT_FOUND, "A_REASON_OF_TOMORROW", errors.NotFound),
    (StatusCode.INTERNAL, "BOARD_NOT_FOUND", errors.Internal),
    (StatusCode.DATA_LOSS, "", errors.Unknown),
]


@pytest.mark.parametrize(("code", "reason", "kind"), REASONS)
async def test_the_class_is_the_reasons_or_the_codes(
    client: Either, fake: Fake, code: StatusCode, reason: str, kind: Any
) -> None:
    """A reason that is not known, or under another code, falls back to the code's class."""
    fake.tell("GetEntry", refuse(code, reason))

    with pytest.raises(StandingsError) as caught:
        await client.call("get_entry", "board", 7)

    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.reason) == (code, reason)
    assert caught.value.message == "told by the test"


async def test_all_the_details_are_there(client: Either, fake: Fake) -> None:
    """Metadata, field violations and the wish to wait come along."""
    fake.tell(
        "GetEntry",
        refuse(
            StatusCode.INVALID_ARGUMENT,
            "INVALID_INPUT",
            metadata={"request_id": "r-1", "limit": "3"},
            violations=[("user_id", "must be 1 or more")],
            retry_s=0.2,
        ),
    )

    with pytest.raises(errors.InvalidArgument, match="request r-1") as caught:
        await client.call("get_entry", "board", 0)

    error = caught.value
    assert error.violations == (FieldViolation("user_id", "must be 1 or more"),)
    assert error.metadata == {"request_id": "r-1", "limit": "3"}
    assert (error.request_id, error.retry_after_s) == ("r-1", 0.2)


async def test_the_request_id_may_come_as_a_trailer(client: Either, fake: Fake) -> None:
    """A server's fault is found by the x-request-id trailer."""
    fake.tell("GetEntry", refuse(StatusCode.INTERNAL, trailers=[("x-request-id", "r-2")]))

    with pytest.raises(errors.Internal) as caught:
        await client.call("get_entry", "board", 7)

    assert caught.value.request_id == "r-2"


async def test_the_reason_of_another_domain_is_not_ours(client: Either, fake: Fake) -> None:
    """A proxy's reason does not choose the class."""
    fake.tell("GetEntry", refuse(StatusCode.NOT_FOUND, "BOARD_NOT_FOUND", domain="proxy"))

    with pytest.raises(errors.NotFound) as caught:
        await client.call("get_entry", "board", 7)

    assert (type(caught.value), caught.value.reason) == (errors.NotFound, "")


async def test_spoilt_details_leave_code_and_message(client: Either, fake: Fake) -> None:
    """Details that cannot be read are left out."""

    def spoilt(request: Any, context: Any) -> Any:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff"),))
        context.abort(StatusCode.NOT_FOUND, "still told")

    fake.tell("GetEntry", spoilt)

    with pytest.raises(errors.NotFound, match="still told"):
        await client.call("get_entry", "board", 7)


async def test_staleness_is_a_kind_of_unavailable(client: Either, fake: Fake) -> None:
    """It is tried again like its parent, and told by its own name in the end."""
    fake.tell("GetEntry", *[refuse(StatusCode.UNAVAILABLE, "STALENESS", pushback="10")] * 4)

    with pytest.raises(errors.Staleness) as caught:
        await client.call("get_entry", "board", 7, max_staleness=timedelta(seconds=1))

    assert isinstance(caught.value, errors.Unavailable)
    assert len(fake.asked["GetEntry"]) == 4


def test_every_error_is_public() -> None:
    """Each class of the tree can be caught by its name in the package."""
    tree, found = [StandingsError], set()
    while tree:
        kind = tree.pop()
        found.add(kind.__name__)
        tree.extend(kind.__subclasses__())

    assert found <= set(standings_client.__all__)

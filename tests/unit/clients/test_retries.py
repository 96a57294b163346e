"""Which failures a call survives, how long it waits, and when it gives up."""

import uuid
from typing import Any

import pytest
from grpc import StatusCode

from standings_client import DeadlineExceeded, StandingsError, Unavailable
from tests.unit.clients.faces import Either, FakeTime
from tests.unit.clients.fake_server import Fake, refuse

pytestmark = pytest.mark.timeout(30)


def ids_of(fake: Fake) -> Any:
    """The ids under which the score was sent."""
    return [request.submission_id for request in fake.asked["SubmitScore"]]


async def test_a_retry_keeps_the_submission_id(
    client: Either, fake: Fake, fake_time: FakeTime
) -> None:
    """UNAVAILABLE and a drained server's CANCELLED are survived under one id of version 7."""
    fake.tell("SubmitScore", refuse(StatusCode.UNAVAILABLE), refuse(StatusCode.CANCELLED))

    result = await client.call("submit_score", "board", 7, 42)

    ids = ids_of(fake)
    assert ids == [result.submission_id] * 3
    assert uuid.UUID(ids[0]).version == 7
    assert fake_time.sleeps == [0.05, 0.1]


async def test_a_callers_own_id_is_sent_as_it_is(client: Either, fake: Fake) -> None:
    """The id of the caller is not replaced."""
    own = "01890a5d-ac96-774b-bcce-b302099a8057"

    await client.call("submit_score", "board", 7, 42, submission_id=own)

    assert ids_of(fake) == [own]


@pytest.mark.parametrize("code", [StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED])
@pytest.mark.parametrize("said", [{"pushback": "350"}, {"retry_s": 0.35}], ids=str)
async def test_the_servers_wish_is_the_wait(
    client: Either, fake: Fake, fake_time: FakeTime, code: StatusCode, said: Any
) -> None:
    """The pushback trailer and RetryInfo replace the client's own wait."""
    fake.tell("GetEntry", refuse(code, **said))

    await client.call("get_entry", "board", 7)

    assert fake_time.sleeps == [0.35]


async def test_the_trailer_wins_over_retry_info(
    client: Either, fake: Fake, fake_time: FakeTime
) -> None:
    """Where both are sent, the trailer counts."""
    fake.tell("GetEntry", refuse(StatusCode.UNAVAILABLE, pushback="20", retry_s=0.5))

    await client.call("get_entry", "board", 7)

    assert fake_time.sleeps == [0.02]


@pytest.mark.parametrize("pushback", ["-1", "soon", "", "1e3"])
async def test_a_refusing_pushback_ends_the_call(
    client: Either, fake: Fake, fake_time: FakeTime, pushback: str
) -> None:
    """A negative or unreadable pushback means: not again."""
    fake.tell("SubmitScore", refuse(StatusCode.UNAVAILABLE, pushback=pushback))

    with pytest.raises(Unavailable):
        await client.call("submit_score", "board", 7, 42)

    assert (len(ids_of(fake)), fake_time.sleeps) == (1, [])


@pytest.mark.parametrize(
    "code",
    [
        StatusCode.RESOURCE_EXHAUSTED,
        StatusCode.INTERNAL,
        StatusCode.ABORTED,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNKNOWN,
    ],
)
async def test_other_failures_are_told_at_once(
    client: Either, fake: Fake, code: StatusCode
) -> None:
    """Without pushback RESOURCE_EXHAUSTED is not retried, and nothing else is."""
    fake.tell("GetEntry", refuse(code))

    with pytest.raises(StandingsError) as caught:
        await client.call("get_entry", "board", 7)

    assert (caught.value.code, len(fake.asked["GetEntry"])) == (code, 1)


async def test_four_attempts_are_the_most(client: Either, fake: Fake, fake_time: FakeTime) -> None:
    """After the fourth failure the call ends with it."""
    fake.tell("GetEntry", *[refuse(StatusCode.UNAVAILABLE)] * 5)

    with pytest.raises(Unavailable):
        await client.call("get_entry", "board", 7)

    assert (len(fake.asked["GetEntry"]), fake_time.sleeps) == (4, [0.05, 0.1, 0.2])


async def test_no_wait_is_begun_that_outlasts_the_call(
    client: Either, fake: Fake, fake_time: FakeTime
) -> None:
    """A pushback beyond the call's time ends it at once instead of in vain later."""
    fake.tell("GetEntry", refuse(StatusCode.UNAVAILABLE, pushback="2000"))

    with pytest.raises(Unavailable):
        await client.call("get_entry", "board", 7)

    assert fake_time.sleeps == []


async def test_the_deadline_is_the_calls_and_shrinks(client: Either, fake: Fake) -> None:
    """Each attempt carries what is left of the call's 2 s."""
    fake.tell("GetEntry", refuse(StatusCode.UNAVAILABLE, pushback="1500"))

    await client.call("get_entry", "board", 7)

    first_s, second_s = fake.remaining_s["GetEntry"]
    assert 0.5 < first_s <= 2.01
    assert 0.0 < second_s <= 0.51


async def test_a_silent_server_is_left_in_time(client: Either, fake: Fake) -> None:
    """The call's own time ends the attempt, and the attempt ends the call."""
    fake.tell("GetEntry", fake.silence)

    with pytest.raises(DeadlineExceeded):
        await client.call("get_entry", "board", 7, timeout_s=0.2)

    assert len(fake.asked["GetEntry"]) <= 1


async def test_the_budget_ends_retries_in_an_outage(client: Either, fake: Fake) -> None:
    """Sixty failing calls in one moment cost ten retries and a tenth of the calls, no more."""
    fake.tell("GetEntry", *[refuse(StatusCode.UNAVAILABLE, pushback="0")] * 240)

    for _ in range(60):
        with pytest.raises(Unavailable):
            await client.call("get_entry", "board", 7)

    assert 60 + 10 <= len(fake.asked["GetEntry"]) <= 60 + 10 + 6


class TestAnIdInTheFuture:
    """The server refuses an id made by a clock that runs ahead."""

    SERVER_MS = 1_700_000_000_000

    def refusal(self) -> Any:
        """What the server says of such an id."""
        metadata = {"server_time_ms": str(self.SERVER_MS)}
        code = StatusCode.INVALID_ARGUMENT
        return refuse(code, "SUBMISSION_ID_IN_FUTURE", metadata=metadata)

    async def test_is_made_anew_by_the_servers_clock(
        self, client: Either, fake: Fake, fake_time: FakeTime
    ) -> None:
        """Refused when sent first: a new id of the server's time, also for later calls."""
        fake.tell("SubmitScore", self.refusal())

        await client.call("submit_score", "board", 7, 42)
        await client.call("submit_score", "board", 7, 43)

        times_ms = [uuid.UUID(one).int >> 80 for one in ids_of(fake)]
        assert times_ms == [fake_time.wall_ms, self.SERVER_MS, self.SERVER_MS]

    async def test_is_made_anew_only_at_the_first_attempt(self, client: Either, fake: Fake) -> None:
        """After a failed attempt the id may have been recorded: the error is told."""
        fake.tell("SubmitScore", refuse(StatusCode.UNAVAILABLE), self.refusal())

        with pytest.raises(StandingsError, match="SUBMISSION_ID_IN_FUTURE"):
            await client.call("submit_score", "board", 7, 42)

        assert len(set(ids_of(fake))) == 1

    async def test_is_made_anew_only_once(self, client: Either, fake: Fake) -> None:
        """A second refusal is told, since the clock was corrected already."""
        fake.tell("SubmitScore", self.refusal(), self.refusal())

        with pytest.raises(StandingsError, match="SUBMISSION_ID_IN_FUTURE"):
            await client.call("submit_score", "board", 7, 42)

        assert len(ids_of(fake)) == 2

    async def test_is_left_to_the_caller_who_made_it(self, client: Either, fake: Fake) -> None:
        """Whether the caller sent its own id before is not known here."""
        own = "01890a5d-ac96-774b-bcce-b302099a8057"
        fake.tell("SubmitScore", self.refusal())

        with pytest.raises(StandingsError, match="SUBMISSION_ID_IN_FUTURE"):
            await client.call("submit_score", "board", 7, 42, submission_id=own)

        assert ids_of(fake) == [own]

    async def test_too_old_is_never_made_anew(self, client: Either, fake: Fake) -> None:
        """An id that is too old may have been recorded long ago."""
        metadata = {"server_time_ms": str(self.SERVER_MS)}
        code = StatusCode.INVALID_ARGUMENT
        fake.tell("SubmitScore", refuse(code, "SUBMISSION_ID_TOO_OLD", metadata=metadata))

        with pytest.raises(StandingsError, match="SUBMISSION_ID_TOO_OLD"):
            await client.call("submit_score", "board", 7, 42)

        assert len(ids_of(fake)) == 1

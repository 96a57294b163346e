"""The floor answers, and says nothing else."""

from __future__ import annotations

from pathlib import Path

from bench.echo import Echoed, read_answers, routes_of, write_answers
from bench.processes import Stat, busy_of, family, stat_of
from server.rpc.call import CallContext

ANSWERS = [Echoed("/a", b"\1", b"one"), Echoed("/a", b"\2", b"two"), Echoed("/b", b"", b"\xff")]


def test_answers_survive_their_file(tmp_path: Path) -> None:
    """Whatever bytes they are."""
    write_answers(tmp_path / "answers", ANSWERS)

    assert read_answers(tmp_path / "answers") == ANSWERS


async def test_known_requests_have_answers_of_their_own() -> None:
    """Any other gets the first of its method."""
    routes = routes_of(ANSWERS)
    call = CallContext(None, {}, lambda: "")

    assert set(routes) == {"/a", "/b"}
    assert [b"one", b"two", b"one"] == [
        await routes["/a"].handler(request, call) for request in (b"\1", b"\2", b"\3")
    ]


def test_families_are_found() -> None:
    """All that descends from a process, and nobody else."""
    stats = {1: Stat(0, 1), 2: Stat(1, 1), 3: Stat(2, 1), 4: Stat(0, 1), 5: Stat(4, 1)}

    assert sorted(family([1], stats)) == [1, 2, 3]
    assert sorted(family([4, 9], stats)) == [4, 5]


def test_processor_time_of_a_line() -> None:
    """Names may hold blanks and parentheses; the time of ended children counts."""
    stat = stat_of("7 (a) b) (c) S 3 7 7 0 -1 0 0 0 0 0 100 50 30 20 20 0 1 0 9 0 0")

    assert stat.parent == 3
    assert stat.cpu_s > 0


def test_a_machine_is_busy_with_all_but_waiting() -> None:
    """Idle time and waiting for disks are left out, what the host stole is not."""
    one = busy_of("cpu  100 0 0 0 0 0 0 0 0 0")

    assert one > 0
    assert round(busy_of("cpu  100 10 20 999 999 5 5 60 7 7") / one, 6) == 2

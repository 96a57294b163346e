"""Token buckets: against an oracle in exact numbers, and shared by processes."""

from __future__ import annotations

import mmap
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.limits.buckets import Bucket, SharedTimes

STEP_S = Fraction(1, 1024)
"""Binary, so that the clock's floats are exact."""


@dataclass
class Oracle:
    """A bucket that is filled, in exact numbers; it may owe."""

    rate: int
    burst: int
    now_s: Fraction = Fraction(10_000)
    tokens: Fraction = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = Fraction(self.burst)

    def pass_time(self, seconds: Fraction) -> None:
        """Fills it."""
        self.now_s += seconds
        self.tokens = min(Fraction(self.burst), self.tokens + seconds * self.rate)


def _shared(oracle: Oracle) -> SharedTimes:
    shared = SharedTimes.open(None)
    shared.clock = lambda: float(oracle.now_s)
    return shared


calls = st.lists(
    st.tuples(st.integers(0, 3000), st.integers(1, 1_000)),  # steps of time before it, its cost
    max_size=200,
)


@settings(deadline=None)
@given(rate=st.integers(1, 5_000), burst=st.integers(1, 5_000), calls=calls)
def test_it_admits_what_the_oracle_admits(
    rate: int, burst: int, calls: list[tuple[int, int]]
) -> None:
    """A call begins if, and only if, there is a token; what is admitted in any window is within the
    burst and the rate, and the last call's debt.
    """
    oracle = Oracle(rate, burst)
    bucket = Bucket(_shared(oracle), "somebody", rate_per_s=rate, burst=burst)
    admitted: list[tuple[Fraction, int]] = []
    for steps, cost in calls:
        oracle.pass_time(steps * STEP_S)
        wait_s = bucket.take()
        if abs(oracle.tokens - 1) > Fraction(1, 1_000):  # closer than floats can tell
            assert (wait_s == 0) == (oracle.tokens >= 1)
        if wait_s == 0:
            bucket.owe(cost - 1)
            oracle.tokens -= cost
            admitted.append((oracle.now_s, cost))
        else:
            assert wait_s == pytest.approx(float((1 - oracle.tokens) / rate), abs=1e-4)
    for first, (from_s, _) in enumerate(admitted):
        taken = 0
        for to_s, cost in admitted[first:]:
            # Before the last call of a window there was a token left.
            assert taken + 1 <= burst + rate * (to_s - from_s) + Fraction(1, 1_000)
            taken += cost


@settings(deadline=None)
@given(rate=st.integers(1, 5_000), burst=st.integers(1, 500))
def test_after_the_wait_that_it_tells_there_is_a_token(rate: int, burst: int) -> None:
    """Whoever comes back when told to is let in."""
    oracle = Oracle(rate, burst)
    bucket = Bucket(_shared(oracle), "somebody", rate_per_s=rate, burst=burst)
    bucket.owe(burst * 3)
    wait_s = bucket.take()
    assert wait_s > 0
    assert bucket.wait_s() == wait_s

    oracle.pass_time(Fraction(wait_s) + Fraction(1, 1_000_000))

    assert bucket.wait_s() == 0
    assert bucket.take() == 0


def test_made_up_names_take_no_more_memory_and_nobody_s_debt() -> None:
    """100,000 callers that come once fit into what there is, and who owes much goes on owing."""
    oracle = Oracle(1, 1)
    shared = _shared(oracle)
    owing = Bucket(shared, "owing", rate_per_s=1, burst=10)
    owing.owe(1_000)
    for number in range(100_000):
        oracle.pass_time(STEP_S)
        assert Bucket(shared, f"guest {number}", rate_per_s=100, burst=1).take() == 0

    assert owing.take() > 800


def test_the_workers_of_a_machine_share_it(tmp_path: Path) -> None:
    """What another process has taken is gone here."""
    path = tmp_path / "limits"
    bucket = Bucket(SharedTimes.open(path), "eu1", rate_per_s=1, burst=100)
    assert [bucket.take() for _ in range(60)] == [0.0] * 60
    other = (
        "import sys; from pathlib import Path;"
        "from server.limits.buckets import Bucket, SharedTimes;"
        "bucket = Bucket(SharedTimes.open(Path(sys.argv[1])), 'eu1', rate_per_s=1, burst=100);"
        "print(sum(bucket.take() == 0 for _ in range(60)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", other, path], capture_output=True, check=True, text=True
    )

    assert 40 <= int(done.stdout) <= 50  # a token a second comes meanwhile
    assert bucket.take() > 0


def test_who_starts_together_has_the_same(tmp_path: Path) -> None:
    """None finds a file that another has not written yet, nor one that is written once more."""

    def spend(path: Path) -> float:
        bucket = Bucket(SharedTimes.open(path), "eu1", rate_per_s=1, burst=1)
        start.wait()
        bucket.owe(100)
        return bucket.take()

    start = threading.Barrier(4, timeout=10)
    with ThreadPoolExecutor(4) as workers:
        for number in range(100):
            assert min(workers.map(spend, [tmp_path / f"{number}"] * 4)) > 0


def test_a_machine_that_was_started_anew_forgets(tmp_path: Path) -> None:
    """Times of a clock that ran longer than today's would shut callers out for long."""
    path = tmp_path / "limits"
    path.write_bytes(b"")
    before = SharedTimes.open(path)
    before.clock = lambda: time.monotonic() + 1_000_000
    Bucket(before, "eu1", rate_per_s=1, burst=5).owe(100)

    assert Bucket(SharedTimes.open(path), "eu1", rate_per_s=1, burst=5).take() == 0


def test_without_the_file_each_worker_counts_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A directory that cannot be written stops no start."""
    bucket = Bucket(SharedTimes.open(tmp_path / "absent" / "x"), "eu1", rate_per_s=1, burst=1)

    assert bucket.take() == 0
    assert bucket.take() > 0
    assert "limits are kept by each worker alone" in caplog.messages


def test_memory_of_another_is_as_long() -> None:
    """The layout fits the map that is made for it."""
    assert isinstance(SharedTimes.open(None).times, memoryview)
    assert SharedTimes.open(None).times.nbytes % mmap.PAGESIZE == 16

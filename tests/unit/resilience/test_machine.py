"""The file that the workers of a machine share."""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resilience import machine_layout
from resilience.breakers import Breakers
from resilience.faults import Fault, FaultKind
from resilience.machine import CLEARED, MachineBusy, MachineFile
from resilience.machine_lines import SILENCE_MAX_NS, Reading, WorkerLine
from resilience.machine_slots import COPY_BYTES, SLOT_BYTES, Setting, Slot
from resilience.machine_worker import MachineWorker
from resilience.overrides import Mode

NAMES = ("postgres/read", "postgres/write", "redis", "redis/shard-00")
NAME = "redis/shard-00"


def forced(kind: int = Mode.FORCED_OPEN, *, ttl_s: float = 60, set_time_ms: int = 1) -> Setting:
    """A setting that begins now."""
    return Setting(
        kind=kind,
        expire_ns=time.monotonic_ns() + int(ttl_s * 1e9),
        expire_time_ms=1_700_000_000_000,
        set_time_ms=set_time_ms,
        machine=7,
        reason="they are moving it",
        actor="ops",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the file is going to be."""
    return tmp_path / "state"


@pytest.fixture
def file(folder: Path) -> Iterator[MachineFile]:
    """A file of a new machine."""
    opened = MachineFile(folder, NAMES)
    yield opened
    opened.close()


def test_nothing_is_set_at_first(file: MachineFile) -> None:
    """Every name, also an unknown one, is AUTO and without fault."""
    assert {file.mode(name) for name in (*NAMES, "unknown")} == {Mode.AUTO}
    assert {file.fault(name) for name in (*NAMES, "unknown")} == {None}
    assert file.overrides() == file.faults() == {}


def test_others_see_what_one_sets(file: MachineFile, folder: Path) -> None:
    """A second opener reads a mode at once, with its words; each change counts."""
    other = MachineFile(folder, NAMES)
    generation = file.set_overrides({NAME: forced()})

    assert (Mode.FORCED_OPEN, Mode.AUTO) == (other.mode(NAME), other.mode("redis"))
    assert (other.overrides()[NAME].reason, other.overrides()[NAME].actor) == (
        "they are moving it",
        "ops",
    )
    assert generation == other.generation == file.set_overrides({NAME: forced(Mode.AUTO)}) - 1
    assert other.mode(NAME) is Mode.AUTO
    other.close()


def test_a_fault_is_read_as_it_was_set(file: MachineFile) -> None:
    """Kind, probability and latency come through; clearing ends it."""
    file.set_faults(
        {NAME: Setting(FaultKind.LATENCY, forced().expire_ns, 0, 1, 7, "r", "a", 0.25, 40)}
    )

    assert file.fault(NAME) == Fault(FaultKind.LATENCY, 0.25, 40)
    file.set_faults({NAME: forced(CLEARED)})
    assert file.fault(NAME) is None


def test_the_monotonic_clock_ends_a_mode(file: MachineFile) -> None:
    """It ends at its ttl to the tenth of a second, though nobody writes."""
    began_s = time.monotonic()
    file.set_overrides({NAME: forced(ttl_s=0.3)})
    while file.mode(NAME) is Mode.FORCED_OPEN:
        assert time.monotonic() - began_s < 1

    assert time.monotonic() - began_s == pytest.approx(0.3, abs=0.1)
    assert file.overrides() == {}


def test_a_mode_of_a_clock_that_is_not_ours_is_none(file: MachineFile) -> None:
    """What would end later than any may was written in another boot."""
    file.set_overrides({NAME: forced(ttl_s=24 * 3600)})
    assert file.mode(NAME) is Mode.FORCED_OPEN
    file.set_overrides({NAME: forced(ttl_s=25 * 3600)})

    assert file.mode(NAME) is Mode.AUTO


def test_texts_that_are_too_long_lose_their_end(file: MachineFile) -> None:
    """200 characters of any kind fit; nothing is cut in the middle of one."""
    whole = "\U0001f600" * 200
    setting = forced()
    file.set_overrides({NAME: Setting(**{**_fields(setting), "reason": whole})})
    assert file.overrides()[NAME].reason == whole
    file.set_overrides({NAME: Setting(**{**_fields(setting), "actor": "ä" * 200})})

    assert file.overrides()[NAME].actor == "ä" * 128


def _fields(setting: Setting) -> dict[str, object]:
    return {name: getattr(setting, name) for name in Setting.__slots__}


def test_a_newer_setting_of_another_machine_wins(file: MachineFile) -> None:
    """Merged is what is newer by time, then by machine; what an operator sets here is always."""
    file.set_overrides({NAME: forced(set_time_ms=100)})
    ours = file.overrides()[NAME]
    older = Setting(**{**_fields(forced(Mode.FORCED_CLOSED)), "set_time_ms": 99, "machine": 9})
    tie = Setting(**{**_fields(forced(Mode.FORCED_CLOSED)), "set_time_ms": 100, "machine": 8})

    assert (file.merge_overrides({NAME: older}), file.overrides()[NAME]) == ([], ours)
    assert (file.merge_overrides({NAME: tie, "unknown": tie}), file.mode(NAME)) == (
        [NAME],
        Mode.FORCED_CLOSED,
    )
    file.set_overrides({NAME: forced(set_time_ms=5)})
    assert (file.mode(NAME), file.overrides()[NAME].set_time_ms) == (Mode.FORCED_OPEN, 101)


@pytest.mark.parametrize("damage", ["layout", "version", "boot", "header", "size"])
def test_a_file_that_is_not_ours_is_made_anew(
    file: MachineFile, folder: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another layout, version or boot, or a damaged file: ignored; who has it keeps it."""
    file.set_overrides({NAME: forced()})
    names = NAMES
    if damage == "layout":
        names = (*NAMES[:-1], "redis/shard-01")
    elif damage == "version":
        monkeypatch.setattr(machine_layout, "_FORMAT", 2)
    elif damage == "boot":
        monkeypatch.setattr(machine_layout, "_boot_id", lambda: b"another boot, 16")
    else:
        content = bytearray((folder / "machine").read_bytes())
        content[10] ^= 1
        os.truncate(folder / "machine", 0)
        (folder / "machine").write_bytes(content if damage == "header" else content[:-8])
    other = MachineFile(folder, names)

    assert {other.mode(name) for name in names} == {Mode.AUTO}
    assert other.set_overrides({names[0]: forced()}) == 1
    other.close()


def test_the_file_is_for_its_owner_alone(file: MachineFile, folder: Path) -> None:
    """0600 in 0700, the lock, too."""
    modes = [path.stat().st_mode & 0o777 for path in (folder, *sorted(folder.iterdir()))]

    assert modes == [0o700, 0o600, 0o600]


def test_a_restarted_worker_finds_what_was_set(file: MachineFile, folder: Path) -> None:
    """It is there after all that had the file are gone."""
    file.set_overrides({NAME: forced()})
    machine = file.machine
    file.close()
    again = MachineFile(folder, NAMES)

    assert (machine, Mode.FORCED_OPEN) == (again.machine, again.mode(NAME))
    again.close()


def test_a_change_that_was_not_counted_is_seen_all_the_same(
    file: MachineFile, folder: Path
) -> None:
    """A writer that died before it could count its change has made it."""
    writer = MachineFile(folder, NAMES)
    writer._override_slots[NAME].write(forced())
    assert file.mode(NAME) is Mode.AUTO
    MachineWorker(file, Breakers({}, rng=Random(1))).tick()

    assert file.mode(NAME) is Mode.FORCED_OPEN
    writer.close()


def test_a_torn_write_leaves_the_setting_before(file: MachineFile) -> None:
    """Wherever a write stops, the slot holds the old setting or the new one."""
    slot = file._override_slots[NAME]
    file.set_overrides({NAME: forced()})
    start, end = slot._at, slot._at + SLOT_BYTES
    before = file._file[start:end]
    slot.write(forced(Mode.FORCED_CLOSED))
    after = file._file[start:end]
    seen = set()
    for torn_at in range(0, COPY_BYTES + 1, 7):
        for copy in (0, COPY_BYTES):
            cut = copy + torn_at
            file._file[start:end] = before[:copy] + after[copy:cut] + before[cut:]
            setting = slot.read()
            assert setting is not None
            seen.add(Mode(setting.kind))

    assert seen == {Mode.FORCED_OPEN, Mode.FORCED_CLOSED}


def test_who_waits_for_a_frozen_writer_is_told(file: MachineFile, folder: Path) -> None:
    """A lock that is not let go costs 20 ms, and nothing is written."""
    other = MachineFile(folder, NAMES)
    with other._locked(1), pytest.raises(MachineBusy):
        file.set_overrides({NAME: forced()})

    assert file.mode(NAME) is Mode.AUTO
    other.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), amount=st.integers(1, 400))
def test_random_bytes_are_never_an_invalid_mode(tmp_path: Path, seed: int, amount: int) -> None:
    """Whatever stands in the file behind its header, reading gives modes, faults and lines, and
    writing works again.
    """
    random = Random(seed)
    file = MachineFile(tmp_path / "random", NAMES)
    size = len(file._file)
    for _ in range(amount):
        at = random.randrange(machine_layout._HEAD.size + 4, size)
        length = random.choice((1, 8, 100, 1300))
        file._file[at : at + length] = random.randbytes(min(length, size - at))
    file.refresh()

    assert {file.mode(name) for name in NAMES} <= set(Mode)
    assert all(file.fault(name) is None or file.fault(name) for name in NAMES)
    file.workers()
    file.set_overrides({name: forced(Mode.FORCED_CLOSED) for name in NAMES})
    assert {file.mode(name) for name in NAMES} == {Mode.FORCED_CLOSED}
    file.close()


@settings(max_examples=200)
@given(
    fields=st.tuples(
        st.integers(0, 2**64 - 1) | st.integers(0, 9),
        st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 2, 3]),
        st.integers(0, 2**32 - 1),
        st.floats(),
        st.integers(-(2**63), 2**63 - 1),
        st.integers(-(2**63), 2**63 - 1),
        st.integers(-(2**63), 2**63 - 1),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**16 - 1),
        st.integers(0, 2**16 - 1),
    ),
    texts=st.binary(max_size=1200),
)
def test_a_right_checksum_is_not_enough(fields: tuple[int, ...], texts: bytes) -> None:
    """What has a checksum and no sense is nothing, and can be written over."""
    content = (struct.pack("<QIIdqqqQHH", *fields) + texts).ljust(COPY_BYTES - 4, b"\0")
    content = content[: COPY_BYTES - 4]
    raw = bytearray(2 * SLOT_BYTES)
    raw[:COPY_BYTES] = struct.pack("<I", zlib.crc32(content)) + content
    slot = Slot(raw, 0, tuple(Mode))  # type: ignore[arg-type]
    read = slot.read()

    assert read is None or (Mode(read.kind) and 0 < read.probability <= 1)
    setting = forced()
    slot.write(setting)
    slot.write(setting)
    assert slot.read() == setting


def test_lines_of_workers_come_and_go(file: MachineFile) -> None:
    """A worker's line is there while it runs; one that is gone or silent is not."""
    reading = Reading(2, 0.5, 0.25, 123)
    assert file.claim(3) == 3
    file.say(3, 9, {NAME: reading})
    (line,) = file.workers()

    assert (line.worker, line.pid, line.seen, line.readings[NAME]) == (3, os.getpid(), 9, reading)
    assert line.readings["redis"] == Reading(1, 0, 0, 0)
    now_ns = time.monotonic_ns()
    assert file._lines.live(now_ns + SILENCE_MAX_NS + 10**9) == []
    file._lines.write(WorkerLine(4, os.getpid(), line.started + 1, 9, now_ns, {}))
    file._lines.write(WorkerLine(5, 2**22 + 5, 0, 9, now_ns, {}))
    assert [line.worker for line in file.workers()] == [3]
    file.leave(3)
    assert file.workers() == []


def test_a_line_that_is_being_written_is_told_as_it_was(file: MachineFile) -> None:
    """A torn line stands for the one before."""
    file.claim(0)
    file.say(0, 5, {})
    assert [line.seen for line in file.workers()] == [5]
    start = file._lines._at
    file._file[start + 8 : start + 12] = b"torn"

    assert [line.seen for line in file.workers()] == [5]


def test_reading_is_cheap(file: MachineFile) -> None:
    """A read costs less than a microsecond; the bound leaves room for a busy machine."""
    file.set_overrides({NAME: forced()})
    best_s = min(_read_s(file, NAME) for _ in range(20))

    assert best_s < 2e-6


def _read_s(file: MachineFile, name: str) -> float:
    mode = file.mode
    began_s = time.perf_counter()
    for _ in range(1000):
        mode(name)
    return (time.perf_counter() - began_s) / 1000

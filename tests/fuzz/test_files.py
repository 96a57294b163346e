"""Files that were damaged: the machine's, and the audit's."""

from __future__ import annotations

import os
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from grpc import StatusCode
from hypothesis import given

from bootstrap.audit_files import AuditFiles, audit_files
from core.audit_lines import Action, parse_line
from core.audit_ports import AuditFilter
from core.clock import SystemClock
from core.errors import AuditBroken
from core.verify_audit import Walk
from resilience.faults import FaultKind
from resilience.machine import FILE_NAME, MachineFile
from resilience.machine_lines import WORKERS_MAX, Reading, WorkerLine, line_bytes, start_of
from resilience.machine_slots import COPY_BYTES, Setting
from resilience.overrides import Mode
from server.rpc.status import RpcFailure
from standings.v1 import admin_service_pb2 as pb
from tests.fuzz.choices import BYTES, Choices, budget, mutated
from tests.fuzz.routes import answers_of, routes_of
from tests.unit.server.fakes import BREAKERS, Fakes

ADMIN = "/standings.v1.AdminService/"
HEADER_BYTES = 192
FORCED = BREAKERS[3]
OPEN_LINE = Reading(2, 0.5, 0.25, 10**9)


def setting(kind: int) -> Setting:
    """In force for a minute."""
    return Setting(
        kind=kind,
        expire_ns=time.monotonic_ns() + 60 * 10**9,
        expire_time_ms=1_700_000_060_000,
        set_time_ms=1_700_000_000_000,
        machine=7,
        reason="a good reason ü",
        actor="alex",
        probability=0.5,
        latency_ms=20,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, bytes]]:
    """A machine's file in which something is set and a worker has its line; and its bytes."""
    folder = tmp_path_factory.mktemp("machine")
    file = MachineFile(folder, BREAKERS)
    file.set_overrides({FORCED: setting(Mode.FORCED_CLOSED)})
    file.set_overrides({FORCED: setting(Mode.FORCED_OPEN), "redis": setting(Mode.FORCED_CLOSED)})
    file.set_faults({FORCED: setting(FaultKind.LATENCY)})
    file.claim(0)
    pid = os.getppid()
    file._lines.write(
        WorkerLine(5, pid, start_of(pid) or 0, 1, time.monotonic_ns(), {FORCED: OPEN_LINE})
    )
    yield folder, (folder / FILE_NAME).read_bytes()
    file.close()


def spans() -> list[tuple[int, int]]:
    """All that a checksum stands before, as (start, end)."""
    lines_at = HEADER_BYTES + 4 * len(BREAKERS) * COPY_BYTES
    copies = [(at, at + COPY_BYTES) for at in range(HEADER_BYTES, lines_at, COPY_BYTES)]
    used = line_bytes(len(BREAKERS)) // 8 * 8
    lines = [(lines_at + place * used, lines_at + (place + 1) * used) for place in (0, 5)]
    return copies + lines


def forged(data: bytes, choices: Choices) -> bytes:
    """A damaged file whose checksums are right where it was damaged, if the dice say so."""
    raw = bytearray(data)
    for _ in range(1 + choices.below(3)):
        start, end = choices.one_of(spans())
        at = start + 4 + choices.below(min(80, end - start - 4))
        raw[at : at + 8] = (choices.some_bytes(8) or b"\xff" * 8)[: end - at].ljust(
            min(8, end - at), b"\0"
        )
        if end - start == COPY_BYTES:
            raw[start : start + 4] = zlib.crc32(raw[start + 4 : end]).to_bytes(4, "little")
        else:
            used = 4 + 28 + len(BREAKERS) * 17
            content = raw[start + 4 : start + used]
            raw[start : start + 4] = zlib.crc32(content).to_bytes(4, "little")
    return bytes(raw)


def damaged(data: bytes, choices: Choices) -> bytes:
    """A file of the same size with some bytes changed, at random or where something is."""
    raw = bytearray(data)
    for _ in range(1 + choices.below(4)):
        start, end = choices.one_of([(0, HEADER_BYTES), (0, len(raw)), *spans()])
        at = start + choices.below(end - start)
        new = choices.some_bytes(64) or b"\0"
        raw[at : at + len(new)] = new[: len(raw) - at]
    return bytes(raw)


def read_everything(file: MachineFile) -> None:
    """All that the rest of the program asks of it, looked at for sense."""
    file.refresh()
    for name in BREAKERS:
        assert file.mode(name) in Mode
        fault = file.fault(name)
        assert fault is None or (fault.kind in FaultKind and 0 < fault.probability <= 1)
    for found in (*file.overrides_set().values(), *file.faults().values()):
        assert len(found.reason) <= 800
    assert len(file.workers()) <= WORKERS_MAX


@budget(400)
@given(data=BYTES)
def test_what_is_damaged_is_never_believed(whole: tuple[Path, bytes], data: bytes) -> None:
    """Under a reader that has the file open: what it tells was set at some time, to the letter, or
    it tells nothing.
    """
    folder, good = whole
    with (folder / FILE_NAME).open("r+b") as raw:
        raw.write(good)
        raw.flush()
        file = MachineFile(folder, BREAKERS)
        known = {name: {found.kind} for name, found in file.overrides_set().items()}
        known[FORCED].add(Mode.FORCED_CLOSED)
        raw.seek(0)
        raw.write(damaged(good, Choices(data)))
        raw.flush()
        try:
            read_everything(file)
            for name, found in file.overrides_set().items():
                assert found.kind in known[name]
                assert (found.reason, found.actor) == ("a good reason ü", "alex")
            for name in file.faults():
                assert name == FORCED
        finally:
            file.close()
            raw.seek(0)
            raw.write(good)


@pytest.mark.parametrize("state", [0, 255])
async def test_a_worker_in_no_state_is_not_there(tmp_path: Path, state: int) -> None:
    """Also where its line is as whole as any: operators see the other workers."""
    file = MachineFile(tmp_path, BREAKERS)
    pid, now_ns = os.getppid(), time.monotonic_ns()
    for worker, reading in ((5, OPEN_LINE), (6, OPEN_LINE._replace(state=state))):
        line = WorkerLine(worker, pid, start_of(pid) or 0, 1, now_ns, {FORCED: reading})
        file._lines.write(line)
    (answer,) = await answers_of(routes_of(Fakes().use_cases(file))[ADMIN + "ListBreakers"], [b""])
    file.close()

    assert isinstance(answer, bytes)
    breakers = pb.ListBreakersResponse.FromString(answer).breakers
    assert {line.worker for breaker in breakers for line in breaker.workers} == {5}


@budget(150)
@given(data=BYTES)
async def test_what_was_forged_is_no_crash(
    whole: tuple[Path, bytes], tmp_path: Path, data: bytes
) -> None:
    """With checksums that are right, found at a start or under a reader: levers answer, and
    operators see a table.
    """
    choices = Choices(data)
    shutil.rmtree(tmp_path / "state", ignore_errors=True)
    (tmp_path / "state").mkdir()
    changed = (forged if choices.below(2) else damaged)(whole[1], choices)
    cut = choices.below(len(changed)) if choices.chance(8) else len(changed)
    (tmp_path / "state" / FILE_NAME).write_bytes(changed[:cut])
    file = MachineFile(tmp_path / "state", BREAKERS)
    try:
        read_everything(file)
        routes = routes_of(Fakes().use_cases(file))
        for name, request in (
            ("ListBreakers", pb.ListBreakersRequest()),
            ("ListFaults", pb.ListFaultsRequest()),
            ("ClearFaults", pb.ClearFaultsRequest()),
            ("SetBreaker", pb.SetBreakerRequest(name="*", mode=1, reason="a good reason")),
        ):
            route = routes[ADMIN + name]
            (answer,) = await answers_of(route, [request.SerializeToString()])
            if isinstance(answer, RpcFailure):
                assert answer.code is not StatusCode.INTERNAL, answer.error
            else:
                route.method.response_type.FromString(answer)
    finally:
        file.close()


@budget(150)
@given(data=BYTES)
async def test_a_damaged_audit_is_told(tmp_path: Path, data: bytes) -> None:
    """Whatever became of its file: it is read without a crash, what is written on goes on from its
    last line or is refused, and a walk finds every change but that of the end.
    """
    choices = Choices(data)
    folder = tmp_path / "audit"
    shutil.rmtree(folder, ignore_errors=True)
    files = AuditFiles(folder, SystemClock(), file_bytes_max=700 + 400 * choices.below(4))
    for number in range(6):
        await files.begin(Action("s/M", f"user/{number}"))
    written = {line.sequence: line.hash for line in await files.lines_after(0, limit=100)}
    path = choices.one_of(audit_files(folder))
    path.write_bytes(mutated(path.read_bytes(), choices))

    await files.page(AuditFilter(), before=None, limit=100)
    await files.lines_after(0, limit=100)
    with suppress(AuditBroken):
        await files.begin(Action("s/M", "after"))
    walk, lines = Walk(), []
    for each in audit_files(folder):
        for raw in each.read_bytes().splitlines(keepends=True):
            walk.step(raw.rstrip(b"\n"), each.name, ended=raw.endswith(b"\n"))
            lines.append(parse_line(raw.rstrip(b"\n")))
    if len(walk.chains) == 1 and all(chain.whole for chain in walk.chains.values()):
        told = [(line.sequence, line.hash) for line in lines if line is not None]
        old = [line for line in told if written.get(line[0]) == line[1]]
        # The old ones without a gap, then at most what was torn and what was written last.
        assert told[: len(old)] == old
        assert len(told) - len(old) <= 2

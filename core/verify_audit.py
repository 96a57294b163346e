"""Walks the chains of the audit, and names the first link of each that does not hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from core.audit_lines import GENESIS, LineKind, parse_line
from core.audit_ports import AuditArchive

_LINES_A_READ: Final = 1_000


class Fault(StrEnum):
    """What is wrong with a link."""

    EDITED = "was edited"
    REMOVED = "is not there: lines were removed"
    REORDERED = "stands in another place, or twice"
    EXCHANGED = "was written after another line than the one before it"
    DIFFERENT = "is not what PostgreSQL has"
    TRUNCATED = "is not there: PostgreSQL has it"
    TORN = "was begun and not ended; the next line will tell it"
    """The only one that is nobody's doing, and no break."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A link that does not hold: which line, where, and what is wrong with it."""

    chain: str
    sequence: int
    place: str
    fault: Fault

    def __str__(self) -> str:
        return f"{self.place}: line {self.sequence} of chain {self.chain} {self.fault}"


@dataclass(slots=True)
class Chain:
    """What was walked through of a chain: from `first` to `last`, with the hash of each line.
    `open_actions` are the numbers of those of which it is not known what became of them.
    """

    name: str
    first: int = 0
    last: int = 0
    hashes: dict[int, str] = field(default_factory=dict)
    open_actions: set[int] = field(default_factory=set)
    broken: Finding | None = None
    torn: Finding | None = None

    @property
    def whole(self) -> bool:
        """Whether every link holds, as far as lines were given."""
        return self.broken is None


class Walk:
    """Takes lines in, in the order in which they were written, and follows their chains. Behind the
    first link of a chain that does not hold nothing is said of it.
    """

    def __init__(self) -> None:
        self._chains: dict[str, Chain] = {}
        self._current = ""

    def step(self, data: bytes, place: str, *, ended: bool = True, source: str = "") -> None:
        """The next line, without its end; `ended`: it had one. `source` names the chain that it was
        found in, where that is known without it.
        """
        line = parse_line(data)
        self._current = source or (line.chain if line else self._current)
        chain = self._chains.setdefault(self._current, Chain(self._current))
        if chain.broken is not None:
            if line is not None and line.sequence == chain.broken.sequence:
                chain.broken = _found_again(chain.broken)
            return
        if not ended:
            chain.torn = Finding(chain.name, chain.last + 1, place, Fault.TORN)
            return
        if line is None or line.chain != chain.name:
            chain.broken = Finding(chain.name, chain.last + 1, place, Fault.EDITED)
            return
        fault = _fault(chain, line.sequence, line.previous)
        if fault is not None:
            missing = fault is Fault.REMOVED
            at = chain.last + 1 if missing else line.sequence
            chain.broken = Finding(chain.name, at, place, fault)
            return
        chain.first = chain.first or line.sequence
        chain.last = line.sequence
        chain.hashes[line.sequence] = line.hash
        if line.kind is LineKind.ACTION:
            chain.open_actions.add(line.sequence)
        elif line.kind is LineKind.OUTCOME:
            chain.open_actions.discard(line.content["action"])

    @property
    def chains(self) -> Mapping[str, Chain]:
        """What was walked through so far, by name."""
        return self._chains


def _found_again(broken: Finding) -> Finding:
    """What is said of a line that was missed in its place, and turns up in another one."""
    if broken.fault is not Fault.REMOVED:
        return broken
    return replace(broken, fault=Fault.REORDERED)


def _fault(chain: Chain, sequence: int, previous: str) -> Fault | None:
    """What is wrong with the number and the link of the next line, if anything. The first one that
    is given need not be the first of the chain: older files may have been put away.
    """
    if not chain.last:
        return Fault.EXCHANGED if (sequence == 1) is not (previous == GENESIS) else None
    if sequence <= chain.last:
        return Fault.REORDERED
    if sequence > chain.last + 1:
        return Fault.REMOVED
    return Fault.EXCHANGED if previous != chain.hashes[chain.last] else None


def compare(files: Mapping[str, Chain], database: Mapping[str, Chain]) -> Iterable[Finding]:
    """Where the lines of a machine's files differ from PostgreSQL's, the first of each chain. What
    PostgreSQL lacks at the end is not yet there, and no difference.
    """
    for name, ours in files.items():
        theirs = database.get(name)
        if theirs is None:
            continue
        for sequence in range(max(ours.first, theirs.first), ours.last + 1):
            if ours.hashes[sequence] != theirs.hashes.get(sequence, ours.hashes[sequence]):
                yield Finding(name, sequence, "files", Fault.DIFFERENT)
                break
        else:
            if ours.whole and theirs.last > ours.last:
                yield Finding(name, ours.last + 1, "files", Fault.TRUNCATED)


async def walk_archive(archive: AuditArchive) -> Mapping[str, Chain]:
    """All chains as PostgreSQL has them. Raises LedgerUnavailable."""
    walk = Walk()
    for head in await archive.heads():
        after = 0
        while lines := await archive.lines(head.chain, after=after, limit=_LINES_A_READ):
            for _, data in lines:
                walk.step(data, "database", source=head.chain)
            after, _ = lines[-1]
    return walk.chains

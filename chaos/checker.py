"""Whether the promises held: a pure function of a history and of what both stores hold after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from chaos.answers import check_answers
from chaos.conduct import (
    check_errors,
    check_overrides,
    check_probes,
    check_retries,
    check_times,
)
from chaos.history import History
from chaos.stores import Found
from chaos.verdicts import Breach, Harm, Invariant
from chaos.writes import Submissions, check_convergence, check_writes, timeline_of


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that was found; nothing, where all promises held."""

    breaches: Sequence[Breach]

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.breaches

    def count(self, harm: Harm) -> int:
        """How often something of a kind was found."""
        return sum(1 for breach in self.breaches if breach.harm is harm)

    def invariants(self) -> Collection[Invariant]:
        """What was broken."""
        return {breach.invariant for breach in self.breaches}

    def summary(self, per_invariant_max: int = 3) -> Sequence[str]:
        """A few examples of each."""
        seen: Counter[Invariant] = Counter()
        lines = []
        for breach in self.breaches:
            seen[breach.invariant] += 1
            if seen[breach.invariant] <= per_invariant_max:
                lines.append(f"{breach.invariant.value} {breach.text}")
        lines += [
            f"{invariant.value} {count - per_invariant_max} more"
            for invariant, count in seen.items()
            if count > per_invariant_max
        ]
        return lines


def check(history: History, boards: Sequence[Found], *, also_told: Collection[str] = ()) -> Verdict:
    """Holds a history against the stores. `also_told`: codes that this kind of trouble may be told
    as beside the usual ones. Cost: some seconds of one core for a minute of load.
    """
    breaches: list[Breach] = []
    for found in boards:
        submissions = Submissions(history, found.board)
        breaches += check_writes(found, submissions)
        breaches += check_convergence(found)
        breaches += check_answers(history, found.board, timeline_of(found, submissions, history))
    breaches += check_errors(history, also_told)
    breaches += check_times(history)
    breaches += check_overrides(history)
    breaches += check_probes(history)
    breaches += check_retries(history)
    return Verdict(breaches)

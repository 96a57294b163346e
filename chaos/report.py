"""What a run leaves behind: a page for people and the same for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chaos.matrix import Result
from chaos.verdicts import Harm

_HEAD: Final = (
    "| # | broken | calls | errors | sources | reads | writes | degrade s | heal s | equal s |"
    " p99 ms | lost | doubled | wrong | verdict |"
)
_RULE: Final = "|" + "---|" * _HEAD.count(" | ") + "---|"


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run: what it ran on, and its rows."""

    about: Mapping[str, str]
    results: Sequence[Result]

    @property
    def passed(self) -> bool:
        """Whether no row that ran failed, and one ran at least."""
        ran = [result for result in self.results if result.seen is not None]
        return bool(ran) and not any(result.failed for result in ran)

    def write(self, folder: Path) -> None:
        """Leaves report.json and report.md in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        plain = {"about": dict(self.about), "passed": self.passed, "rows": self._plain()}
        text = json.dumps(plain, indent=2, ensure_ascii=False)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")
        (folder / "report.md").write_text(self._page(), encoding="utf-8")

    def _plain(self) -> Sequence[Mapping[str, Any]]:
        return [plain_of(result) for result in self.results]

    def _page(self) -> str:
        lines = ["# What broke, and what held", ""]
        lines += [f"- {name}: {value}" for name, value in self.about.items()]
        lines += ["", f"**{'All held.' if self.passed else 'Not all held.'}**", "", _HEAD, _RULE]
        lines += [line_of(result) for result in self.results]
        for result in self.results:
            if result.failed:
                lines += ["", f"## Row {result.row.number}: {result.row.name}", ""]
                lines += [f"- {line}" for line in result.verdict.summary()]
        return "\n".join(lines) + "\n"


def plain_of(result: Result) -> Mapping[str, Any]:
    """A row as JSON has it. Shares are of 1."""
    plain: dict[str, Any] = {
        "row": result.row.number,
        "broken": result.row.name,
        "verdict": verdict_of(result),
        "notes": list(result.notes),
    }
    seen = result.seen
    if seen is not None:
        plain |= {
            "calls": seen.calls,
            "errors": dict(seen.errors),
            "sources": dict(seen.sources),
            "reads_answered": round(seen.reads_answered, 5),
            "writes_answered": round(seen.writes_answered, 5),
            "time_to_degrade_s": round(seen.degrade_s, 1),
            "time_to_heal_s": round(seen.heal_s, 1),
            "time_to_converge_s": round(result.converged_s, 1),
            "p99_ms": round(seen.p99_ms, 1),
            "found": list(result.verdict.summary()),
        }
        plain |= {harm.value: result.verdict.count(harm) for harm in Harm}
    return plain


def verdict_of(result: Result) -> str:
    """In a word."""
    if result.seen is None:
        return "not run"
    return "held" if result.passed else "FAILED"


def line_of(result: Result) -> str:
    """A row of the table."""
    row, seen = result.row, result.seen
    if seen is None:
        return (
            f"| {row.number} | {row.name} |" + " |" * 12 + f" not run: {', '.join(result.notes)} |"
        )
    count = result.verdict.count
    cells = (
        *(str(row.number), row.name, str(seen.calls), _counts(seen.errors), _counts(seen.sources)),
        *(f"{seen.reads_answered:.2%}", f"{seen.writes_answered:.2%}"),
        *(f"{seen.degrade_s:.1f}", f"{seen.heal_s:.1f}", f"{result.converged_s:.1f}"),
        f"{seen.p99_ms:.0f}",
        *(str(count(harm)) for harm in (Harm.LOST, Harm.DOUBLED, Harm.WRONG)),
        verdict_of(result),
    )
    return f"| {' | '.join(cells)} |"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"

"""A soak of seconds, by both transports; `make soak` is the same for half an hour."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bootstrap.server_settings import Transport

pytestmark = [pytest.mark.alone, pytest.mark.both_transports]

_RUN_S = 200
_BRIEF = ("--minutes", "0.3", "--rate", "15")


@pytest.mark.timeout(_RUN_S + 30)
def test_all_holds(transport: Transport, tmp_path: Path) -> None:
    """No answer is wrong, no status is missing, nothing is held afterwards; and there was all the
    trouble that there is meant to be.
    """
    command = (sys.executable, "-P", "-m", "cli", "soak", *_BRIEF)
    options = ("--transport", transport.value, "--report", str(tmp_path))
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=_RUN_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    left = json.loads((tmp_path / "soak.json").read_text())

    assert (left["wrong"], left["texts"]) == (0, [])
    assert left["submissions"] > 100
    assert {"GetEntry", "ListEntries", "StreamSubmitScores", "details"} <= left["checked"].keys()
    ends = left["ends"]
    assert ends["fickle"]["CANCELLED"]
    assert ends["hasty"]["DEADLINE_EXCEEDED"]
    assert sum(codes.get("UNAVAILABLE", 0) for kind, codes in ends.items() if "cut off" in kind)

"""The pages for operators: every command in them is one, and names what is there.

Those of ours are run by the tests of the commands, the scripts by `test_compose_stores.py`.
"""

import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
import yaml
from typer.main import get_command

from bootstrap.settings import Settings
from cli.__main__ import app
from tests.deploy.test_chart import CHART, PLAIN, ROOT, _helm
from tests.deploy.test_compose import COMPOSE

PAGES: Final = [
    ROOT / "docs" / name
    for name in ("deployment.md", "growing.md", "durability.md", "sizing.md", "licences.md")
]
_BLOCK: Final = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
_LINK: Final = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


def _commands() -> list[list[str]]:
    blocks = [block for page in PAGES for block in _BLOCK.findall(page.read_text())]
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("words", _commands(), ids=" ".join)
def test_every_command_names_what_is_there(words: Sequence[str]) -> None:
    """Files, services, secrets and commands of ours; a kind of command that nobody checks fails."""
    match words:
        case ["sh", script]:
            subprocess.run(["sh", "-n", ROOT / script], check=True)
        case ["docker", "compose", "-f", file, "exec", service, "standings", *ours]:
            assert (ROOT / file).is_file()
            assert service in COMPOSE["services"]
            _check_ours(ours)
        case ["docker", "compose", "-f", file, "-f", other, *rest]:
            assert (ROOT / other).is_file()
            test_every_command_names_what_is_there(["docker", "compose", "-f", file, *rest])
        case ["docker", "compose", "-f", file, "up" | "build" | "run", *rest]:
            assert (ROOT / file).is_file()
            assert {word for word in rest if word[0] != "-"} <= COMPOSE["services"].keys()
        case ["kubectl", *rest]:
            _check_kubectl(rest)
        case ["helm", "upgrade", "--install", release, chart, *options]:
            rendered = _helm("template", release, str(ROOT / chart), *options, *_KUBE)
            assert rendered.returncode == 0, rendered.stderr
        case ["redis-cli", "--user", "operator", "--cluster", verb, *_]:
            # Run by test_compose_stores.py.
            assert verb in {"add-node", "rebalance"}
        case ["standings", *ours]:
            _check_ours(ours)
        case _:
            pytest.fail(f"nobody knows how to check {words}")


_KUBE: Final = ("--kube-version", "1.34.0")


def _check_ours(words: Sequence[str]) -> None:
    name, *options = words
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert set(options) <= known


def _check_kubectl(words: Sequence[str]) -> None:
    manifests = list(yaml.safe_load_all(PLAIN.read_text()))
    names = {(one["kind"].lower(), one["metadata"]["name"]) for one in manifests}
    match words:
        case ["create", "namespace", namespace]:
            assert {one["metadata"]["namespace"] for one in manifests} == {namespace}
        case ["--namespace", _, "create", "secret", "generic", secret, *files]:
            keys = {file.removeprefix("--from-file=") for file in files}
            assert keys == _keys_read(secret)
        case ["--namespace", _, "exec", target, "--", "standings", *ours]:
            assert ("deployment", target.removeprefix("deploy/")) in names
            _check_ours(ours)
        case ["--namespace", _, "port-forward", target, port]:
            assert ("deployment", target.removeprefix("deploy/")) in names
            assert Settings().server.admin_address.endswith(f":{port}")
        case ["--namespace", _, "delete", "job", job, "--ignore-not-found"]:
            assert ("job", job) in names
        case ["apply", "-f", file]:
            assert (ROOT / file).is_file()
        case _:
            pytest.fail(f"nobody knows how to check {words}")


def _keys_read(secret: str) -> set[str]:
    """The keys of a Secret that the plain manifests' variables name."""
    kind = secret.removeprefix("standings-")
    return set(re.findall(rf"/run/secrets/standings/{kind}/([a-z.-]+)", PLAIN.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """To files of the repository; addresses are left alone."""
    links = [link for link in _LINK.findall(page.read_text()) if "://" not in link]

    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_page_names_what_the_chart_has() -> None:
    """Every value that the text speaks of exists."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    text = PAGES[0].read_text()
    spoken = re.findall(
        r"`((?:postgres|autoscaling|networkPolicy|image|server|tls)\.(?!crt|key)\w+)[=`]", text
    )

    assert spoken
    for name in spoken:
        part, _, field = name.partition(".")
        assert field in values[part]

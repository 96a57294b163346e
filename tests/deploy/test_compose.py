"""The compose file is one, and what it names is there: files, secrets, settings.

No container is started: that needs an engine. What the containers are given is run by
`test_compose_stores.py` on real servers.
"""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from jsonschema.validators import validator_for

from bench.deployment import POSTGRES_SETTINGS
from bootstrap.exposure import check_exposure
from bootstrap.settings import Settings

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "deploy/compose"
COMPOSE: Final = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: Final[Mapping[str, Any]] = COMPOSE["services"]
SECRETS: Final = "/run/secrets/"


class _Loader(yaml.SafeLoader):
    """Knows the word that replaces a list where files are merged."""


_Loader.add_constructor("!override", lambda loader, node: loader.construct_sequence(node))
WITH_TLS: Final = yaml.load((FOLDER / "compose.tls.yaml").read_text(), _Loader)
_OURS: Final = [name for name, service in SERVICES.items() if "build" in service]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that make-secrets.sh makes."""
    folder = tmp_path_factory.mktemp("compose") / "secrets"
    subprocess.run(["sh", FOLDER / "make-secrets.sh", folder], check=True)
    return folder


def _binds(service: Mapping[str, Any]) -> Iterator[Path]:
    for volume in service.get("volumes", ()):
        source = volume.split(":")[0]
        if source.startswith("."):
            yield FOLDER / source


def test_it_is_of_the_specification() -> None:
    """The schema of compose files takes it, and refuses it with a misspelt word in it."""
    schema = json.loads((ROOT / "tests/schemas/compose-spec.json").read_text())
    validator = validator_for(schema)(schema)
    wrong = COMPOSE | {"services": {"server": {"image": "x", "healtcheck": {}}}}

    assert [error.message for error in validator.iter_errors(COMPOSE)] == []
    assert not validator.is_valid(wrong)


@pytest.mark.parametrize(
    "path", sorted({path for service in SERVICES.values() for path in _binds(service)}), ids=str
)
def test_what_is_mounted_is_there(path: Path) -> None:
    """An engine would make an empty folder of what is missing."""
    assert path.exists()


@pytest.mark.parametrize("name", SERVICES)
def test_names_lead_somewhere(name: str) -> None:
    """Volumes, networks, secrets and other services that one names are defined, and a service
    that is waited for says when it is healthy.
    """
    service = SERVICES[name]
    named = [volume.split(":")[0] for volume in service.get("volumes", ())]
    waited = service.get("depends_on", {})

    assert {volume for volume in named if not volume.startswith(".")} <= COMPOSE["volumes"].keys()
    assert set(service["networks"]) <= COMPOSE["networks"].keys()
    assert set(service.get("secrets", ())) <= COMPOSE["secrets"].keys()
    for other in waited:
        wanted = waited[other]["condition"] if isinstance(waited, dict) else "service_started"
        assert wanted != "service_healthy" or "test" in SERVICES[other]["healthcheck"]
        assert wanted != "service_completed_successfully" or SERVICES[other]["restart"] == "no"


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_may_do_little(name: str) -> None:
    """Not as root, nothing to write to but what it is given, limited, and reached from this
    machine alone.
    """
    service = SERVICES[name]
    user, _ = map(int, service["user"].split(":"))

    assert user > 0
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus", "pids_limit"} <= service.keys()
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert ":" in service["image"]
    assert not service["image"].endswith(":latest")


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_are_files(name: str, secrets: Path) -> None:
    """No variable holds one; each that is read is given to that service, and is made."""
    service = SERVICES[name]
    given = set(service.get("secrets", ()))
    text = yaml.safe_dump([service.get("environment"), service.get("command")])
    mounted = "".join(path.read_text() for path in _binds(service) if path.is_file())
    read = set(re.findall(rf"{SECRETS}([\w.]+)", text + mounted))
    words = {
        word for file in secrets.iterdir() for word in re.findall(r"\w{32,}", file.read_text())
    }

    assert read <= given
    assert {secret for secret in given if not (secrets / secret).is_file()} == set()
    assert not any(word in text for word in words)
    for variable, value in (service.get("environment") or {}).items():
        assert "PASSWORD" not in variable or str(value).startswith(SECRETS)


@pytest.mark.parametrize("name", _OURS)
def test_our_settings_are_settings(name: str, secrets: Path) -> None:
    """Each variable is known, and each value is one, with the secrets that are made."""
    variables = {
        variable: str(value).replace(SECRETS, f"{secrets}/")
        for variable, value in SERVICES[name]["environment"].items()
        if variable.startswith("STANDINGS_")
    }

    settings = Settings.load(variables)

    check_exposure(settings.server, settings.identity)
    assert settings.postgres.transaction_pooler
    assert len(settings.postgres.replica_dsns) == 1
    assert len(settings.redis.nodes) == 6
    assert {node.split(":")[0] for node in settings.redis.nodes} <= SERVICES.keys()


def test_with_tls_callers_are_asked_who_they_are(secrets: Path) -> None:
    """The file beside it is one, and a server with both would start, on all addresses, with files
    that it is given.
    """
    schema = json.loads((ROOT / "tests/schemas/compose-spec.json").read_text())
    server = WITH_TLS["services"]["server"]
    both = SERVICES["server"]["environment"] | server["environment"]
    settings = Settings.load(
        {name: str(value).replace(SECRETS, f"{secrets}/") for name, value in both.items()}
    )

    assert validator_for(schema)(schema).is_valid(WITH_TLS)
    check_exposure(settings.server, settings.identity)
    assert not settings.server.insecure
    assert settings.server.tls_client_ca_file is not None
    named = {value.removeprefix(SECRETS) for value in server["environment"].values()}
    assert named >= set(server["secrets"])
    assert WITH_TLS["secrets"].keys() == set(server["secrets"])


def test_the_benchmark_has_the_same_postgresql() -> None:
    """What it measures is what is shipped."""
    shipped = (FOLDER / "postgres/postgresql.conf").read_text(encoding="utf-8").splitlines()

    for name, value in POSTGRES_SETTINGS.items():
        assert f"{name} = {value}" in shipped


def test_secrets_are_made_once(secrets: Path) -> None:
    """A second run changes nothing: the volumes know the passwords of the first."""
    before = {file.name: file.read_text() for file in secrets.iterdir()}

    subprocess.run(["sh", FOLDER / "make-secrets.sh", secrets], check=True)

    assert {file.name: file.read_text() for file in secrets.iterdir()} == before
    assert before.keys() == COMPOSE["secrets"].keys()
    assert secrets.stat().st_mode & 0o077 == 0


def test_each_password_is_its_own(secrets: Path) -> None:
    """Nobody's password opens another door."""
    passwords = [
        re.sub(r".*[ :=]", "", (secrets / name).read_text().strip())
        for name in COMPOSE["secrets"]
        if name.endswith("password")
    ]

    assert len(set(passwords)) == len(passwords) == 7


@pytest.mark.parametrize(
    "path", sorted([*FOLDER.rglob("*.yaml"), *FOLDER.rglob("*.yml")]), ids=lambda path: path.name
)
def test_every_file_parses(path: Path) -> None:
    """What the others are configured by is YAML."""
    assert yaml.load(path.read_text(), _Loader)


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.sh")), ids=lambda path: path.name)
def test_every_script_parses(path: Path) -> None:
    """By the shell that its first line names."""
    shell = path.read_text().splitlines()[0].rpartition("/")[2]

    subprocess.run([shell, "-n", path], check=True)

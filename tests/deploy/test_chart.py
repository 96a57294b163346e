"""The chart and the plain manifests, which are what it renders: valid, hardened, and true.

The manifests are checked everywhere. Where there is a helm, what it renders is held against them,
and other choices are rendered and checked, too.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml
from jsonschema.validators import validator_for

from bootstrap.exposure import check_exposure
from bootstrap.settings import Settings
from server import metrics

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "deploy/helm/standings"
PLAIN: Final = ROOT / "deploy/kubernetes/standings.yaml"
VERSIONS: Final = ("1.30", "1.32", "1.34", "1.37")
SECRETS: Final = "/run/secrets/standings/"

Manifest = Mapping[str, Any]

CHOICES: Final[Mapping[str, Mapping[str, Any]]] = {
    "none": {},
    "all": {
        "image": {
            "repository": "registry.example/standings",
            "digest": f"sha256:{'0' * 64}",
            "pullSecrets": [{"name": "registry"}],
        },
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "networkPolicy": {"callers": [{"podSelector": {"matchLabels": {"app": "game"}}}]},
        "settings": {"STANDINGS_LOG_LEVEL": "WARNING"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "podAnnotations": {"example.com/team": "ranking"},
        "priorityClassName": "high",
    },
    "tokens": {
        "tls": {"secretName": "another", "clientCa": False},
        "settings": {
            "STANDINGS_IDENTITY_JWKS_URL": "https://login.example.com/keys",
            "STANDINGS_IDENTITY_ISSUER": "https://login.example.com",
        },
    },
    "little": {
        "replicas": 1,
        "autoscaling": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "migrate": {"enabled": False},
        "postgres": {"directDsn": False, "transactionPooler": False},
        "redis": {"username": "", "adminUsername": ""},
        "server": {"insecure": True},
    },
}


def _plain() -> list[Manifest]:
    return list(yaml.safe_load_all(PLAIN.read_text()))


def _helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    brought = ROOT / ".programs/helm"
    program = str(brought) if brought.exists() else shutil.which("helm")
    if program is None:
        pytest.skip("there is no helm: sh tests/programs/get_helm.sh .programs")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def _template(tmp_path: Path, values: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(dict(values)))
    where = ("--namespace", "standings", "--kube-version", "1.34.0")
    return _helm("template", "standings", str(CHART), *where, "--values", str(file))


def _rendered(tmp_path: Path, values: Mapping[str, Any]) -> list[Manifest]:
    done = _template(tmp_path, values)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def _one(manifests: Sequence[Manifest], kind: str) -> Manifest:
    (found,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def _pods(manifests: Sequence[Manifest]) -> Iterator[Manifest]:
    for manifest in manifests:
        if manifest["kind"] in {"Deployment", "Job"}:
            yield manifest["spec"]["template"]


def _check(manifests: Sequence[Manifest], tmp_path: Path) -> None:
    """Everything that holds whatever is chosen."""
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(set(names)) == len(names)
    # Secrets are named, never made.
    assert "Secret" not in {kind for kind, _ in names}
    for manifest in manifests:
        assert manifest["metadata"]["namespace"] == "standings"
        # Of another's kind, which no schema of Kubernetes' own knows.
        if manifest["kind"] != "ServiceMonitor":
            for version in VERSIONS:
                kubernetes_validate.validate(manifest, version, strict=True)
    for pod in _pods(manifests):
        _check_hardened(pod["spec"])
        _check_settings(pod["spec"], tmp_path)
    _check_selectors(manifests)


def _check_hardened(spec: Manifest) -> None:
    (container,) = spec["containers"]
    mounted = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec["automountServiceAccountToken"]
    assert not spec["enableServiceLinks"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in container["resources"]["limits"]
    assert mounted.keys() == {volume["name"] for volume in spec["volumes"]}
    assert not container["image"].endswith(":latest")
    for volume in spec["volumes"]:
        if "secret" in volume:
            assert volume["secret"]["defaultMode"] == 0o440
            assert mounted[volume["name"]]["readOnly"]
        else:
            assert "sizeLimit" in volume["emptyDir"]


def _check_settings(spec: Manifest, tmp_path: Path) -> None:
    """Every variable is a setting of ours with a value that it takes; secrets are read from files
    of the Secrets that are mounted.
    """
    (container,) = spec["containers"]
    roots = [mount["mountPath"] + "/" for mount in container["volumeMounts"]]
    variables = {}
    for variable in container["env"]:
        name, value = variable["name"], variable["value"]
        assert "valueFrom" not in variable
        if value.startswith(SECRETS):
            assert any(value.startswith(root) for root in roots)
            value = str(tmp_path / name)
            Path(value).write_text("host=db dbname=standings user=standings\n")
        variables[name] = value

    settings = Settings.load(variables)

    # A server with these would start.
    check_exposure(settings.server, settings.identity)
    assert settings.postgres.dsn is not None
    assert len(variables) == len(container["env"])


def _check_selectors(manifests: Sequence[Manifest]) -> None:
    deployment = _one(manifests, "Deployment")
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"].items()
    ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    for manifest in manifests:
        spec = manifest["spec"]
        match manifest["kind"]:
            case "Service":
                assert spec["selector"].items() <= labels
                assert {port["targetPort"] for port in spec["ports"]} <= ports
            case "PodDisruptionBudget" | "Deployment":
                assert spec["selector"]["matchLabels"].items() <= labels
            case "NetworkPolicy":
                assert spec["podSelector"]["matchLabels"].items() <= labels
            case "HorizontalPodAutoscaler":
                assert spec["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
                assert "replicas" not in deployment["spec"]
            case "ServiceMonitor":
                headless = [
                    service
                    for service in manifests
                    if spec["selector"]["matchLabels"].items()
                    <= service["metadata"]["labels"].items()
                    and service["kind"] == "Service"
                ]
                assert [port["name"] for port in headless[0]["spec"]["ports"]][1] == "metrics"
                assert len(headless) == 1


def test_the_plain_manifests_hold(tmp_path: Path) -> None:
    """Valid for each version of Kubernetes, hardened, with settings that are settings."""
    _check(_plain(), tmp_path)


def test_a_wrong_manifest_is_noticed() -> None:
    """The schemas refuse a misspelt field."""
    deployment = json.loads(json.dumps(_one(_plain(), "Deployment")))
    deployment["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


def test_the_end_of_a_pod_is_waited_for() -> None:
    """What a server takes at most to drain fits into the time that it is given."""
    (pod,) = [pod for pod in _pods(_plain()) if "readinessProbe" in pod["spec"]["containers"][0]]
    variables = {one["name"]: one["value"] for one in pod["spec"]["containers"][0]["env"]}
    settle_s = float(variables["STANDINGS_SERVER_DRAIN_SETTLE_S"])
    grace_s = float(variables["STANDINGS_SERVER_DRAIN_GRACE_S"])

    assert pod["spec"]["terminationGracePeriodSeconds"] >= settle_s + grace_s + 12


def test_what_is_scaled_by_is_measured() -> None:
    """The autoscaler and prometheus-adapter name a metric that the server has."""
    adapter = yaml.safe_load((ROOT / "deploy/kubernetes/prometheus-adapter.yaml").read_text())
    (rule,) = adapter["rules"]["custom"]
    (scaled_by,) = _one(_plain(), "HorizontalPodAutoscaler")["spec"]["metrics"]
    (family,) = metrics.IN_FLIGHT.collect()

    assert scaled_by["pods"]["metric"]["name"] == rule["name"]["as"] == family.name
    assert rule["seriesQuery"].startswith(f"{family.name}{{")


def test_the_plain_manifests_are_what_the_chart_renders(tmp_path: Path) -> None:
    """Whoever has no helm gets the same; `make manifests` renders them."""
    assert _plain() == _rendered(tmp_path, {})


@pytest.mark.parametrize("choice", CHOICES)
def test_other_choices_hold(choice: str, tmp_path: Path) -> None:
    """Each can be rendered, and what is rendered holds the same."""
    _check(_rendered(tmp_path, CHOICES[choice]), tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {"replica": 3},
        {"server": {"transport": "http"}},
        {"redis": {"nodes": ["no-port"]}},
        {"settings": {"STANDINGS_TOKENS_SECRET": "hush-hush"}},
        {"postgres": {"transactionPooler": True, "directDsn": False}},
    ],
    ids=["unknown", "transport", "node", "secret", "pooler"],
)
def test_wrong_values_are_refused(values: Mapping[str, Any]) -> None:
    """By the chart's schema, before anything is installed; a secret among them, too."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    validator = validator_for(schema)(schema)

    assert validator.is_valid(yaml.safe_load((CHART / "values.yaml").read_text()))
    assert not validator.is_valid(values)


def test_helm_refuses_them_too(tmp_path: Path) -> None:
    """It reads the schema itself."""
    done = _template(tmp_path, {"replica": 3})

    assert done.returncode != 0
    assert "replica" in done.stderr


def test_lint() -> None:
    """Helm finds nothing to complain about."""
    done = _helm("lint", "--strict", str(CHART))

    assert done.returncode == 0, done.stdout


def test_tls_comes_from_a_secret() -> None:
    """Certificate, key and who vouches for callers are mounted where nothing else is said, and a
    probe within the pod is told how it is.
    """
    spec = _one(_plain(), "Deployment")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    files = [value for name, value in variables.items() if "_TLS_" in name]
    secrets = [volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume]

    assert files == [f"{SECRETS}tls/{name}" for name in ("tls.crt", "tls.key", "ca.crt")]
    assert "standings-tls" in secrets
    assert "STANDINGS_SERVER_INSECURE" not in variables
    assert container["readinessProbe"]["exec"] == {"command": ["standings", "health"]}
    assert variables["STANDINGS_SERVER_HEALTH_ADDRESS"].startswith("127.0.0.1:")


def test_without_tls_only_by_the_word_for_it(tmp_path: Path) -> None:
    """Then nothing of it is mounted."""
    rendered = _rendered(tmp_path, {"server": {"insecure": True}})
    spec = _one(rendered, "Deployment")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}

    assert variables["STANDINGS_SERVER_INSECURE"] == "true"
    assert not any("_TLS_" in name for name in variables)
    assert "tls" not in {volume["name"] for volume in spec["volumes"]}
    assert container["readinessProbe"]["grpc"] == {"port": 50051}


@pytest.mark.parametrize(
    ("tls", "wanted"),
    [({"secretName": ""}, "tls.secretName"), ({"clientCa": False}, "tls.clientCa")],
    ids=["no certificate", "nobody is asked"],
)
def test_what_would_not_start_is_not_rendered(
    tls: Mapping[str, Any], wanted: str, tmp_path: Path
) -> None:
    """Helm says what is missing, and the other way out."""
    done = _template(tmp_path, {"tls": tls})

    assert done.returncode != 0
    assert wanted in done.stderr
    assert "server.insecure=true" in done.stderr

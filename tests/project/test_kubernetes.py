"""What deploy/kubernetes says of the service is so: its settings, ports, probes, users and metrics exist."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from starlette.testclient import TestClient

from app.settings import Settings, read_settings
from testing.paths import ROOT

BASE = ROOT / "deploy" / "kubernetes" / "base"
OVERLAY = ROOT / "deploy" / "kubernetes" / "overlays" / "example"
TWO_GATES = ROOT / "deploy" / "kubernetes" / "overlays" / "two-gates"
GATES = [TWO_GATES / "digits", TWO_GATES / "letters"]
DOCKERFILE = (ROOT / "Dockerfile").read_text().splitlines()


def manifest(folder: Path, name: str) -> Any:
    return yaml.safe_load((folder / name).read_text())


def settings_of(*folders: Path) -> dict[str, str]:
    """As the pods' environment; later folders change earlier ones."""
    lines = [line for folder in folders for line in (folder / "settings.env").read_text().splitlines()]
    pairs = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    for folder in folders:
        if not (folder / "deployment.yaml").exists():
            continue
        container = manifest(folder, "deployment.yaml")["spec"]["template"]["spec"]["containers"][0]
        pairs |= {entry["name"]: entry.get("value", "from-a-secret") for entry in container.get("env", ())}
    return pairs


@pytest.fixture
def pod() -> Any:
    return manifest(BASE, "deployment.yaml")["spec"]["template"]["spec"]


def keys_and_values(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield key, value
            yield from keys_and_values(value)
    elif isinstance(node, list):
        for value in node:
            yield from keys_and_values(value)


@pytest.mark.parametrize("folder", [BASE, OVERLAY, *GATES], ids=lambda folder: folder.name)
def test_every_manifest_is_part_of_its_folder_and_nothing_is_missing(folder: Path) -> None:
    kustomization = manifest(folder, "kustomization.yaml")
    named = set(kustomization["resources"]) | {patch["path"] for patch in kustomization.get("patches", ())}
    named |= {name for generator in kustomization["configMapGenerator"] for name in generator["envs"]}
    assert all((folder / name).exists() for name in named)
    assert {path.name for path in folder.iterdir()} - {"kustomization.yaml"} == {
        name for name in named if "/" not in name
    }


@pytest.mark.parametrize(
    "folders", [(BASE,), (BASE, OVERLAY), *((BASE, gate) for gate in GATES)], ids=lambda folders: folders[-1].name
)
def test_the_settings_start_the_service(folders: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings_of(*folders).items():
        monkeypatch.setenv(name, value)
    read_settings()


def test_a_pod_has_time_to_drain_before_it_is_killed(pod: Any) -> None:
    drain_seconds = float(settings_of(BASE)["GATE_DRAIN_SECONDS"])
    probe = pod["containers"][0]["readinessProbe"]
    assert drain_seconds > probe["periodSeconds"] * probe["failureThreshold"]
    assert pod["terminationGracePeriodSeconds"] > drain_seconds + Settings().request_timeout_seconds


def test_probes_ask_routes_that_exist(pod: Any, client: TestClient) -> None:
    container = pod["containers"][0]
    probes = {name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert {name: get["path"] for name, get in probes.items()} == {
        "startupProbe": "/readyz",
        "readinessProbe": "/readyz",
        "livenessProbe": "/livez",
    }
    for get in probes.values():
        assert client.get(get["path"]).status_code == 200


def test_everything_goes_to_the_port_that_the_image_serves(pod: Any) -> None:
    (port,) = pod["containers"][0]["ports"]
    assert f"EXPOSE {port['containerPort']}" in DOCKERFILE
    (from_service,) = manifest(BASE, "service.yaml")["spec"]["ports"]
    used = [from_service["targetPort"]]
    used += [value["port"] for key, value in keys_and_values(pod) if key == "httpGet"]
    for folder in (BASE, OVERLAY):
        (rule,) = manifest(folder, "networkpolicy.yaml")["spec"]["ingress"]
        used += [one["port"] for one in rule["ports"]]
    assert set(used) == {port["name"]}


def test_one_name_and_one_label_hold_everything_together() -> None:
    deployment = manifest(BASE, "deployment.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        manifest(BASE, "service.yaml")["spec"]["selector"],
        manifest(BASE, "poddisruptionbudget.yaml")["spec"]["selector"]["matchLabels"],
        manifest(BASE, "networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector == labels for selector in selectors)
    scaled = manifest(BASE, "horizontalpodautoscaler.yaml")["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == ("Deployment", deployment["metadata"]["name"])
    for folder in (OVERLAY, *GATES):
        for patch in {path.name for path in folder.iterdir()} & {"deployment.yaml", "networkpolicy.yaml"}:
            assert manifest(folder, patch)["metadata"] == manifest(BASE, patch)["metadata"], "the patch would miss"


def test_a_pod_can_change_nothing_and_reach_nobody(pod: Any) -> None:
    container = pod["containers"][0]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    user = pod["securityContext"]["runAsUser"]
    assert f"USER {user}:{pod['securityContext']['runAsGroup']}" in DOCKERFILE
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert not {key for key, _ in keys_and_values(pod)} & {"volumes", "emptyDir", "hostPath", "hostNetwork"}
    policy = manifest(BASE, "networkpolicy.yaml")["spec"]
    assert (policy["policyTypes"], policy["egress"]) == (["Ingress", "Egress"], [])


def test_the_overlay_lets_the_gate_reach_the_classifier_that_it_names() -> None:
    url = settings_of(OVERLAY)["GATE_CLASSIFIER_URL"]
    to_classifier, to_names = manifest(OVERLAY, "networkpolicy.yaml")["spec"]["egress"]
    assert url == f"http://classifier:{to_classifier['ports'][0]['port']}"
    assert {port["port"] for port in to_names["ports"]} == {53}


def test_each_of_several_gates_has_a_name_an_image_and_a_label_of_its_own() -> None:
    assert manifest(TWO_GATES, "kustomization.yaml")["resources"] == [gate.name for gate in GATES]
    for gate in GATES:
        kustomization = manifest(gate, "kustomization.yaml")
        assert kustomization["namePrefix"] == f"{gate.name}-"
        (labels,) = kustomization["labels"]
        assert labels == {"pairs": {"app.kubernetes.io/instance": gate.name}, "includeSelectors": True}
        (image,) = kustomization["images"]
        assert image["newName"].endswith(f"/imagegate-{gate.name}")


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.name)
def test_each_of_several_gates_reaches_the_classifier_that_it_names(gate: Path) -> None:
    url = urlsplit(settings_of(gate)["GATE_CLASSIFIER_URL"])
    to_classifier, to_names = manifest(gate, "networkpolicy.yaml")["spec"]["egress"]
    (expression,) = to_classifier["to"][0]["podSelector"]["matchExpressions"]
    assert (expression["values"], to_classifier["ports"][0]["port"]) == ([url.hostname], url.port)
    assert {port["port"] for port in to_names["ports"]} == {53}
    # kustomize would add the gate's label to it, and no classifier has that.
    assert "matchLabels" not in dict(keys_and_values(manifest(gate, "networkpolicy.yaml")))


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl renders the overlay")
def test_no_selector_of_one_gate_fits_pods_of_the_other() -> None:
    rendered = subprocess.run(["kubectl", "kustomize", TWO_GATES], capture_output=True, check=True, text=True).stdout
    objects = [one for one in yaml.safe_load_all(rendered) if one["kind"] != "ConfigMap"]
    assert len(objects) == 2 * (len(manifest(BASE, "kustomization.yaml")["resources"]))
    for one in objects:
        gate, _, rest = one["metadata"]["name"].partition("-")
        assert rest == "imagegate"
        found = [value for key, value in keys_and_values(one["spec"]) if key == "app.kubernetes.io/instance"]
        assert set(found) == ({gate} if one["kind"] != "HorizontalPodAutoscaler" else set())
        if one["kind"] == "HorizontalPodAutoscaler":
            assert one["spec"]["scaleTargetRef"]["name"] == one["metadata"]["name"]


def test_the_overlay_mounts_the_artifacts_that_it_names() -> None:
    container = manifest(OVERLAY, "deployment.yaml")["spec"]["template"]["spec"]["containers"][0]
    (mount,) = container["volumeMounts"]
    assert mount["readOnly"]
    assert Path(settings_of(OVERLAY)["GATE_ARTIFACT"]).is_relative_to(mount["mountPath"])


def test_the_metric_to_scale_on_is_exposed(client: TestClient) -> None:
    (patch,) = manifest(OVERLAY, "waiting.yaml")
    name = patch["value"]["pods"]["metric"]["name"]
    assert f"\n{name} " in client.get("/metrics").text
    assert f"seriesQuery: '{name}{{" in (OVERLAY.parent.parent / "README.md").read_text()

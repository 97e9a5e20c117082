"""What examples/monitoring asks of Prometheus is what /metrics exposes; promtool checks the rest."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from app.settings import read_settings
from testing.artifacts import DEFAULT_ARTIFACT
from testing.pictures import picture
from testing.servers import wait_until

MONITORING = Path(__file__).resolve().parents[2] / "examples" / "monitoring"
EXPECTED_LABELS = {"job", "instance", "le"}  # what Prometheus itself adds

integrations = [pytest.mark.slow, pytest.mark.integrations]


@pytest.fixture
def exposition(make_client: Callable[..., TestClient], tmp_path: Path) -> str:
    """After one request of each kind, so that every label has been seen."""
    client = make_client(keep_folder=tmp_path / "kept", keep_sample=1, candidate=DEFAULT_ARTIFACT)
    client.post("/v1/predict", content=picture())
    client.post("/v1/predict", content=b"not an image")
    client.post("/v1/authz/anything", content=picture())
    assert wait_until(lambda: "gate_kept_total{" in client.get("/metrics").text, 10)
    return client.get("/metrics").text


def expressions() -> list[str]:
    """Every PromQL expression of the rules, their tests and the dashboard."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    variables = [str(variable["query"]) for variable in dashboard["templating"]["list"]]
    rules = [
        line for name in ("alerts.yml", "alerts_test.yml") for line in (MONITORING / name).read_text().splitlines()
    ]
    return panels + variables + [line for line in rules if "description" not in line]


def test_every_metric_and_label_asked_for_is_exposed(exposition: str) -> None:
    samples = [sample for family in text_string_to_metric_families(exposition) for sample in family.samples]
    names = {sample.name for sample in samples}
    for expression in expressions():
        for name, labels in re.findall(r"(?<![\w-])(gate_\w+)(?:\{([^}]*)\})?", expression):
            assert name in names, expression
            known = {label for sample in samples if sample.name == name for label in sample.labels}
            assert set(re.findall(r"(\w+)\s*[=!]", labels)) <= known | EXPECTED_LABELS, expression


def test_every_metric_exposed_stands_on_the_dashboard(exposition: str) -> None:
    asked_for = " ".join(expressions())
    for family in text_string_to_metric_families(exposition):
        assert family.name in asked_for, family.name


def test_the_reasons_and_routes_that_alerts_name_exist() -> None:
    from app import errors

    slugs = {getattr(one, "slug", None) for one in vars(errors).values()}
    reasons = re.findall(r'reason=~?"([^"]+)"', (MONITORING / "alerts.yml").read_text())
    assert {reason for several in reasons for reason in several.split("|")} <= slugs


class TestCompose:
    """No container engine is needed: what the files say of each other and of the service is so."""

    @pytest.fixture
    def services(self) -> Any:
        return yaml_of("compose.yaml")["services"]

    def test_every_folder_that_is_built_and_every_file_that_is_mounted_exists(self, services: Any) -> None:
        for service in services.values():
            if "build" in service:
                assert (MONITORING / service["build"] / "Dockerfile").is_file()
            for source, _ in mounts(service):
                assert not source.startswith(".") or (MONITORING / source).exists(), source

    def test_the_gate_s_settings_start_the_service(self, services: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in services["gate"]["environment"].items():
            monkeypatch.setenv(name, value)
        url = read_settings().classifier_url
        assert url is not None
        assert address_exists(services, url)

    def test_prometheus_scrapes_the_gate_as_its_own_example_does(self, services: Any) -> None:
        ours, example = yaml_of("prometheus-compose.yml"), yaml_of("prometheus.yml")
        (target,) = ours["scrape_configs"][0]["static_configs"][0].pop("targets")
        example["scrape_configs"][0]["static_configs"][0].pop("targets")
        assert ours == example
        assert address_exists(services, f"http://{target}")
        mounted = dict(mounts(services["prometheus"]))
        assert mounted["./prometheus-compose.yml"] == "/etc/prometheus/prometheus.yml"
        for rules in ours["rule_files"]:  # relative to the configuration
            assert mounted[f"./{rules}"] == f"/etc/prometheus/{rules}"

    def test_grafana_is_given_prometheus_as_its_only_data_source(self, services: Any) -> None:
        provisioned = provisioning(services, "datasources")
        (source,) = provisioned["datasources"]
        assert (provisioned["apiVersion"], source["type"], source["isDefault"]) == (1, "prometheus", True)
        assert address_exists(services, source["url"])
        interval = yaml_of("prometheus-compose.yml")["global"]["scrape_interval"]
        assert source["jsonData"]["timeInterval"] == interval

    def test_grafana_finds_the_dashboard_and_opens_with_it(self, services: Any) -> None:
        provisioned = provisioning(services, "dashboards")
        (provider,) = provisioned["providers"]
        assert (provisioned["apiVersion"], provider["type"]) == (1, "file")
        dashboard = dict(mounts(services["grafana"]))["./dashboard.json"]
        assert str(PurePosixPath(dashboard).parent) == provider["options"]["path"]
        assert services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == dashboard

    def test_every_panel_asks_the_data_source_that_is_chosen_on_the_dashboard(self) -> None:
        dashboard = json.loads((MONITORING / "dashboard.json").read_text())
        (chosen,) = [one for one in dashboard["templating"]["list"] if one["type"] == "datasource"]
        assert chosen["query"] == "prometheus"
        assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {f"${{{chosen['name']}}}"}

    def test_nothing_is_open_to_other_machines(self, services: Any) -> None:
        ports = [port for service in services.values() for port in service.get("ports", ())]
        assert ports
        assert all(port.startswith("127.0.0.1:") for port in ports)


def yaml_of(name: str) -> Any:
    return yaml.safe_load((MONITORING / name).read_text())


def mounts(service: Any) -> list[tuple[str, str]]:
    """Source and target of each volume; a source that begins with a dot is a path beside the compose file."""
    return [tuple(volume.split(":")[:2]) for volume in service.get("volumes", ())]


def provisioning(services: Any, kind: str) -> Any:
    """The one file of a kind, from where Grafana looks for it."""
    targets = {target: source for source, target in mounts(services["grafana"])}
    (path,) = (MONITORING / targets["/etc/grafana/provisioning"] / kind).iterdir()
    return yaml.safe_load(path.read_text())


def address_exists(services: Any, url: str) -> bool:
    """Whether a URL names a service, and a port that it publishes or that its image exposes."""
    address = urlsplit(url)
    service = services[address.hostname]
    ports = [port.rsplit(":", 1)[-1] for port in service.get("ports", ())]
    if "build" in service:
        ports += re.findall(r"^EXPOSE (\d+)", (MONITORING / service["build"] / "Dockerfile").read_text(), re.MULTILINE)
    return str(address.port) in ports


def promtool(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    path = shutil.which("promtool")
    assert path, "promtool is missing: apt-get install prometheus"
    return subprocess.run([path, *arguments], cwd=MONITORING, input=stdin, capture_output=True, text=True)


class TestWithPromtool:
    pytestmark = integrations

    @pytest.mark.parametrize(
        "arguments",
        [
            ("check", "rules", "alerts.yml"),
            ("test", "rules", "alerts_test.yml"),
            ("check", "config", "prometheus.yml"),
            ("check", "config", "prometheus-compose.yml"),
        ],
        ids=" ".join,
    )
    def test_rules_and_their_tests_and_the_configuration_are_valid(self, arguments: tuple[str, ...]) -> None:
        result = promtool(*arguments)
        assert result.returncode == 0, result.stdout + result.stderr

    def test_the_exposition_is_valid(self, exposition: str) -> None:
        result = promtool("check", "metrics", stdin=exposition)
        assert (result.returncode, result.stdout + result.stderr) == (0, "")

    def test_every_query_of_the_dashboard_parses(self, tmp_path: Path) -> None:
        dashboard = json.loads((MONITORING / "dashboard.json").read_text())
        queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
        rules = [
            {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "1m")}
            for number, query in enumerate(queries)
        ]
        path = tmp_path / "rules.yml"
        path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
        result = promtool("check", "rules", str(path))
        assert result.returncode == 0, result.stdout + result.stderr

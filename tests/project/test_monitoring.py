"""What examples/monitoring asks of Prometheus is what /metrics exposes; promtool checks the rest."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

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


def test_the_reasons_and_routes_that_alerts_name_exist(client: TestClient) -> None:
    from app import errors

    slugs = {getattr(one, "slug", None) for one in vars(errors).values()}
    reasons = re.findall(r'reason=~?"([^"]+)"', (MONITORING / "alerts.yml").read_text())
    assert {reason for several in reasons for reason in several.split("|")} <= slugs


def promtool(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    path = shutil.which("promtool")
    assert path, "promtool is missing: apt-get install prometheus"
    return subprocess.run([path, *arguments], cwd=MONITORING, input=stdin, capture_output=True, text=True)


class TestWithPromtool:
    pytestmark = integrations

    @pytest.mark.parametrize(
        "arguments",
        [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml"), ("check", "config", "prometheus.yml")],
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

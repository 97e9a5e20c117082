"""The API page works without internet, and its examples succeed."""

import base64
import re
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from testing.artifacts import DEFAULT_ARTIFACT


def operations(schema: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, one) for path, methods in schema["paths"].items() for method, one in methods.items()]


def test_the_page_and_all_that_it_loads_come_from_the_service(client: TestClient) -> None:
    page = client.get("/docs")
    assert "//" not in page.text.replace("</", "")
    for address in re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page.text):
        answer = client.get(f"/{address}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(
            {"css": "text/css", "js": "text/javascript", "json": "application/json"}[address.rsplit(".")[-1]]
        )
    assert len(client.get("/docs/swagger-ui-bundle.js").content) > 500_000


def test_the_page_may_run_nothing_from_elsewhere(client: TestClient) -> None:
    policy = client.get("/docs").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert "unsafe-eval" not in policy
    assert "frame-ancestors 'none'" in policy


def test_every_route_has_one_of_the_tags(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    tags = {tag["name"] for tag in schema["tags"]}
    used = {tag for _, _, operation in operations(schema) for tag in operation["tags"]}
    assert used <= tags
    assert {"Judge images", "Open Inference Protocol", "In front of a classifier", "Operate"} <= used
    assert all(len(operation["tags"]) == 1 for _, _, operation in operations(schema))


def test_every_refusal_that_is_documented_has_an_example_of_its_status(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    seen = 0
    for _, _, operation in operations(schema):
        for status, answer in operation["responses"].items():
            for example in answer.get("content", {}).get("application/problem+json", {}).get("examples", {}).values():
                assert example["value"]["status"] == int(status)
                assert example["value"]["detail"] == example["value"]["error"]
                seen += 1
    assert seen > 20


@pytest.mark.parametrize("path", ["/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"])
def test_the_examples_of_json_requests_succeed_when_they_are_sent(client: TestClient, path: str) -> None:
    operation = client.get("/openapi.json").json()["paths"][path]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    for parameter in operation["parameters"]:
        if parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", parameter["example"])
    answer = client.post(path, json=example)
    assert answer.status_code == 200
    assert answer.json()["outputs"]


def test_the_example_of_an_answer_is_what_the_service_answers(make_client: Callable[..., TestClient]) -> None:
    client = make_client(artifact=DEFAULT_ARTIFACT)
    schema = client.get("/openapi.json").json()
    example = schema["paths"]["/v1/predict"]["post"]["responses"]["200"]["content"]["application/json"]["example"]
    tensor = schema["paths"]["/v2/models/{name}/infer"]["post"]["requestBody"]["content"]["application/json"]["example"]
    image = base64.b64decode(tensor["inputs"][0]["data"][0])
    assert client.post("/v1/predict?reconstruction=png", content=image).json() == example

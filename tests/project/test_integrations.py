"""The real programs around the service: nginx, Envoy, Triton's and KServe's clients, gjson as KServe's router uses it.

`make test-integrations` installs them. Not here: KServe's router itself, which no registry of packages has.
"""

import asyncio
import base64
import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from testing.fake_classifier import FakeClassifier
from testing.paths import ROOT
from testing.pictures import encoded, picture
from testing.prepared_requests import prepared_requests
from testing.servers import free_port, running

EXAMPLES = ROOT / "examples"
NORMAL, ANOMALY = picture(level=255), picture(level=0)
LARGE = picture(side=2000, image_format="BMP")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.integrations,
    pytest.mark.skipif(not importlib.util.find_spec("tritonclient"), reason="`make test-integrations` installs these"),
    # Of other people's packages.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"),
]


def configuration(example: str, folder: Path, gate: int, classifier: FakeClassifier, port: int) -> Path:
    """An example's own file, with nothing but its ports changed."""
    text = (EXAMPLES / example).read_text()
    for written, real in (("8000", gate), ("9000", classifier.url.rpartition(":")[2]), ("8080", port)):
        assert written in text
        text = text.replace(f":{written}", f":{real}").replace(f"port_value: {written}", f"port_value: {real}")
    path = folder / Path(example).name
    path.write_text(text)
    return path


@pytest.fixture(params=["nginx", "envoy"])
def front(
    request: pytest.FixtureRequest, make_server: Callable[..., int], classifier: FakeClassifier, tmp_path: Path
) -> Iterator[str]:
    """The address of a real proxy in front of gate and classifier."""
    port = free_port()
    with ExitStack() as stack:
        if request.param == "nginx":
            gate = make_server(accel_redirect="@classifier")
            path = configuration("nginx/nginx.conf", tmp_path, gate, classifier, port)
            globals_ = f"daemon off; pid {tmp_path}/pid; error_log stderr;"
            command = ["nginx", "-p", str(tmp_path), "-c", str(path), "-g", globals_]
        else:
            path = configuration("envoy/envoy.yaml", tmp_path, make_server(), classifier, port)
            envoy = str(Path(sys.executable).with_name("envoy"))
            command = [envoy, "-c", str(path), "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
        yield stack.enter_context(running(command, port, tmp_path / "log"))


def test_proxy_passes_the_original_request_on_when_the_gate_admits_it(front: str, classifier: FakeClassifier) -> None:
    forged = {"X-Gate-Verdict": "forged", "X-Gate-Score": "-1", "Authorization": "Bearer classifier"}
    response = httpx2.post(f"{front}/classify/a%2Fb?top=3&q=%20", content=NORMAL, headers=forged)
    assert response.status_code == 200, response.text
    assert response.json() == {"digit": 3}
    assert response.headers.get_list("x-gate-verdict") == ["normal"]
    (received,) = classifier.requests
    assert received.line == b"POST /classify/a%2Fb?top=3&q=%20 HTTP/1.1"
    assert received.body == NORMAL
    assert received.values(b"x-gate-verdict") == [b"normal"]
    assert received.values(b"x-gate-score") == [b"0"]
    assert received.values(b"authorization") == [b"Bearer classifier"]


@pytest.mark.parametrize("body", [{"content": NORMAL}, {"content": LARGE}, {"files": {"f": ("a.png", NORMAL)}}])
def test_proxy_passes_each_kind_of_body_on(front: str, classifier: FakeClassifier, body: dict[str, Any]) -> None:
    response = httpx2.post(f"{front}/classify", **body, timeout=20)
    assert response.status_code == 200, response.text
    assert NORMAL in classifier.requests[0].body or classifier.requests[0].body == LARGE


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"content": ANOMALY}, 403),
        ({"files": {"f": ("a.png", ANOMALY)}}, 403),
        ({"content": json.dumps({"image": base64.b64encode(ANOMALY).decode()})}, 403),
        ({"content": b"no image"}, 415),
        ({"content": NORMAL[:50]}, 422),
        ({"content": b""}, 400),
    ],
)
def test_proxy_keeps_from_the_classifier_what_the_gate_refuses(
    front: str, classifier: FakeClassifier, body: dict[str, Any], status: int
) -> None:
    response = httpx2.post(f"{front}/classify", **body)
    assert response.status_code == status
    assert response.json()["type"].startswith("urn:imagegate:")
    assert not classifier.requests


def test_proxy_passes_health_checks_on_without_a_forged_score(front: str, classifier: FakeClassifier) -> None:
    response = httpx2.get(f"{front}/health", headers={"X-Gate-Score": "-1"})
    assert response.status_code == 200
    assert not classifier.requests[0].values(b"x-gate-score")


@pytest.mark.parametrize("example", ["nginx/nginx.conf", "envoy/envoy.yaml"])
def test_nothing_passes_while_the_gate_is_down(example: str, classifier: FakeClassifier, tmp_path: Path) -> None:
    port = free_port()
    path = configuration(example, tmp_path, free_port(), classifier, port)
    nginx = ["nginx", "-p", str(tmp_path), "-c", str(path), "-g", f"daemon off; pid {tmp_path}/pid; error_log stderr;"]
    envoy = [str(Path(sys.executable).with_name("envoy")), "-c", str(path), "--disable-hot-restart"]
    with running(nginx if "nginx" in example else envoy, port, tmp_path / "log") as front:
        assert httpx2.post(f"{front}/classify", content=NORMAL).status_code in (403, 502, 503)
    assert not classifier.requests


def test_no_prepared_request_gets_past_a_proxy(front: str, classifier: FakeClassifier) -> None:
    odd = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 40, (28, 28), np.uint8)))
    host, _, port = front.removeprefix("http://").partition(":")
    for request in prepared_requests(NORMAL, odd):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(request.raw())
            with suppress(ConnectionResetError):
                connection.recv(65536)
        assert not classifier.requests, request.kind


def white_and_black(datatype: str) -> np.ndarray[Any, Any]:
    dtype, white = {"FP32": (np.float32, 1), "UINT8": (np.uint8, 255)}[datatype]
    return np.stack([np.full((28, 28), white, dtype), np.zeros((28, 28), dtype)])


@pytest.fixture
def open_triton_client() -> Iterator[Callable[[str], Any]]:
    import tritonclient.http as triton

    with ExitStack() as stack:
        yield lambda address: stack.enter_context(triton.InferenceServerClient(address))


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("datatype", ["FP32", "UINT8", "BYTES"])
def test_triton_client_sends_and_reads(
    make_server: Callable[..., int], open_triton_client: Callable[[str], Any], datatype: str, binary: bool
) -> None:
    import tritonclient.http as triton

    client = open_triton_client(f"127.0.0.1:{make_server()}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("tiny")["platform"]
    if datatype == "BYTES":
        if not binary:
            pytest.skip("Triton's client writes BYTES into JSON as text, and an image is none")
        values = np.array([NORMAL, ANOMALY], dtype=object)
    else:
        values = white_and_black(datatype)
    tensor = triton.InferInput("image", list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    wanted = [triton.InferRequestedOutput(name, binary) for name in ("is_anomaly", "loss", "reconstruction")]
    for outputs in (None, wanted):
        result = client.infer("tiny", [tensor], outputs=outputs, request_id="7")
        assert result.as_numpy("is_anomaly").tolist() == [False, True]
        assert result.as_numpy("loss").tolist() == [0.0, 1.0]
        assert result.get_response()["parameters"]["anomalous"] is True
        assert result.get_response()["id"] == "7"
    assert result.as_numpy("reconstruction").shape == (2, 28, 28)


def test_triton_client_shows_the_gates_reason(
    make_server: Callable[..., int], open_triton_client: Callable[[str], Any]
) -> None:
    import tritonclient.http as triton
    from tritonclient.utils import InferenceServerException

    client = open_triton_client(f"127.0.0.1:{make_server()}")
    tensor = triton.InferInput("image", [1, 28, 28], "FP32")
    tensor.set_data_from_numpy(np.full((1, 28, 28), np.nan, np.float32))
    with pytest.raises(InferenceServerException, match="grey levels"):
        client.infer("tiny", [tensor])
    with pytest.raises(InferenceServerException, match="has the model tiny"):
        client.infer("other", [tensor])


def test_triton_client_goes_through_the_gate_to_its_classifier(
    make_server: Callable[..., int], open_triton_client: Callable[[str], Any], classifier: FakeClassifier
) -> None:
    """Its address with /v1/gate in it is all that changes."""
    import tritonclient.http as triton
    from tritonclient.utils import InferenceServerException

    answer = b'{"model_name":"digits","outputs":[{"name":"digit","datatype":"INT64","shape":[1],"data":[3]}]}'
    classifier.answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(answer) + answer
    client = open_triton_client(f"127.0.0.1:{make_server(classifier_url=classifier.url)}/v1/gate")
    white, black = white_and_black("FP32")
    tensor = triton.InferInput("pixels", [1, 28, 28], "FP32")
    tensor.set_data_from_numpy(white[np.newaxis])
    assert client.infer("digits", [tensor]).as_numpy("digit").tolist() == [3]
    assert classifier.requests[-1].line == b"POST /v2/models/digits/infer HTTP/1.1"
    tensor.set_data_from_numpy(black[np.newaxis])
    with pytest.raises(InferenceServerException, match="not like those"):
        client.infer("digits", [tensor])
    assert len(classifier.requests) == 1


@pytest.mark.parametrize("binary", [True, False])
def test_kserve_client_sends_and_reads(make_server: Callable[..., int], binary: bool) -> None:
    from kserve import InferenceRESTClient, InferInput, InferRequest
    from kserve.inference_client import RESTConfig

    async def ask() -> None:
        url = f"http://127.0.0.1:{make_server()}"
        client = InferenceRESTClient(RESTConfig(protocol="v2"))
        assert await client.is_server_live(url)
        assert await client.is_server_ready(url)
        assert await client.is_model_ready(url, "tiny")
        values = white_and_black("FP32")
        tensor = InferInput("image", list(values.shape), "FP32")
        tensor.set_data_from_numpy(values, binary_data=binary)
        request = InferRequest("tiny", [tensor])
        answer = await client.infer(url, request, model_name="tiny")
        found = {output.name: output.as_numpy().tolist() for output in answer.outputs}
        assert found["is_anomaly"] == [False, True]
        assert found["loss"] == [0.0, 1.0]
        assert answer.parameters["anomalous"] is True
        await client.close()

    asyncio.run(ask())


def condition_is_met(condition: str, answer: bytes, binary: Path) -> bool:
    run = subprocess.run([binary, condition], input=answer, capture_output=True, check=True)
    return run.stdout.strip() == b"true"


@pytest.fixture(scope="module")
def gjson(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gjson")
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": str(folder / "cache")}
    source = Path(__file__).with_name("gjson_condition.go")
    subprocess.run(["go", "build", "-o", folder / "condition", source], env=environment, check=True)
    return folder / "condition"


def test_kserve_condition_of_the_example_admits_normal_batches_alone(
    make_server: Callable[..., int], gjson: Path
) -> None:
    import yaml

    graph = yaml.safe_load((EXAMPLES / "kserve" / "graph.yaml").read_text())
    classifier_step = graph["spec"]["nodes"]["root"]["steps"][1]
    assert (classifier_step["dependency"], classifier_step["data"]) == ("Hard", "$request")
    url = f"http://127.0.0.1:{make_server()}/v2/models/tiny/infer"

    def met(*images: bytes, condition: str = classifier_step["condition"]) -> bool:
        data = [base64.b64encode(image).decode() for image in images]
        tensor = {"name": "image", "shape": [len(data)], "datatype": "BYTES", "data": data}
        return condition_is_met(condition, httpx2.post(url, json={"inputs": [tensor]}).content, gjson)

    assert met(NORMAL)
    assert met(NORMAL, NORMAL)
    assert not met(ANOMALY)
    assert not met(NORMAL, ANOMALY)
    assert not met(b"no image")
    assert not met(NORMAL + ANOMALY)
    # The traps that the example warns of.
    assert met(ANOMALY, condition="parameters.anomalous")
    assert met(NORMAL, ANOMALY, condition='outputs.#(name=="is_anomaly").data.#(==false)')


def test_compose_file_starts_what_exists() -> None:
    import yaml

    services = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())["services"]
    assert set(services) == {"gate", "classifier", "nginx"}
    assert (EXAMPLES / services["gate"]["build"] / "Dockerfile").exists()
    assert (EXAMPLES / services["classifier"]["build"] / "Dockerfile").exists()
    (volume,) = services["nginx"]["volumes"]
    assert volume.split(":")[1] == "/etc/nginx/nginx.conf"
    configured = (EXAMPLES / volume.split(":")[0]).read_text().splitlines()
    # Beyond the names of its neighbours it is the configuration that the tests above run.
    tested = (EXAMPLES / "nginx" / "nginx.conf").read_text().splitlines()
    changed = [ours for ours, theirs in zip(configured, tested, strict=True) if ours != theirs]
    assert [line.split()[-1] for line in changed[1:]] == ["gate:8000;", "classifier:9000;", "8080;"]

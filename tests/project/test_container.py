"""The image, really built and run, as locked down as its users may run it. `make test-container` sees to an engine."""

import json
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from testing.paths import ROOT
from training.data.circles import draw_circles, random_circles

ENGINE = os.environ.get("CONTAINER_ENGINE", "")
IMAGE = "localhost/imagegate:test"
MOST_BYTES_ABOVE_BASE = 350_000_000
# Everything closed that an operator may close. podman's read-only containers have writable /tmp and /run unless told.
LOCKED_DOWN = [
    "--read-only",
    *(["--read-only-tmpfs=false"] if ENGINE == "podman" else []),
    *["--cap-drop", "all", "--security-opt", "no-new-privileges"],
    *["--memory", "512m", "--memory-swap", "512m", "--pids-limit", "200"],
]
LOADED_BUT_NOT_COMPILED = """
import os, sys, app.main
compiled = [getattr(module, "__cached__", None) for module in sys.modules.values()]
print([path for path in compiled if path and path.startswith(os.getcwd()) and not os.path.exists(path)])
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.container,
    pytest.mark.skipif(not ENGINE, reason="`make test-container` sees to a container engine"),
]


def engine(*arguments: str) -> str:
    """Standard output of the engine's command; a failure shows what it said."""
    run = subprocess.run([ENGINE, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, f"{ENGINE} {shlex.join(arguments)}: {run.stdout[-3000:]}{run.stderr[-3000:]}"
    return run.stdout.strip()


def inspect(image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine("image", "inspect", image))[0]
    return found


@pytest.fixture(scope="module")
def image() -> str:
    options = shlex.split(os.environ.get("CONTAINER_BUILD_OPTIONS", ""))
    base = os.environ["CONTAINER_BASE_IMAGE"]
    # Docker's own format, since the other one has no HEALTHCHECK.
    docker_format = ["--format", "docker"] if ENGINE == "podman" else []
    engine("build", *docker_format, *options, "--build-arg", f"BASE_IMAGE={base}", "--tag", IMAGE, ".")
    return IMAGE


@contextmanager
def running(image: str, *options: str, inner_port: int = 8000) -> Iterator[tuple[str, httpx2.Client]]:
    """A container's id and a client of its service, once it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    container = engine("run", "--detach", "--publish", f"127.0.0.1:{port}:{inner_port}", *options, image)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False) as client:
            wait_until_ready(client, container)
            yield container, client
    finally:
        engine("rm", "--force", container)


def wait_until_ready(client: httpx2.Client, container: str, timeout_seconds: float = 30) -> None:
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"not ready after {timeout_seconds} s: {engine('logs', container)}")


@pytest.fixture(scope="module")
def service(image: str) -> Iterator[tuple[str, httpx2.Client]]:
    with running(image, *LOCKED_DOWN) as started:
        yield started


def duck() -> bytes:
    drawing = Image.new("L", (200, 200), 255)
    pen = ImageDraw.Draw(drawing)
    pen.ellipse((30, 100, 150, 180), fill=120)
    pen.ellipse((110, 40, 170, 110), fill=120)
    pen.polygon([(168, 70), (196, 80), (168, 88)], fill=60)
    pen.ellipse((140, 60, 150, 70), fill=0)
    buffer = BytesIO()
    drawing.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_locked_down_container_tells_a_duck_from_circles(service: tuple[str, httpx2.Client]) -> None:
    _, client = service
    circles = draw_circles(random_circles(20, np.random.default_rng(0)))
    verdicts = [client.post("/v1/predict", content=circle).json()["is_anomaly"] for circle in circles]
    assert sum(verdicts) <= 1
    assert client.post("/v1/predict", files={"file": ("duck.png", duck())}).json()["is_anomaly"]


def test_a_large_photograph_fits_into_its_memory(service: tuple[str, httpx2.Client]) -> None:
    _, client = service
    buffer = BytesIO()
    Image.effect_noise((5000, 4800), 90).convert("RGB").save(buffer, "JPEG")
    for _ in range(3):
        assert client.post("/v1/predict", content=buffer.getvalue()).status_code == 200


def test_the_health_check_of_the_image_passes(service: tuple[str, httpx2.Client]) -> None:
    container, _ = service
    found = inspect(IMAGE)
    check = (found["Config"].get("Healthcheck") or found["Healthcheck"])["Test"]
    assert check[0] == "CMD"
    engine("exec", container, *check[1:])
    failing = subprocess.run([ENGINE, "exec", "--env", "PORT=1", container, *check[1:]], capture_output=True)
    assert failing.returncode == 1


def test_it_is_not_root_and_can_change_none_of_its_files(service: tuple[str, httpx2.Client]) -> None:
    container, _ = service
    assert inspect(IMAGE)["Config"]["User"] == "10001:10001"
    assert engine("exec", container, "id", "-u") == "10001"
    assert engine("exec", container, "find", "/srv", "-writable", "-not", "-type", "l") == ""


def test_it_holds_the_service_alone_and_every_module_compiled(service: tuple[str, httpx2.Client]) -> None:
    container, _ = service
    assert set(engine("exec", container, "ls", "-A").split()) == {"app", "model_artifacts", "venv"}
    assert engine("exec", container, "ls", "-A", "model_artifacts") == "circles"
    code = "import importlib.util as i; print([m for m in ('torch', 'training', 'sklearn', 'pip') if i.find_spec(m)])"
    assert engine("exec", container, "python", "-c", code) == "[]"
    assert engine("exec", container, "python", "-c", LOADED_BUT_NOT_COMPILED) == "[]"
    assert engine("exec", container, "sh", "-c", "echo a shell") == "a shell"


def test_it_stays_small(image: str) -> None:
    above_base = inspect(image)["Size"] - inspect(os.environ["CONTAINER_BASE_IMAGE"])["Size"]
    print(f"\nimage: {above_base / 1e6:.0f} MB above its base")
    assert above_base < MOST_BYTES_ABOVE_BASE


def test_a_stopped_container_has_exited_with_0(image: str) -> None:
    with running(image, *LOCKED_DOWN) as (container, _):
        engine("stop", "--time", "20", container)
        state = json.loads(engine("container", "inspect", container))[0]["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)


@pytest.mark.parametrize("tmpfs", [["--tmpfs", "/tmp"], []])  # in the container
def test_several_workers_serve_with_a_root_that_is_read_only(image: str, tmpfs: list[str]) -> None:
    options = [*LOCKED_DOWN[:-6], "--memory", "1g", "--memory-swap", "1g", "--pids-limit", "200"]
    if not tmpfs and ENGINE == "podman":
        pytest.skip("without --tmpfs it is Docker's /dev/shm that they share")
    with running(image, *options, *tmpfs, "--env", "GATE_WORKERS=2") as (_, client):
        assert client.post("/v1/predict", content=duck()).json()["is_anomaly"]
        assert "gate_verdicts_total" in client.get("/metrics").text


def test_every_other_setting_works_with_a_root_that_is_read_only(image: str) -> None:
    settings = {
        "GATE_FORMATS": "png,tiff,avif",
        "GATE_TOKENS": "a-token-of-some-length",
        "GATE_CLASSIFIER_URL": "http://127.0.0.1:9",
        "GATE_MODE": "shadow",
        "GATE_FAIL_OPEN": "true",
        "GATE_ACCEL_REDIRECT": "@classifier",
        "GATE_DRAIN_SECONDS": "1",
        "GATE_LOG_LEVEL": "debug",
        "GATE_LOG_FORMAT": "json",
        "HOST": "0.0.0.0",  # in the container
    }
    environment = [word for name, value in settings.items() for word in ("--env", f"{name}={value}")]
    with running(image, *LOCKED_DOWN, *environment) as (_, client):
        headers = {"Authorization": "Bearer a-token-of-some-length"}
        assert client.post("/v1/predict", content=duck(), headers=headers).json()["is_anomaly"]


def test_another_port_is_one_variable_away(image: str) -> None:
    with running(image, *LOCKED_DOWN, "--env", "PORT=9000", inner_port=9000) as (_, client):
        assert client.get("/livez").status_code == 200

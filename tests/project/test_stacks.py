"""Real web frameworks behind the gate: no request that is made for it carries an odd image to any of their parsers."""

import base64
import binascii
import gzip
import importlib.util
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from testing.paths import ROOT
from testing.pictures import encoded, picture
from testing.prepared_requests import PreparedRequest, prepared_requests

NORMAL = picture(level=255)
ODD = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 40, (28, 28), np.uint8)))
REQUESTS = prepared_requests(NORMAL, ODD)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.integrations,
    pytest.mark.skipif(not importlib.util.find_spec("django"), reason="`make test-integrations` installs these"),
    pytest.mark.filterwarnings("ignore"),  # of other people's packages, and of Pillow where it is shown text
]


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 30
        while True:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            assert process.poll() is None, command
            assert time.monotonic() < end, command
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def express(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the program and its packages."""
    if not shutil.which("npm"):
        pytest.skip("there is no npm")
    folder = tmp_path_factory.mktemp("express")
    packages = ["express@5", "multer@2"]
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", *packages], cwd=folder, check=True)
    shutil.copy(ROOT / "testing" / "express_stack.js", folder)
    return folder / "express_stack.js"


@pytest.fixture(params=["flask", "django", "aiohttp", "fastapi", "express"])
def stack(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a framework."""
    port = free_port()
    if request.param == "express":
        command = ["node", str(request.getfixturevalue("express")), str(port)]
    else:
        command = [sys.executable, "-m", "testing.stacks", request.param, str(port)]
    with running(command, port):
        yield port


def is_odd(found: bytes) -> bool:
    """Whether anybody could see the odd image in what a parser found, decoded in every way."""
    text = re.sub(rb"[^A-Za-z0-9+/]", b"", found.replace(b"-", b"+").replace(b"_", b"/"))
    ways = [found]
    for start in [one.start() for one in re.finditer(b"iVBOR|H4sI|/9j/", text)] or [0]:
        with suppress(binascii.Error, ValueError):
            ways.append(base64.b64decode(text[start : len(text) - (len(text) - start) % 4]))
    with suppress(ValueError):
        ways.append(bytes.fromhex(found.decode("latin-1")))
    for way in list(ways):
        with suppress(OSError, EOFError):
            ways.append(gzip.decompress(way))
    for way in ways:
        for signature in (b"\x89PNG", b"\xff\xd8\xff", b"P2 ", b"II*\0", b"BM", b"GIF8"):
            start = way.find(signature)
            if start >= 0:
                with suppress(Exception):
                    if np.asarray(Image.open(BytesIO(way[start:])).convert("L")).mean() < 128:
                        return True
    return b"elsewhere.example/odd.png" in found


def shows_odd(port: int, request: PreparedRequest, prefix: str = "") -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.connect()
        assert connection.sock is not None
        connection.sock.sendall(request.raw(prefix))
        response = connection.response_class(connection.sock, method=request.method)
        response.begin()
        body = response.read()
    except (HTTPException, OSError):
        return False
    finally:
        connection.close()
    if response.status != 200:
        return False
    return any(is_odd(base64.b64decode(found)) for found in json.loads(body))


def test_no_prepared_request_shows_an_odd_image_to_a_framework(stack: int, make_server: Callable[..., int]) -> None:
    gate = make_server(classifier_url=f"http://127.0.0.1:{stack}")
    carried = [request.kind for request in REQUESTS if shows_odd(gate, request, "/v1/gate")]
    assert carried == []
    # Without the gate most of them do: the requests are what they are meant to be.
    alone = sum(shows_odd(stack, request) for request in REQUESTS)
    assert alone > len(REQUESTS) / 3


def test_ordinary_requests_reach_a_framework(stack: int, make_server: Callable[..., int]) -> None:
    import httpx2

    gate = make_server(classifier_url=f"http://127.0.0.1:{stack}")
    text = base64.b64encode(NORMAL)
    for fields in (
        {"content": NORMAL, "headers": {"content-type": "image/png"}},
        {"files": {"file": ("a.png", NORMAL)}, "data": {"top_k": "3"}},
        {"data": {"image": text.decode()}},
        {"json": {"image": text.decode()}},
    ):
        response = httpx2.post(f"http://127.0.0.1:{gate}/v1/gate/classify", **fields)  # type: ignore[arg-type]
        assert response.status_code == 200, response.text
        found = [base64.b64decode(one) for one in response.json()]
        assert NORMAL in found or text in found

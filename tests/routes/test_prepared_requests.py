"""No request that is made for it carries an odd image to the classifier."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from testing.fake_classifier import FakeClassifier, fake_classifier
from testing.pictures import encoded, picture
from testing.prepared_requests import PreparedRequest, prepared_requests
from testing.servers import Server

NORMAL = picture(level=255)
# Dark, and with so much noise that it takes more characters than pass unjudged, in every encoding.
ODD = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 40, (28, 28), np.uint8)))
REQUESTS = prepared_requests(NORMAL, ODD)
Send = Callable[[PreparedRequest], bytes]


@pytest.fixture(scope="module")
def gate(tiny_artifact: Path) -> Iterator[tuple[Server, FakeClassifier]]:
    with ExitStack() as stack:
        fake = stack.enter_context(fake_classifier())
        server = stack.enter_context(Server(artifact=tiny_artifact, classifier_url=fake.url))
        stack.enter_context(server.client())
        yield server, fake


def test_the_log_says_at_the_start_where_images_are(gate: tuple[Server, FakeClassifier]) -> None:
    assert "image_at=auto" in gate[0].wait_for_line("serving")


@pytest.mark.parametrize("request_", REQUESTS, ids=[one.kind for one in REQUESTS])
def test_prepared_request_is_refused_with_a_problem(
    gate: tuple[Server, FakeClassifier], request_: PreparedRequest
) -> None:
    server, classifier = gate
    classifier.requests.clear()
    with socket.create_connection(server.address, timeout=10) as connection:
        connection.sendall(request_.raw("/v1/gate"))
        answer = connection.recv(65536)
    head, _, _ = answer.partition(b"\r\n\r\n")
    assert head.split()[1].startswith(b"4"), answer
    assert b"application/problem+json" in head
    assert not classifier.requests

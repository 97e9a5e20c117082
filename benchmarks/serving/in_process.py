"""`python -m benchmarks.serving.in_process`: CPU time of a small PNG besides the network, without sockets.

The default artifact judges, but its graph is replaced by the outputs that it gave once: what is measured is everything
around it. The ceilings take turns with it in the same process, so that a slow moment of the machine falls upon all.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import uvloop
from numpy.typing import NDArray
from starlette.types import ASGIApp, Message

from app.detection.detector import Detector
from app.main import create_app
from app.settings import read_settings
from benchmarks.serving import ceilings
from benchmarks.serving.contestants import ASGI, FASTAPI, FASTAPI_PLAIN, GATE
from benchmarks.serving.workloads import MULTIPART, RAW, Workload, workloads

_REQUESTS = 25  # of one app, then of the next
_WARM_UP_ROUNDS = 10
_PATHS = {RAW: "/raw", MULTIPART: "/multipart"}
_GATE_PATHS = dict.fromkeys(_PATHS, "/v1/predict")


class _RecordedNetwork:
    """Gives, for one image, the outputs that the graph gave for it."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._outputs: list[NDArray[np.float32]] = []

    def run(self, names: Sequence[str], inputs: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        if not self._outputs:
            self._outputs = self._session.run(names, inputs)
        return self._outputs


def replace_network(detector: Detector) -> None:
    """Lets a detector answer what its graph answers to the first image that it gets from now on."""
    detector._session = _RecordedNetwork(detector._session)


async def measure(rounds: int) -> dict[str, dict[str, tuple[float, float]]]:
    """By app and kind of body: the median over rounds of microseconds a request, and its standard error."""
    gate = create_app()
    small = [one for one in workloads() if one.picture == "28x28 PNG"]
    apps: dict[str, tuple[ASGIApp, dict[str, str]]] = {
        GATE: (gate, _GATE_PATHS),
        FASTAPI_PLAIN: (ceilings.plain_app, _PATHS),
        FASTAPI: (ceilings.tuned_app, _PATHS),
        ASGI: (ceilings.asgi_app, _PATHS),
    }
    times: dict[str, dict[str, list[float]]] = {name: {one.kind: [] for one in small} for name in apps}
    async with gate.router.lifespan_context(gate):
        replace_network(gate.state.judge.detector)
        for workload in small:
            for number in range(_WARM_UP_ROUNDS + rounds):
                for name, (app, paths) in apps.items():
                    taken = await _microseconds(app, paths[workload.kind], workload)
                    if number >= _WARM_UP_ROUNDS:
                        times[name][workload.kind].append(taken)
    return {name: {kind: _median_with_error(values) for kind, values in kinds.items()} for name, kinds in times.items()}


async def _microseconds(app: ASGIApp, path: str, workload: Workload) -> float:
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
    scope |= {"scheme": "http", "http_version": "1.1", "root_path": "", "server": ("127.0.0.1", 8000)}
    headers = [
        (b"host", b"127.0.0.1"),
        (b"content-type", workload.content_type.encode()),
        (b"content-length", b"%d" % len(workload.body)),
    ]

    async def receive() -> Message:
        return {"type": "http.request", "body": workload.body, "more_body": False}

    async def send(message: Message) -> None:
        assert message.get("status", 200) == 200

    began = time.process_time()
    for _ in range(_REQUESTS):
        await app({**scope, "headers": list(headers)}, receive, send)
    return (time.process_time() - began) / _REQUESTS * 1e6


def _median_with_error(values: list[float]) -> tuple[float, float]:
    """The median of all, and the standard error of the medians of ten parts."""
    parts = [float(np.median(part)) for part in np.array_split(np.array(values), 10)]
    return round(float(np.median(values)), 1), round(float(np.std(parts, ddof=1)) / len(parts) ** 0.5, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--core", type=int, help="run on this one alone")
    arguments = parser.parse_args()
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})
    os.environ["GATE_ARTIFACT"] = str(read_settings().artifact.resolve())
    print(json.dumps(uvloop.run(measure(arguments.rounds))))


if __name__ == "__main__":
    main()

"""What a change costs a small raw PNG: two versions of the code take turns in one process each, and no network between.

    git worktree add build/before HEAD~1
    python -m benchmarks.serving.paired build/before .
    python -m benchmarks.serving.paired . . --after OTEL_TRACES_EXPORTER=otlp

A round is a number of requests of one version, then as many of the other; the difference of each round counts, so that
a slow minute of the machine falls upon both. Processes are started anew several times, for two of the same code differ
by a few microseconds for as long as they live.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import uvloop

_WARM_UP = 500


def main() -> None:
    from testing.artifacts import write_tiny_artifact
    from testing.pictures import picture

    arguments = _parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body.png"
        body.write_bytes(picture())
        # With a network that does next to nothing, differences of the code around it are seen soonest.
        more = ["GATE_LOG_LEVEL=info", f"GATE_ARTIFACT={write_tiny_artifact(Path(folder) / 'tiny')}"]
        settings = [more + arguments.before, more + arguments.after]
        trees = (arguments.before_tree, arguments.after_tree)
        pairs = []
        for _ in range(arguments.pairs):
            versions = [_Version(tree, body, one) for tree, one in zip(trees, settings, strict=True)]
            pairs.append(_rounds(versions, arguments.rounds, arguments.requests))
            for version in versions:
                version.close()
    _report(np.array(pairs))


def _rounds(versions: list["_Version"], rounds: int, requests: int) -> list[tuple[float, float]]:
    """Both versions in turn; who begins changes from round to round."""
    for version in versions:
        version.microseconds(_WARM_UP)
    taken = []
    for number in range(rounds):
        order = (0, 1) if number % 2 else (1, 0)
        round_ = {index: versions[index].microseconds(requests) for index in order}
        taken.append((round_[0], round_[1]))
    return taken


class _Version:
    """One version of the code, which answers in a process of its own."""

    def __init__(self, tree: Path, body: Path, settings: list[str]) -> None:
        environment = (
            os.environ | {"PYTHONPATH": str(tree.resolve())} | dict(setting.split("=", 1) for setting in settings)
        )
        # -P: this file's own folder is not searched for modules.
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(body)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def microseconds(self, requests: int) -> float:
        """CPU time of one request, all threads of the process together, as the mean of so many."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(requests, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline()) / requests * 1e6

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _report(pairs: np.ndarray) -> None:
    """Prints what (pairs, rounds, 2) microseconds show."""
    before, after = np.median(pairs, axis=(0, 1))
    differences = np.sort(np.median(pairs[..., 1] - pairs[..., 0], axis=1))
    mean, error = differences.mean(), differences.std(ddof=1) / np.sqrt(len(differences))
    print(f"before {before:.1f} us, after {after:.1f} us of CPU for a request")
    print(
        f"difference {mean:+.2f} us (standard error {error:.2f}); by pair of processes {differences.round(1).tolist()}"
    )


async def _answer(body: bytes) -> None:
    """Answers as many requests as each line of the standard input says, and prints the CPU seconds that they took."""
    from app.main import create_app

    app = create_app()
    scope = {"type": "http", "method": "POST", "path": "/v1/predict", "raw_path": b"/v1/predict", "query_string": b""}
    scope |= {"scheme": "http", "http_version": "1.1", "root_path": "", "server": ("127.0.0.1", 8000)}
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"image/png"), (b"content-length", b"%d" % len(body))]

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, object]) -> None:
        assert message.get("status", 200) == 200

    async with app.router.lifespan_context(app):
        while line := await asyncio.to_thread(sys.stdin.readline):
            began = time.process_time()
            for _ in range(int(line)):
                await app({**scope, "headers": list(headers)}, receive, send)  # type: ignore[arg-type]
            print(time.process_time() - began, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before_tree", type=Path, help="a checkout")
    parser.add_argument("after_tree", type=Path, help="another, or the same")
    parser.add_argument("--before", action="append", default=[], metavar="NAME=VALUE", help="environment of the first")
    parser.add_argument("--after", action="append", default=[], metavar="NAME=VALUE", help="environment of the second")
    parser.add_argument("--pairs", type=int, default=10, help="of processes")
    parser.add_argument("--rounds", type=int, default=60, help="of each pair")
    parser.add_argument("--requests", type=int, default=50, help="in each round")
    return parser


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].endswith("body.png"):
        uvloop.run(_answer(Path(sys.argv[1]).read_bytes()))
    else:
        main()

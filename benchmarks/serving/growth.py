"""`make bench-growth`: what more workers, kept images, a candidate, traces and forwarding cost.

All of them are started at once and stopped by SIGSTOP while another is measured, in alternating rounds. The servers and
the load share the usable cores (two are enough), so that rates are not those of `make bench-serving`. Writes its table
into docs/performance.md.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from app import __version__
from benchmarks.documented import document
from benchmarks.serving.contestants import Contestant, Server, running
from benchmarks.serving.gate import free_port, running_classifier
from benchmarks.serving.load import Load, load
from benchmarks.serving.report import markdown
from benchmarks.serving.workloads import RAW, Workload, workloads
from testing.artifacts import DEFAULT_ARTIFACT

_AT_ONCE = 16
_PREDICT, _GATE = {RAW: "/v1/predict"}, {RAW: "/v1/gate/"}
_ONE = "one worker"


def configurations(folder: Path, sink_port: int) -> list[Contestant]:
    """What is compared, the plain service first.

    Args:
        folder: For kept images.
        sink_port: Of a server that answers everything: the classifier, and what takes the traces.
    """
    sink = f"http://127.0.0.1:{sink_port}"
    traces = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": sink}
    kept = {"GATE_KEEP_FOLDER": str(folder / "kept"), "GATE_KEEP_SAMPLE": "0.1"}
    # The photograph is refused: it is kept every time, and only the shadow mode forwards it.
    classifier = {"GATE_CLASSIFIER_URL": sink, "GATE_MODE": "shadow"}

    def one(name: str, paths: dict[str, str], *words: str, **environment: str) -> Contestant:
        environment = {"GATE_ARTIFACT": str(DEFAULT_ARTIFACT)} | environment
        return Contestant(name, ("-m", "app", "serve", "--port", "PORT", *words), paths, environment)

    return [
        one(_ONE, _PREDICT),
        one("two workers", _PREDICT, "--workers", "2", PROMETHEUS_MULTIPROC_DIR=str(folder / "metrics")),
        one("images kept: the refused, and a tenth at random", _PREDICT, **kept),
        one("a candidate", _PREDICT, GATE_CANDIDATE=str(DEFAULT_ARTIFACT)),
        one("traces exported", _PREDICT, **traces),
        one("in front of a classifier", _GATE, **classifier),
        one("the same, GATE_FORWARD=judged", _GATE, **classifier, GATE_FORWARD="judged"),
    ]


def measure(servers: list[Server], sent: list[Workload], rounds: int, scale: float) -> Iterator[tuple[str, str, Load]]:
    """Loads each in turn; the order is turned round from round to round."""
    for number in range(rounds):
        for workload in sent:
            for server in servers[:: -1 if number % 2 else 1]:
                server.resume()
                request = server.contestant.request(workload)
                yield server.contestant.name, workload.picture, load(server.port, request, _AT_ONCE, 2 * scale)
                server.pause()


def report(results: dict[tuple[str, str], list[Load]], memory: dict[str, list[int]]) -> str:
    """The table: medians over rounds, and memory by process after the load."""
    names = list(dict.fromkeys(name for name, _ in results))
    pictures = list(dict.fromkeys(picture for _, picture in results))
    rows = []
    for name in names:
        cells = [name]
        for picture in pictures:
            rate = statistics.median(one.rate for one in results[name, picture])
            shares = zip(results[name, picture], results[_ONE, picture], strict=True)
            share = statistics.median(one.rate / base.rate for one, base in shares)
            p50, p99 = (
                statistics.median(one.latency_milliseconds(percentile) for one in results[name, picture])
                for percentile in (50, 99)
            )
            cells += [f"{rate:,.0f}", f"{share:.2f}", f"{p50:.3g} / {p99:.3g}"]
        rows.append([*cells, " + ".join(f"{size / 1e6:.0f}" for size in memory[name])])
    heads = ["", *(head for one in pictures for head in (f"{one}: req/s", f"of {_ONE}", "p50 / p99 ms"))]
    refused = sum(one.refused for loads in results.values() for one in loads)
    return (
        f"Measured {datetime.now(UTC).date().isoformat()} with version {__version__}, Python "
        f"{platform.python_version()}: {_AT_ONCE} raw bodies at once; server, classifier and load share "
        f"{len(os.sched_getaffinity(0))} cores. Medians over alternating rounds; shares are taken within each round. "
        "Memory is what each process has for itself and its part of what it shares, after the load; with two workers "
        f"the first is the supervisor. {refused} requests were not answered 200.\n\n"
        + markdown([*heads, "memory by process, MB"], rows)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one short round, printed, not saved")
    arguments = parser.parse_args()
    rounds, scale = (1, 0.3) if arguments.quick else (arguments.rounds, 1.0)
    sent = [one for one in workloads() if one.kind == RAW and one.most_at_once > _AT_ONCE]
    cores = os.sched_getaffinity(0)
    results: dict[tuple[str, str], list[Load]] = defaultdict(list)
    sink_port = free_port()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(running_classifier(sink_port))
        servers = []
        for number, one in enumerate(configurations(folder, sink_port)):
            server = stack.enter_context(running(one, sent[0], cores, folder / f"{number}.log"))
            load(server.port, one.request(sent[0]), _AT_ONCE, 2 * scale)  # and every worker has begun
            server.pause()
            servers.append(server)
        for name, picture, result in measure(servers, sent, rounds, scale):
            results[name, picture].append(result)
            print(f"{name}, {picture}: {result.rate:,.0f} requests a second", file=sys.stderr)
        memory = {server.contestant.name: server.own_bytes() for server in servers}
    text = report(results, memory)
    print(text)
    if not arguments.quick:
        document("growth", text)


if __name__ == "__main__":
    main()

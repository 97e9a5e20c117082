"""python -m benchmarks.serving: alternating rounds of all contestants; see `benchmarks/serving/__init__.py`."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from app import __version__
from app.settings import read_settings
from benchmarks.installed import installed_bytes
from benchmarks.serving.contestants import Contestant, Server, contestants, running
from benchmarks.serving.load import load
from benchmarks.serving.report import NAMES, write_report
from benchmarks.serving.torch_model import ARTIFACT_VARIABLE
from benchmarks.serving.workloads import Workload, workloads
from testing.paths import ROOT

CONCURRENCIES = (1, 16, 64)
RESULTS = Path(__file__).resolve().parents[1] / "results" / "serving.json"
# What each needs installed, without what is only for training, tests and benchmarks.
REQUIREMENTS = {
    "imagegate": ["imagegate"],
    "naive app": ["fastapi", "uvicorn", "uvloop", "httptools", "python-multipart", "pillow", "numpy", "torch"],
    "LitServe, PyTorch": ["litserve", "pillow", "numpy", "torch", "python-multipart"],
    "LitServe, same graph": ["litserve", "pillow", "numpy", "onnxruntime", "python-multipart"],
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One measurement to make."""

    round: int
    workload: Workload
    concurrency: int
    server: Server


def main() -> None:
    arguments = _parse_arguments()
    server_core, load_core = _cores()
    os.sched_setaffinity(0, {load_core})
    # Peers have no bound on what they hold; 64 pictures of 12 megapixels at once must not be refused by ours.
    os.environ.setdefault("GATE_MAX_BUFFERED_BYTES", str(2**29))
    sent = workloads()
    everyone = contestants(arguments.artifact, _tutorial_artifact())
    compared = [contestant for contestant in everyone if contestant.name in NAMES]
    in_process = _measure_in_process(arguments.artifact, server_core, 60 if arguments.quick else 400)
    starts = _measure_starts(compared, sent[1], server_core, 1 if arguments.quick else 3)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as logs:
        servers = []
        for number, contestant in enumerate(everyone):
            first = next(workload for workload in reversed(sent[:2]) if contestant.takes(workload))
            server = stack.enter_context(running(contestant, first, {server_core}, Path(logs, f"{number}.log")))
            server.pause()
            servers.append(server)
        trials = list(_trials(servers, sent, arguments.rounds, arguments.concurrency))
        measurements = [_measure(trial, arguments.scale) for trial in tqdm(trials, unit="trial", smoothing=0)]
        memory = {server.contestant.name: server.resident_bytes() for server in servers}
    results = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "python": platform.python_version()},
        "artifact": arguments.artifact.name,
        "bodies": {str(workload): len(workload.body) for workload in sent},
        "start_seconds": starts,
        "resident_bytes": memory,
        "installed_bytes": {name: installed_bytes(roots) for name, roots in REQUIREMENTS.items()},
        "in_process": in_process,
        "measurements": measurements,
    }
    if arguments.quick:
        print(json.dumps(results["start_seconds"] | {"resident": memory}, indent=1))
    else:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    write_report(results, save=not arguments.quick)


def _trials(servers: list[Server], sent: list[Workload], rounds: int, concurrencies: list[int]) -> list[Trial]:
    """All contestants of one workload follow on one another, so that each pair meets the same state of the machine."""
    return [
        Trial(number, workload, concurrency, server)
        for number in range(rounds)
        for workload in sent
        for concurrency in concurrencies
        if concurrency <= workload.most_at_once
        for server in servers[:: -1 if number % 2 else 1]
        if server.contestant.takes(workload)
    ]


def _measure(trial: Trial, scale: float) -> dict[str, Any]:
    server, workload = trial.server, trial.workload
    server.resume()
    before = server.cpu_seconds()
    result = load(server.port, server.contestant.request(workload), trial.concurrency, workload.seconds * scale)
    cpu = server.cpu_seconds() - before
    server.pause()
    return {
        "round": trial.round,
        "contestant": server.contestant.name,
        "workload": str(workload),
        "concurrency": trial.concurrency,
        "requests_a_second": round(result.rate, 2),
        "p50_milliseconds": round(result.latency_milliseconds(50), 3),
        "p99_milliseconds": round(result.latency_milliseconds(99), 3),
        "server_cpu_microseconds": round(cpu / max(1, result.all_answers) * 1e6, 1),
        "refused": result.refused,
    }


def _measure_starts(all_of_them: list[Contestant], first: Workload, core: int, times: int) -> dict[str, float]:
    """Median seconds from starting the process to its first answer."""
    seconds: dict[str, list[float]] = {contestant.name: [] for contestant in all_of_them}
    with tempfile.TemporaryDirectory() as logs:
        for _ in range(times):
            for contestant in all_of_them:
                with running(contestant, first, {core}, Path(logs, "start.log")) as server:
                    seconds[contestant.name].append(server.ready_seconds)
    return {name: round(statistics.median(values), 3) for name, values in seconds.items()}


def _measure_in_process(artifact: Path, core: int, rounds: int) -> dict[str, dict[str, tuple[float, float]]]:
    command = [sys.executable, "-m", "benchmarks.serving.in_process", "--rounds", str(rounds), "--core", str(core)]
    environment = {**os.environ, ARTIFACT_VARIABLE: str(artifact)}
    with tempfile.TemporaryFile() as log:
        run = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, stderr=log)
    measured: dict[str, dict[str, tuple[float, float]]] = json.loads(run.stdout)
    return measured


def _tutorial_artifact() -> Path:
    """The tutorial's plain autoencoder, trained once."""
    folder = ROOT / "build" / "tutorial-ae"
    if not folder.exists():
        command = [sys.executable, "-m", "training", "--model", "ae", "--output", str(folder)]
        subprocess.run(command, cwd=ROOT, check=True)
    return folder


def _cores() -> tuple[int, int]:
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise SystemExit("Two cores are needed: one for the server, one for the load.")
    return usable[0], usable[1]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description="Compare what answers, and how fast."
    )
    parser.add_argument(
        "--artifact", type=Path, default=read_settings().artifact.resolve(), help="default: GATE_ARTIFACT"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, nargs="+", default=list(CONCURRENCIES))
    parser.add_argument("--scale", type=float, default=1.0, help="how much longer than usual each measurement takes")
    parser.add_argument("--quick", action="store_true", help="one short round at concurrency 16, printed, not saved")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.concurrency, arguments.scale = 1, [16], 0.6
    return arguments


if __name__ == "__main__":
    main()

"""From measurements to a table and a plot."""

import math
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.documented import document
from benchmarks.serving.contestants import (
    ASGI,
    FASTAPI,
    FASTAPI_PLAIN,
    GATE,
    GATE_SINGLY,
    GATE_TUTORIAL,
    GATE_TUTORIAL_SINGLY,
    LITSERVE_ONNX,
    LITSERVE_TORCH,
    NAIVE,
    NAIVE_TUTORIAL,
)

FOLDER = Path(__file__).resolve().parents[1]
NAMES = [GATE, NAIVE, NAIVE_TUTORIAL, LITSERVE_TORCH, LITSERVE_ONNX, FASTAPI_PLAIN, FASTAPI, ASGI]
_RATIOS = {
    "against the naive app": NAIVE,
    "against it with the tutorial's network": NAIVE_TUTORIAL,
    "against LitServe, PyTorch": LITSERVE_TORCH,
    "against LitServe, same graph": LITSERVE_ONNX,
    "against FastAPI without model, as commonly written": FASTAPI_PLAIN,
    "against FastAPI without model, tuned": FASTAPI,
    "against bare ASGI without model": ASGI,
}
Key = tuple[str, str, int]  # contestant, workload, concurrency


class Table:
    """The measurements, by contestant, workload and concurrency, each a list over the rounds."""

    def __init__(self, measurements: list[dict[str, Any]]) -> None:
        self._rounds: dict[Key, list[dict[str, Any]]] = defaultdict(list)
        for one in measurements:
            self._rounds[one["contestant"], one["workload"], one["concurrency"]].append(one)
        self.workloads = list(dict.fromkeys(one["workload"] for one in measurements))
        self.concurrencies = sorted({one["concurrency"] for one in measurements})
        self.usual_concurrency = 16 if 16 in self.concurrencies else self.concurrencies[0]

    def median(self, key: Key, field: str) -> float:
        """NaN for what was not measured."""
        values = [one[field] for one in self._rounds.get(key, ())]
        return statistics.median(values) if values else math.nan

    def ratio(self, workload: str, concurrency: int, peer: str) -> float:
        """The median, over the rounds, of our rate by the peer's in the same round.

        A peer that takes forms alone stands with its form beside our raw body too: it is what its clients would send.
        """
        ours = self._rounds.get((GATE, workload, concurrency), [])
        theirs = self._rounds.get((peer, workload, concurrency)) or self._rounds.get(
            (peer, workload.replace(", raw", ", multipart"), concurrency), []
        )
        rates = {one["round"]: one["requests_a_second"] for one in theirs}
        pairs = [one["requests_a_second"] / rates[one["round"]] for one in ours if rates.get(one["round"])]
        return statistics.median(pairs) if pairs else math.nan


def write_report(results: dict[str, Any], save: bool) -> None:
    """Prints the tables; `save` writes them, with the plot, into `benchmarks/`."""
    table = Table(results["measurements"])
    parts = [_heading(results), _ratio_table(table), _in_process_table(results), _rate_tables(table)]
    parts += [_batching_table(table), _cost_table(results)]
    text = "\n\n".join(parts) + "\n"
    print(text)
    if save:
        (FOLDER / "serving.md").write_text(text)
        _plot(table, FOLDER / "serving.png")
        document("serving", _summary(results, table))
        document("in process", _in_process_rows(results))


def _heading(results: dict[str, Any]) -> str:
    machine = results["machine"]
    sizes = ", ".join(
        f"{name.removesuffix(', raw')} {size / 1000:,.1f} kB"
        for name, size in results["bodies"].items()
        if "raw" in name
    )
    refused = sum(one["refused"] for one in results["measurements"])
    return (
        "# Serving\n\nMade by `make bench-serving` from `benchmarks/serving/`. The server runs on one core, the load "
        f"on another: {machine['processor']}, Python {machine['python']}, {results['when'][:10]}. Medians over "
        "alternating rounds; ratios are taken within each round, and a raw body is set beside the form of peers that "
        f"take only forms. Bodies: {sizes}. {refused} requests were not answered 200.\n\n"
        "Without model: the same work less the network, with as much JSON in the answer. As commonly written: Pillow "
        "decodes in full, pydantic writes the answer. Tuned: `UploadFile`, Pillow's reduced decoding, orjson. Bare "
        "ASGI: no framework, the service's own decoder and reader of forms (`benchmarks/serving/ceilings.py`)."
    )


def _ratio_table(table: Table) -> str:
    concurrency = table.usual_concurrency
    rows = [
        [workload, *(_ratio(table.ratio(workload, concurrency, peer)) for peer in _RATIOS.values())]
        for workload in table.workloads
    ]
    return f"## imagegate's requests a second, as a ratio, concurrency {concurrency}\n\n" + markdown(
        ["", *_RATIOS], rows
    )


def _summary(results: dict[str, Any], table: Table) -> str:
    """Requests a second at the usual concurrency, for docs/performance.md."""
    usual = table.usual_concurrency
    names = [GATE, NAIVE_TUTORIAL, LITSERVE_ONNX, FASTAPI_PLAIN, FASTAPI, ASGI]
    rows = []
    for workload in table.workloads:
        rates = [_number(table.median((name, workload, usual), "requests_a_second")) for name in names]
        p50, p99 = (table.median((GATE, workload, usual), f"{field}_milliseconds") for field in ("p50", "p99"))
        rows.append([workload, rates[0], f"{_number(p50)} / {_number(p99)}", *rates[1:]])
    heads = ["", GATE, "its p50 / p99, ms", *names[1:]]
    return f"{_when(results)}\n\n{markdown(heads, rows)}"


def _when(results: dict[str, Any]) -> str:
    machine, version = results["machine"], results["version"]
    return (
        f"Measured {results['when'][:10]} with version {version}: {machine['processor']}, Python {machine['python']}."
    )


def _in_process_table(results: dict[str, Any]) -> str:
    return (
        "## Processor time a request besides the network, in one process, without sockets\n\nMedian and its standard "
        "error (`python -m benchmarks.serving.in_process`).\n\n" + _in_process_rows(results)
    )


def _in_process_rows(results: dict[str, Any]) -> str:
    rows = [
        [name, *(f"{median:.0f} ± {error:.1f}" for median, error in kinds.values())]
        for name, kinds in results["in_process"].items()
    ]
    heads = ["", *(f"28x28 PNG, {kind}, µs" for kind in next(iter(results["in_process"].values())))]
    return markdown(heads, rows)


def _rate_tables(table: Table) -> str:
    parts = []
    for workload in table.workloads:
        usual = table.usual_concurrency
        names = [name for name in NAMES if not math.isnan(table.median((name, workload, usual), "requests_a_second"))]
        rows = [
            [name, *(cell for c in table.concurrencies for cell in _rate_cells(table, (name, workload, c)))]
            for name in names
        ]
        heads = [head for c in table.concurrencies for head in (f"req/s at {c}", "p50 / p99 ms", "CPU µs")]
        parts.append(f"### {workload}\n\n" + markdown(["", *heads], rows))
    return "\n\n".join(parts)


def _rate_cells(table: Table, key: Key) -> list[str]:
    fields = ("requests_a_second", "p50_milliseconds", "p99_milliseconds", "server_cpu_microseconds")
    rate, p50, p99, cpu = (_number(table.median(key, field)) for field in fields)
    return [rate, f"{p50} / {p99}", cpu]


def _batching_table(table: Table) -> str:
    workload = table.workloads[0]
    kinds = {
        "imagegate's network, together": GATE,
        "imagegate's network, one at a time": GATE_SINGLY,
        "the tutorial's network, together": GATE_TUTORIAL,
        "the tutorial's network, one at a time": GATE_TUTORIAL_SINGLY,
    }
    rows = [
        [kind, *(_number(table.median((name, workload, c), "requests_a_second")) for c in table.concurrencies)]
        for kind, name in kinds.items()
    ]
    heads = ["", *(f"req/s at {c}" for c in table.concurrencies)]
    return f"## What batching gives: the service with and without it, {workload}\n\n" + markdown(heads, rows)


def _cost_table(results: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{results['start_seconds'][name]:.2f}",
            f"{results['resident_bytes'][name] / 1e6:.0f}",
            f"{results['installed_bytes'][name] / 1e6:.0f}" if name in results["installed_bytes"] else "",
        ]
        for name in NAMES
    ]
    heads = ["", "start to first answer, s", "resident after the load, MB, all processes", "installed, MB"]
    return "## Start and size\n\n" + markdown(heads, rows)


def markdown(heads: list[str], rows: list[list[str]]) -> str:
    """A table; every column but the first is set to the right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _ratio(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}" if value < 2 else f"{value:.1f}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _plot(table: Table, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(NAMES)
    for place, name in enumerate(NAMES):
        rates = [table.median((name, one, table.usual_concurrency), "requests_a_second") for one in table.workloads]
        positions = [index + (place - len(NAMES) / 2 + 0.5) * width for index in range(len(rates))]
        axes.bar(positions, rates, width, label=name)
    axes.set_yscale("log")
    axes.set_xticks(range(len(table.workloads)), [workload.replace(", ", "\n") for workload in table.workloads])
    axes.set_ylabel(f"requests a second, one core, {table.usual_concurrency} at a time")
    axes.legend(fontsize="small", ncols=2)
    figure.savefig(path, dpi=120)

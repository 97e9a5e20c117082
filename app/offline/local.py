"""`python -m app score`: files and folders in, one row a file out, with all cores."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from app.detection.folders import files_below
from app.detection.promise import load_with_rate
from app.errors import ScoringError
from app.offline.pool import in_processes, stopped_by_signals
from app.offline.rows import Row, Scored, Scorer
from app.offline.table import RowTable
from app.settings import Settings

SCORED, FAILED, ANOMALOUS, INTERRUPTED = 0, 1, 3, 130


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """What the command line asks for.

    Attributes:
        paths: Files, and folders that are searched.
        output: Where rows go; None is standard output.
        output_format: CSV with a header line, or one JSON object a line.
        workers: Processes.
        fail_on_anomaly: Whether a file that the gate would not let through changes the exit code.
        columns: More columns: "threshold", "reasons".
        resume: Whether to go on with the rows that `output` has already.
    """

    paths: tuple[str, ...]
    output: Path | None
    output_format: Literal["csv", "jsonl"]
    workers: int
    fail_on_anomaly: bool
    columns: tuple[Literal["threshold", "reasons"], ...] = ()
    resume: bool = False


@dataclass(slots=True)
class Tally:
    """How many rows there were, by outcome."""

    files: int = 0
    anomalies: int = 0
    problems: int = 0

    def add(self, row: Row) -> None:
        self.files += 1
        self.anomalies += row.is_anomaly is True
        self.problems += row.error is not None

    def exit_code(self, fail_on_anomaly: bool) -> int:
        """Returns `ANOMALOUS` if `fail_on_anomaly` is set and not every file is a normal image; else `SCORED` if at
        least one file was judged, or `FAILED`.
        """
        if fail_on_anomaly and self.anomalies + self.problems:
            return ANOMALOUS
        return SCORED if self.files > self.problems else FAILED

    def __str__(self) -> str:
        return f"{self.files} files: {self.anomalies} anomalies, {self.problems} could not be judged"


def score(settings: Settings, options: ScoreOptions) -> int:
    """Scores every file and writes the rows in the order of the paths.

    Returns:
        The exit code: see `Tally.exit_code`; `INTERRUPTED` after Ctrl-C or SIGTERM, with the rows so far written.

    Raises:
        ArtifactError: The artifact cannot be used.
        ScoringError: The output cannot be written, or a worker process died.
    """
    tally = Tally()
    try:
        with stopped_by_signals():
            _score(settings, options, tally)
    except KeyboardInterrupt:
        print(f"imagegate: interrupted after {tally}.", file=sys.stderr)
        return INTERRUPTED
    except BrokenProcessPool as error:
        raise ScoringError(
            f"a worker process died (out of memory?) after {tally}; fewer --workers need less memory."
        ) from error
    print(f"imagegate: {tally}.", file=sys.stderr)
    return tally.exit_code(options.fail_on_anomaly)


def _score(settings: Settings, options: ScoreOptions, tally: Tally) -> None:
    artifact = load_with_rate(settings.artifact, settings.target_false_positive_rate)
    table = RowTable(options.output, options.output_format, options.columns)
    done = table.earlier(artifact.version, tally.add) if options.resume else set()
    files = (file for file in find_files(options.paths, options.output) if table.name(file) not in done)
    work = _scored if options.columns else _scored_plainly
    with (
        table.opened(append=options.resume) as write,
        closing(in_processes((artifact,), settings, files, options.workers, work)) as found,
        _progress(options, len(done)) as bar,
    ):
        for one in found:
            write(one)
            tally.add(one.row)
            bar.update()


def find_files(paths: Iterable[str], leave_out: Path | None = None) -> Iterator[str]:
    """The files to score, lazily.

    Args:
        paths: A folder stands for all files below it, in the order of their names, whatever they are called, except
            hidden ones (a leading dot); linked folders are followed, each once. Everything else stands for itself,
            a folder that cannot be listed included.
        leave_out: A file that is not looked for: the one that results are written to.
    """
    left_out = None if leave_out is None else os.path.abspath(leave_out)
    for path in paths:
        found = files_below(path) if os.path.isdir(path) else iter([path])
        yield from (file for file in found if left_out is None or os.path.abspath(file) != left_out)


def _scored_plainly(scorers: Sequence[Scorer], paths: list[str]) -> list[Scored]:
    return [Scored(row) for row in scorers[0].score(paths)]


def _scored(scorers: Sequence[Scorer], paths: list[str]) -> list[Scored]:
    return scorers[0].score_fully(paths)


def _progress(options: ScoreOptions, done: int) -> tqdm:
    """Returns a progress bar on standard error, hidden if that is no terminal or if the rows are printed there."""
    shown = sys.stderr.isatty() and not (options.output is None and sys.stdout.isatty())
    total = sum(1 for _ in find_files(options.paths, options.output)) if shown else None
    return tqdm(total=total, initial=done, unit="file", file=sys.stderr, disable=not shown)

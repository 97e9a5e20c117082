"""`python -m app compare`: two artifacts on the same files, and what changes from one to the other."""

import csv
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from app.detection.artifact import Artifact, load_artifact
from app.detection.intervals import share_interval
from app.errors import ScoringError
from app.keeping.record import Kept
from app.offline.compare_page import Changed, ComparisonPage
from app.offline.images import Chosen, choose_images
from app.offline.pool import ended_in_one_line, in_processes
from app.offline.rows import Scored, Scorer
from app.settings import Settings

COMPARED, CHANGED = 0, 3
# (verdict of the old one, verdict of the new one) -> the change, in the order in which it is told.
CHANGES = {
    (False, False): "normal for both",
    (True, True): "refused by both",
    (False, True): "newly refused",
    (True, False): "newly admitted",
}
NOT_JUDGED = "not judged"
_COLUMNS = [
    "path", "change", "old_is_anomaly", "old_score", "old_threshold", "old_p_value", "old_reasons",
    "new_is_anomaly", "new_score", "new_threshold", "new_p_value", "new_reasons", "label", "sampled", "error", "detail",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """What the command line asks for.

    Attributes:
        old, new: The two artifacts.
        paths: Files, and folders that are searched.
        kept: A folder of kept images in their place.
        output: Where the page and the rows go; None for nowhere.
        workers: Processes.
        fail_on_change: Whether a changed verdict changes the exit code.
    """

    old: Path
    new: Path
    paths: tuple[str, ...]
    kept: Path | None
    output: Path | None
    workers: int
    fail_on_change: bool


@dataclass(slots=True)
class Count:
    """How many files there were, by change."""

    by_change: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*CHANGES.values(), NOT_JUDGED), 0))

    @property
    def judged(self) -> int:
        return sum(self.by_change[change] for change in CHANGES.values())

    @property
    def changed(self) -> int:
        return self.by_change["newly refused"] + self.by_change["newly admitted"]

    def lines(self) -> list[str]:
        """For people: each count with its share and the interval of that, of all judged."""
        lines = []
        for change in CHANGES.values():
            count = self.by_change[change]
            low, high = share_interval(count, self.judged)
            share = count / self.judged if self.judged else 0.0
            lines.append(f"{change:<16}{count:>8}   {share:>7.2%}   ({low:.2%} to {high:.2%})")
        if self.by_change[NOT_JUDGED]:
            lines.append(f"{NOT_JUDGED:<16}{self.by_change[NOT_JUDGED]:>8}")
        return lines


@dataclass(slots=True)
class Comparison:
    """The counts: of all files, and of a kept folder by what is known of its images."""

    everything: Count = field(default_factory=Count)
    sample: Count = field(default_factory=Count)
    labelled_normal: Count = field(default_factory=Count)
    labelled_anomaly: Count = field(default_factory=Count)

    def add(self, change: str, record: Kept | None) -> None:
        counts = [self.everything]
        if record is not None:
            counts += [self.sample] * record.sampled
            counts += [self.labelled_normal] * (record.label == "normal")
            counts += [self.labelled_anomaly] * (record.label == "anomaly")
        for count in counts:
            count.by_change[change] += 1

    def parts(self, kept: bool) -> list[tuple[str, Count]]:
        """What is told, each with its heading."""
        if not kept:
            return [("files", self.everything)]
        return [
            ("the random sample, which stands for the traffic", self.sample),
            ("images labelled as belonging", self.labelled_normal),
            ("images labelled as not belonging", self.labelled_anomaly),
            ("everything kept, mostly refused images", self.everything),
        ]


def compare(settings: Settings, options: CompareOptions) -> int:
    """Judges every file with both, and says what changes.

    Returns:
        The exit code: `COMPARED`; `CHANGED`, if that is asked for and a verdict changed.

    Raises:
        KeyboardInterrupt: After Ctrl-C or SIGTERM.
        ArtifactError: One of the artifacts cannot be used.
        ScoringError: The files or the output cannot be used, or no file can be judged.
    """
    with ended_in_one_line(options.output, "interrupted"):
        result = _compare(settings, options)
    return CHANGED if options.fail_on_change and result.everything.changed else COMPARED


def _compare(settings: Settings, options: CompareOptions) -> Comparison:
    artifacts = load_artifact(options.old.resolve()), load_artifact(options.new.resolve())
    chosen = choose_images(options.paths, options.kept, lambda record: True)
    result, pairs = Comparison(), []
    with (
        closing(in_processes(artifacts, settings, chosen.files, options.workers, _pairs)) as found,
        tqdm(total=len(chosen.files), unit="file", file=sys.stderr, disable=not sys.stderr.isatty()) as bar,
    ):
        for file, pair in zip(chosen.files, found, strict=True):
            result.add(change_of(pair), chosen.records.get(file))
            if options.output is not None:
                pairs.append((file, pair))
            bar.update()
    if not result.everything.judged:
        raise ScoringError("none of the files can be judged: is the folder empty, or does it hold no images?")
    _print(artifacts, result, options.kept is not None)
    if options.output is not None:
        _write(settings, options, artifacts, chosen, result, pairs)
    return result


Pair = tuple[Scored, Scored]


def _pairs(scorers: Sequence[Scorer], paths: list[str]) -> list[Pair]:
    old, new = (scorer.score_fully(paths) for scorer in scorers)
    return list(zip(old, new, strict=True))


def change_of(pair: Pair) -> str:
    """One of `CHANGES`, or `NOT_JUDGED`."""
    old, new = (one.row.is_anomaly for one in pair)
    return NOT_JUDGED if old is None or new is None else CHANGES[old, new]


def _print(artifacts: tuple[Artifact, Artifact], result: Comparison, kept: bool) -> None:
    for name, artifact in zip(("old", "new"), artifacts, strict=True):
        manifest = artifact.manifest
        print(f"{name}: {manifest.name} {artifact.version}, threshold {manifest.threshold:.4g}")
    for heading, count in result.parts(kept):
        print(f"\n{count.judged} {heading}")
        print("\n".join(count.lines()))


def _write(
    settings: Settings,
    options: CompareOptions,
    artifacts: tuple[Artifact, Artifact],
    chosen: Chosen,
    result: Comparison,
    pairs: list[tuple[str, Pair]],
) -> None:
    assert options.output is not None
    options.output.mkdir(parents=True, exist_ok=True)
    with open(options.output / "rows.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(_row(pair, chosen.records.get(file)) for file, pair in pairs)
    changed = [Changed(file, change_of(pair), pair) for file, pair in pairs if _is_change(pair)]
    parts = [(f"{count.judged} {heading}", count.lines()) for heading, count in result.parts(options.kept is not None)]
    page = ComparisonPage(artifacts, [Scorer(artifact, settings) for artifact in artifacts])
    (options.output / "index.html").write_text(page.html(parts, changed, chosen.records), encoding="utf-8")
    print(f"\nThe changed images are in {options.output / 'index.html'}, all rows in {options.output / 'rows.csv'}.")


def _is_change(pair: Pair) -> bool:
    return change_of(pair) in ("newly refused", "newly admitted")


def _row(pair: Pair, record: Kept | None) -> Iterable[object]:
    old, new = pair
    cells: list[object] = [old.row.path, change_of(pair)]
    for one in (old, new):
        row = one.row
        verdict = None if row.is_anomaly is None else str(row.is_anomaly).lower()
        cells += [verdict, row.score, one.threshold, row.p_value, ";".join(one.reasons)]
    known = ["", ""] if record is None else [record.label or "", str(record.sampled).lower()]
    return [*cells, *known, old.row.error or new.row.error, old.row.detail or new.row.detail]

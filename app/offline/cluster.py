"""`python -m app score --engine ray`: scores files with Ray Data, on one or many machines, into a folder of Parquet.

Ray distributes the batches and repeats those of a machine that is lost. This module finds the files that have no row
yet, and scores batches. It is imported only on request, since the service needs neither Ray nor Arrow.
"""

import math
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from app.detection.artifact import Artifact
from app.detection.folders import printable
from app.detection.promise import load_with_rate
from app.errors import ScoringError
from app.offline.local import INTERRUPTED, Tally
from app.offline.locations import Location
from app.offline.parquet import SCHEMA, RowFiles
from app.offline.pool import stopped_by_signals
from app.offline.rows import Row, Scorer
from app.settings import ACCEPTED_FORMATS, Settings

# Ray sends usage data too, unless it is told not to before it is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
import ray
from ray.data import ActorPoolStrategy
from ray.exceptions import RayError

# The files of one batch, which is scored by one actor, repeated if a machine is lost, and written as one Parquet file.
# For small images it is a few seconds of work; ten million images give five thousand Parquet files.
_BATCH_FILES = 2048
# Concurrent reads from an object store, where each file takes two round trips. Local files are read one by one.
_READS_AHEAD = 16

_AGAIN = "The same command goes on after the rows that are written."


class ScoringActor:
    """A process on one core of the cluster, with its own detector. It gets the artifact as an argument, not by path."""

    def __init__(self, artifact: Artifact, settings: Settings, source: Location, folder: str, output: RowFiles) -> None:
        self._scorer = Scorer(artifact, settings)
        self._max_bytes = settings.max_upload_bytes
        self._source = source
        self._folder = folder
        self._output = output
        self._readers = ThreadPoolExecutor(_READS_AHEAD)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Scores a batch and writes its rows.

        Args:
            batch: `path`, the bytes of a file's name.

        Returns:
            `is_anomaly` and `error` of each, and in `failure` why the rows could not be written.
        """
        names = iter([os.fsdecode(name) for name in batch["path"].to_pylist()])
        chunks = iter(lambda: list(islice(names, _READS_AHEAD)), [])
        score = self._score_on_disk if self._source.is_on_disk else self._score_elsewhere
        rows = pa.Table.from_pylist([row._asdict() for chunk in chunks for row in score(chunk)], schema=SCHEMA)
        failure = None
        try:
            self._output.write(rows)
        except (pa.ArrowException, OSError) as error:  # what is raised, Ray would wrap in pages of its own
            failure = str(error)
        failures = pa.array([failure] * len(rows), pa.string())
        return rows.select(["is_anomaly", "error"]).append_column("failure", failures)

    def _score_on_disk(self, names: list[str]) -> list[Row]:
        # Rows name files as the command line did; this process runs in another folder.
        rows = self._scorer.score([os.path.join(self._folder, name) for name in names])
        return [row._replace(path=printable(name)) for row, name in zip(rows, names, strict=True)]

    def _score_elsewhere(self, names: list[str]) -> list[Row]:
        contents = {name: self._readers.submit(self._source.read, name, self._max_bytes + 1) for name in names}
        return self._scorer.score(names, lambda name: contents.pop(name).result())


def score_with_ray(settings: Settings, source: str, output: str, actors: int | None, fail_on_anomaly: bool) -> int:
    """Scores the files of INPUT that have no row in OUTPUT yet.

    Connects to the cluster that RAY_ADDRESS names or that runs on this machine; otherwise starts a local one for the
    time of the run.

    Args:
        settings: Artifact and limits; the actors get both, and need no copy of the artifact's folder.
        source: File, folder or URL to read.
        output: Folder or URL for Parquet files. Only one run at a time may write to it.
        actors: Number of actors; by default one for each core of the cluster.
        fail_on_anomaly: See `app.offline.local.Tally.exit_code`. All rows in OUTPUT count, not only the new ones.

    Raises:
        ArtifactError: The artifact cannot be used.
        ScoringError: INPUT or OUTPUT cannot be used, or Ray gave up.
    """
    artifact = load_with_rate(settings.artifact, settings.target_false_positive_rate)
    limits = settings.model_dump(include={"max_upload_bytes", "max_image_pixels", "reduce_jpegs"})
    if settings.formats != ACCEPTED_FORMATS:
        limits["formats"] = list(settings.formats)
    origin, files = _open(source, output, {"model": artifact.version, **limits})
    tally = Tally()
    try:
        ray.init(include_dashboard=False)
        with stopped_by_signals():  # from here on, since Ray has set handlers of its own
            missing = _missing(origin, files, tally)
            for rows in _scored(missing, actors, (artifact, settings, origin, os.getcwd(), files)):
                for failure in rows["failure"].drop_null()[:1]:
                    raise ScoringError(f"{files.location.name} cannot be written: {failure}.\n{_AGAIN}")
                _count(rows, tally)
    except KeyboardInterrupt:
        print(f"imagegate: interrupted after {tally}.\n{_AGAIN}", file=sys.stderr)
        return INTERRUPTED
    except (RayError, ConnectionError) as error:
        raise ScoringError(f"Ray gave up: {error}\n{_AGAIN}") from error
    print(f"imagegate: {tally}; {len(missing)} of them were scored now.", file=sys.stderr)
    return tally.exit_code(fail_on_anomaly)


def _open(source: str, output: str, about: dict[str, object]) -> tuple[Location, RowFiles]:
    origin, files = Location.of(source), RowFiles(Location.of(output))
    if origin.contains(files.location):
        raise ScoringError(
            f"{files.location.name} lies within {origin.name}, and would be scored the next time: name another folder."
        )
    origin.check()
    files.claim({"input": origin.name.rstrip("/"), **about})
    return origin, files


def _missing(origin: Location, files: RowFiles, tally: Tally) -> pa.ChunkedArray:
    """Returns the files in `origin` that have no row yet, and adds the existing rows to the tally.

    The names are bytes, since a file name need not be valid UTF-8.
    """
    names = origin.files()
    found, rows = [], []
    while chunk := list(islice(names, _BATCH_FILES)):  # Arrow takes a fraction of what Python's strings take
        found.append(pa.array([os.fsencode(name) for name in chunk], pa.large_binary()))
        rows.append(pa.array([printable(name) for name in chunk], pa.string()))
    if pc.count_distinct(pa.chunked_array(rows, pa.string())).as_py() < sum(map(len, rows)):
        raise ScoringError(f"Two files in {origin.name} have names that look the same in rows: rename one of them.")
    # Read last, so that the actors of an earlier run that was killed have had time to stop.
    written = files.written()
    _count(written, tally)
    known = pc.is_in(pa.chunked_array(rows, pa.string()), value_set=written["path"])
    return pa.chunked_array(found, pa.large_binary()).filter(pc.invert(known))


def _scored(paths: pa.ChunkedArray, actors: int | None, arguments: tuple[object, ...]) -> Iterator[pa.Table]:
    """What `ScoringActor` returns, batch by batch, in any order."""
    if not len(paths):
        return
    actors = actors or max(1, int(ray.cluster_resources().get("CPU", 1)))
    # Four batches an actor at least, so that the last ones end together.
    size = min(_BATCH_FILES, math.ceil(len(paths) / (4 * actors)))
    table = pa.table({"path": paths})
    batches = ray.data.from_arrow([table.slice(start, size) for start in range(0, len(table), size)])
    scored = batches.map_batches(
        ScoringActor,
        fn_constructor_args=arguments,
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=actors),
        num_cpus=1,
    )
    yield from scored.iter_batches(batch_size=None, batch_format="pyarrow")


def _count(rows: pa.Table, tally: Tally) -> None:
    tally.files += len(rows)
    tally.anomalies += pc.sum(rows["is_anomaly"]).as_py() or 0
    tally.problems += len(rows) - rows["error"].null_count

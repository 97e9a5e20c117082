"""`python -m app score --engine ray`: the rows of the local command, by a cluster, and none lost or doubled on the way.

`make test-ray` installs what it takes. Ray's nodes have loopback addresses of their own; S3 is moto's server.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from app.errors import ScoringError
from testing.artifacts import write_tiny_artifact
from testing.paths import ROOT
from testing.pictures import circle_picture, encoded, picture
from testing.ray_cluster import Cluster
from testing.servers import wait_until

pa = pytest.importorskip("pyarrow", reason="`make test-ray` installs it")
pq = pytest.importorskip("pyarrow.parquet", reason="`make test-ray` installs it")
moto_server = pytest.importorskip("moto.server", reason="`make test-ray` installs it")
pytestmark = [pytest.mark.slow, pytest.mark.ray]

LIMITS = {"GATE_MAX_UPLOAD_BYTES": "150000", "GATE_MAX_IMAGE_PIXELS": "2000000"}
SECONDS = 300
MANY = 20_000
AGAIN = "The same command goes on after the rows that are written."
# (name, content): what the local command's tests have, and names that are hard to carry.
FILES = {
    b"black.png": picture(level=0),
    b"circle.png": circle_picture(),
    b"empty.png": b"",
    b"half.png": circle_picture()[:200],
    b"inner/deep/grey.jpg": picture(200, "RGB", "JPEG", level=90),
    b"inner/wide.png": picture(side=1, width=2_000_001),
    b"large.png": circle_picture() + bytes(200_000),
    b"text.txt": b"no image at all",
    "Grüße 100%20 #1?.png".encode(): picture(level=200),
}
ON_A_DISK = {b"no utf-8 \xff\xfe.png": picture(level=100), b"two\nlines.png": picture(level=110)}
HIDDEN = {b".hidden.png": picture(), b".trash/a.png": picture()}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Not pytest's own folder: the paths of sockets below it would be too long.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder, Cluster(Path(folder)) as one:
        yield one


@pytest.fixture
def environment(cluster: Cluster, tiny_artifact: Path) -> dict[str, str]:
    return {**cluster.environment, **LIMITS, "GATE_ARTIFACT": str(tiny_artifact), "PYTHONPATH": str(ROOT)}


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A folder of images that take half a minute: both nodes' actors have started long before the end."""
    folder = tmp_path / "many"
    folder.mkdir()
    first = folder / "00000.png"
    first.write_bytes(encoded(Image.effect_noise((300, 250), 80)))
    for number in range(1, MANY):
        (folder / f"{number:05}.png").hardlink_to(first)
    return folder


def fill(folder: Path, files: dict[bytes, bytes]) -> None:
    for name, content in files.items():
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "app", "score", *map(str, arguments)]


def score(environment: dict[str, str], *arguments: object, folder: Path | None = None) -> tuple[int, str, str]:
    """Exit code, standard output and the last line of standard error, which is imagegate's own."""
    run = subprocess.run(
        command(*arguments), cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    return run.returncode, run.stdout, (run.stderr.splitlines() or [""])[-1]


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """What a reader of Parquet finds, by path."""
    files = [file for file in folder.iterdir() if not file.name.startswith((".", "_"))]
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    return sorted(rows, key=lambda row: row["path"])


def assert_each_once(output: Path, files: Path) -> None:
    assert [row["path"] for row in rows_in(output)] == sorted(str(file) for file in files.iterdir())


def test_rows_are_those_of_the_local_command(environment: dict[str, str], tmp_path: Path) -> None:
    fill(tmp_path / "files", FILES | ON_A_DISK | HIDDEN)
    code, printed, said = score(environment, "files", "--format", "jsonl", "--fail-on-anomaly", folder=tmp_path)
    local = sorted(map(json.loads, printed.splitlines()), key=lambda row: row["path"])
    by_ray = score(environment, "--engine", "ray", "files", "rows", "--fail-on-anomaly", folder=tmp_path)
    assert rows_in(tmp_path / "rows") == local
    assert len(local) == len(FILES | ON_A_DISK)
    assert by_ray[0] == code == 3
    assert by_ray[2] == said.rstrip(".") + f"; {len(local)} of them were scored now."


def test_goes_on_with_what_is_new_damaged_or_could_not_be_read(environment: dict[str, str], tmp_path: Path) -> None:
    files, output = tmp_path / "files", tmp_path / "rows"
    fill(files, {f"{number}.png".encode(): picture(level=number) for number in range(40)})
    (files / "later.png").symlink_to(tmp_path / "not mounted yet.png")
    arguments = ("--engine", "ray", files, output)
    assert score(environment, *arguments)[0] == 0
    first, *kept = sorted(output.glob("*.parquet"))
    again = pq.read_metadata(first).num_rows
    before = {file: file.stat().st_ino for file in kept if b"unreadable" not in file.read_bytes()}
    first.write_bytes(first.read_bytes()[:-100])
    (output / f".{first.name}-{'0' * 32}.tmp").write_bytes(b"half of a")
    fill(tmp_path, {b"not mounted yet.png": picture(level=50), b"files/new.png": circle_picture()})
    unread = 0 if b"unreadable" in first.read_bytes() else 1
    assert score(environment, *arguments)[2].endswith(f"; {again + unread + 1} of them were scored now.")
    assert_each_once(output, files)
    assert not [row for row in rows_in(output) if row["error"]]
    assert {file: file.stat().st_ino for file in before} == before, "what is whole stays as it is"
    assert not list(output.glob(".*"))


def test_a_killed_run_leaves_whole_files_and_the_next_one_goes_on(
    environment: dict[str, str], many: Path, tmp_path: Path
) -> None:
    # Without a cluster: Ray is started by the command, and ends with it.
    alone = {name: value for name, value in environment.items() if name != "RAY_ADDRESS"}
    output = tmp_path / "rows"
    during_a_run(alone, many, output, subprocess.Popen.kill)
    written = len(rows_in(output))
    assert 0 < written < MANY
    code, _, said = score(alone, "--engine", "ray", many, output)
    assert code == 0
    assert int(said.split()[-6]) <= MANY - written
    assert_each_once(output, many)


def test_an_interrupted_run_says_how_to_go_on(environment: dict[str, str], many: Path, tmp_path: Path) -> None:
    code, errors = during_a_run(environment, many, tmp_path / "rows", subprocess.Popen.terminate)
    assert code == 130
    assert errors[-2].startswith("imagegate: interrupted after ")
    assert errors[-1] == AGAIN


def during_a_run(
    environment: dict[str, str], files: Path, output: Path, act: Callable[[subprocess.Popen[str]], object]
) -> tuple[int, list[str]]:
    """Does something once a run has written something; gives the exit code and the lines of standard error."""
    with subprocess.Popen(
        command("--engine", "ray", files, output), env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert wait_until(lambda: any(output.glob("*.parquet")), SECONDS)
            act(process)
            _, errors = process.communicate(timeout=SECONDS)
        finally:
            process.kill()  # of a failed test; else it has ended
    return process.returncode, errors.splitlines()


def test_a_lost_machine_costs_no_row_and_doubles_none(
    cluster: Cluster, environment: dict[str, str], many: Path, tmp_path: Path
) -> None:
    output = tmp_path / "rows"
    node = cluster.add_node()

    def lose_it(process: subprocess.Popen[str]) -> None:
        assert wait_until(node.is_scoring, SECONDS)
        node.kill()
        assert len(rows_in(output)) < MANY, "it was lost in the middle"

    code, errors = during_a_run(environment, many, output, lose_it)
    assert code == 0, errors
    assert errors[-1].startswith(f"imagegate: {MANY} files:")
    assert_each_once(output, many)


class Halting:
    """A file system that stands still in the middle of a file, as when its machine is lost."""

    type_name = "local"

    def __init__(self, filesystem: Any) -> None:
        self._filesystem = filesystem

    def __getattr__(self, name: str) -> Any:
        return getattr(self._filesystem, name)

    @contextmanager
    def open_output_stream(self, path: str) -> Iterator[Any]:
        with self._filesystem.open_output_stream(path) as stream:
            yield SimpleNamespace(write=lambda content: stream.write(content[:100]))
        raise KeyboardInterrupt


def test_a_file_of_rows_is_there_once_and_whole_or_not_at_all(tmp_path: Path) -> None:
    from app.offline.locations import Location
    from app.offline.parquet import SCHEMA, RowFiles

    location = Location.of(str(tmp_path / "rows"))
    files = RowFiles(location)
    fill(tmp_path / "rows", {b"._imagegate.json-" + 32 * b"0" + b".tmp": b"{"})  # of a run that was killed at its start
    files.claim({"model": "sha256:0"})
    rows = pa.Table.from_pylist([{"path": "a.png"}, {"path": "b.png"}], schema=SCHEMA)
    with pytest.raises(KeyboardInterrupt):
        RowFiles(replace(location, filesystem=Halting(location.filesystem))).write(rows)
    assert [file.suffix for file in sorted((tmp_path / "rows").iterdir())] == [".tmp", ".json"]
    for _ in range(2):  # by a machine that was taken for lost, and by the one in its place
        files.write(rows)
    files.claim({"model": "sha256:0"})
    assert [file.suffix for file in sorted((tmp_path / "rows").iterdir())] == [".parquet", ".json"]
    assert files.written()["path"].to_pylist() == ["a.png", "b.png"]


def test_files_of_rows_are_told_apart_and_others_are_left_alone(tmp_path: Path) -> None:
    from app.offline.locations import Location
    from app.offline.parquet import SCHEMA, RowFiles

    folder = tmp_path / "rows"
    files = RowFiles(Location.of(str(folder)))
    files.claim({})
    for paths in (["a", "b"], ["a\nb"]):
        files.write(pa.Table.from_pylist([{"path": path} for path in paths], schema=SCHEMA))
    fill(folder, {b"mine.parquet": b"not ours", b".mine.tmp": b"nor this"})
    files.claim({})
    assert sorted(files.written()["path"].to_pylist()) == ["a", "a\nb", "b"]
    assert {"mine.parquet", ".mine.tmp"} < {file.name for file in folder.iterdir()}
    fill(folder, {b"_imagegate.json": b"[]"})
    with pytest.raises(ScoringError, match="damaged"):
        files.claim({})


def test_an_output_within_the_input_is_seen_through_a_link(tmp_path: Path) -> None:
    from app.offline.locations import Location

    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    assert Location.of(str(tmp_path / "link")).contains(Location.of(str(tmp_path / "in" / "rows")))


@pytest.mark.parametrize("secret", ["sec/ret", "sec%ret", "sec ret"])
def test_no_error_repeats_a_secret(secret: str) -> None:
    from app.offline.locations import Location

    with pytest.raises(ScoringError) as error:
        Location.of(f"s3://AKIA:{secret}@pictures/in")
    assert "sec" not in str(error.value).replace("secret key", "")


def test_names_that_look_the_same_in_rows_are_refused(environment: dict[str, str], tmp_path: Path) -> None:
    fill(tmp_path / "in", {b"a\xff.png": picture(), b"a\\xff.png": picture()})
    code, _, said = score(environment, "--engine", "ray", tmp_path / "in", tmp_path / "rows")
    assert code == 1
    assert "look the same" in said


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> Iterator[Callable[[str], str]]:
    """Gives the URL of a key in a bucket that has `FILES`."""
    import boto3

    keys = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_EC2_METADATA_DISABLED": "true"}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
        client.create_bucket(Bucket="pictures")
        for name, content in (FILES | HIDDEN).items():
            client.put_object(Bucket="pictures", Key=f"in/{name.decode()}", Body=content)
        client.put_object(Bucket="pictures", Key="in/inner//no-disk-has-this.png", Body=picture())
        options = f"endpoint_override={host}:{port}&scheme=http&region=us-east-1"
        # The actors run in the cluster's environment, which has no keys of ours.
        yield lambda key: f"s3://tests:tests@pictures/{key}?{options}"
    finally:
        server.stop()


def test_reads_and_writes_where_urls_point(
    environment: dict[str, str], bucket: Callable[[str], str], tmp_path: Path
) -> None:
    import pyarrow.dataset
    import pyarrow.fs

    fill(tmp_path / "in", FILES)
    printed = score(environment, "in", "--format", "jsonl", folder=tmp_path)[1]
    local = {f"s3://pictures/{row['path']}": row for row in map(json.loads, printed.splitlines())}
    arguments = ("--engine", "ray", bucket("in"), bucket("rows/here"))
    assert score(environment, *arguments)[2].endswith("; 10 of them were scored now.")
    filesystem, path = pyarrow.fs.FileSystem.from_uri(bucket("rows/here"))
    rows = {row["path"]: row for row in pyarrow.dataset.dataset(path, filesystem=filesystem).to_table().to_pylist()}
    no_disk = rows.pop("s3://pictures/in/inner//no-disk-has-this.png")
    assert no_disk["error"] == "unreadable-file"
    assert "Empty path component" in no_disk["detail"]
    assert rows == {path: row | {"path": path} for path, row in local.items()}
    # The one that could not be read is tried again.
    assert score(environment, *arguments)[2].endswith("; 1 of them were scored now.")


@pytest.mark.parametrize(
    ("source", "output", "code", "said"),
    [
        ("missing", "rows", 1, "imagegate: There is no file or folder missing."),
        ("files", "files/rows", 1, "imagegate: files/rows lies within files, and would be scored the next time"),
        ("files", "others", 1, "imagegate: others holds other files, such as letter.txt: name a new folder."),
        ("files", "files/a.png/rows", 1, "imagegate: files/a.png/rows lies within files"),
        ("files", "others/letter.txt", 1, "imagegate: others/letter.txt cannot be written:"),
        ("files", "others/letter.txt/rows", 1, "imagegate: others/letter.txt/rows cannot be written:"),
        ("files", "strict", 1, "imagegate: strict was scored with model sha256:"),
        ("http://127.0.0.1/a", "rows", 1, "imagegate: http://... cannot be used: no kind of URL that Arrow knows"),
    ],
)
def test_what_cannot_be_used_is_said_before_ray_starts(
    environment: dict[str, str], tmp_path: Path, source: str, output: str, code: int, said: str
) -> None:
    fill(tmp_path, {b"files/a.png": picture(), b"others/letter.txt": b"Dear"})
    if output == "strict":
        other = {**environment, "GATE_ARTIFACT": str(write_tiny_artifact(tmp_path / "artifact", threshold=0.1))}
        assert score(other, "--engine", "ray", "files", "strict", folder=tmp_path)[0] == 0
    nowhere = {**environment, "RAY_ADDRESS": "127.0.0.1:1"}
    found, _, last = score(nowhere, "--engine", "ray", source, output, folder=tmp_path)
    assert found == code
    assert last.startswith(said)
    assert not (tmp_path / "rows").exists()


def test_an_output_that_is_taken_away_ends_the_run_with_its_reason(
    environment: dict[str, str], many: Path, tmp_path: Path
) -> None:
    output = tmp_path / "rows"
    code, errors = during_a_run(environment, many, output, lambda process: replace_by_file(output))
    assert code == 1
    assert errors[-2].startswith(f"imagegate: {output} cannot be written:")
    assert "Not a directory" in errors[-2]
    assert errors[-1] == AGAIN


def replace_by_file(folder: Path) -> None:
    folder.rename(folder.with_name("away"))
    folder.touch()

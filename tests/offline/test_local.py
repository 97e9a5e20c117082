"""`python -m app score`: the same verdicts as over HTTP, one row a file, whatever the files are."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.__main__ import main
from app.detection.artifact import load_artifact
from app.offline.local import _scored_plainly, find_files
from app.offline.pool import in_processes
from app.offline.rows import Row, Scorer
from app.settings import Settings
from testing.artifacts import write_tiny_artifact
from testing.paths import ROOT
from testing.pictures import circle_picture, encoded, picture


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder of good and bad files, more than one chunk of them."""
    folder = tmp_path / "files"
    (folder / "inner").mkdir(parents=True)
    contents = {
        "black.png": picture(level=0),
        "circle.png": circle_picture(),
        "empty.png": b"",
        "grey.jpg": picture(200, "RGB", "JPEG", level=90),
        "half.png": circle_picture()[:200],
        "inner/wide.png": picture(side=1, width=2_000_001),
        "large.png": circle_picture() + bytes(200_000),
        "text.txt": b"no image at all",
    }
    contents |= {f"white-{number:02}.png": picture(level=255 - number) for number in range(60)}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def limits(tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Small limits, in the environment as well."""
    monkeypatch.setenv("GATE_ARTIFACT", str(tiny_artifact))
    monkeypatch.setenv("GATE_MAX_UPLOAD_BYTES", "150000")
    monkeypatch.setenv("GATE_MAX_IMAGE_PIXELS", "2000000")
    return Settings(artifact=tiny_artifact, max_upload_bytes=150_000, max_image_pixels=2_000_000)


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_rows_say_what_the_service_answers(
    files: Path, limits: Settings, make_client: Callable[..., TestClient], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(files), "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    client = make_client(max_upload_bytes=150_000, max_image_pixels=2_000_000)
    assert len(rows) == 68
    for row in rows:
        response = client.post("/v1/predict", content=Path(row["path"]).read_bytes())
        answer = response.json()
        if response.status_code == 200:
            expected = [answer[name] for name in ("is_anomaly", "loss", "score", "p_value")]
            assert [row[name] for name in ("is_anomaly", "loss", "score", "p_value")] == expected
            assert row["model"] == answer["model"]["version"]
            assert row["error"] is row["status"] is row["detail"] is None
        else:
            assert row["status"] == response.status_code
            assert answer["type"] == f"urn:imagegate:{row['error']}"
            assert row["is_anomaly"] is row["score"] is row["model"] is None


def test_each_bad_file_is_a_row_with_its_problem(
    files: Path, limits: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    missing = str(files / "missing.png")
    pipe = str(files / "pipe")
    os.mkfifo(pipe)
    assert main(["score", missing, pipe, str(files)]) == 0
    rows = {Path(row["path"]).name: row for row in read_csv(capfd.readouterr().out)}
    errors = {name: (row["error"], row["status"]) for name, row in rows.items() if row["error"]}
    assert errors == {
        "missing.png": ("unreadable-file", ""),
        "pipe": ("unreadable-file", ""),
        "empty.png": ("malformed-request", "400"),
        "half.png": ("undecodable-image", "422"),
        "wide.png": ("too-many-pixels", "413"),
        "large.png": ("too-many-bytes", "413"),
        "text.txt": ("unsupported-format", "415"),
    }
    assert rows["missing.png"]["detail"] == "No such file or directory."
    assert (rows["black.png"]["is_anomaly"], rows["circle.png"]["is_anomaly"]) == ("true", "false")


def test_rows_keep_the_order_of_the_paths_with_several_processes(files: Path, limits: Settings) -> None:
    paths = [str(files / f"white-{number:02}.png") for number in range(60)][::-1] * 3
    artifact = load_artifact(limits.artifact)
    scored = list(in_processes((artifact,), limits, paths, 2, _scored_plainly))
    assert [one.row.path for one in scored] == paths
    assert scored == list(in_processes((artifact,), limits, paths, 1, _scored_plainly))


def test_no_more_paths_are_drawn_than_the_workers_have_use_for(files: Path, limits: Settings) -> None:
    drawn = count()
    path = str(files / "white-00.png")
    endless = (path for _ in drawn)
    scored = in_processes((load_artifact(limits.artifact),), limits, endless, 2, _scored_plainly)
    assert next(scored).row.path == path
    scored.close()
    assert next(drawn) < 1000


def test_a_folder_stands_for_its_files_by_name_without_hidden_ones_and_the_output(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.png", "a.png", "c.txt", ".hidden", ".git/x.png", "rows.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(Path(path).relative_to(tmp_path)) for path in find_files([str(tmp_path)], tmp_path / "rows.csv")]
    assert found == ["a.png", "c.txt", "b/1.png", "b/2.png"]
    assert list(find_files(["no/such/file"])) == ["no/such/file"]


def test_output_goes_to_a_file_in_the_format_of_its_name(
    files: Path, limits: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(files / "circle.png"), "--output", str(tmp_path / "rows.jsonl")]) == 0
    assert json.loads((tmp_path / "rows.jsonl").read_text())["is_anomaly"] is False
    assert main(["score", str(files / "circle.png"), "--output", str(tmp_path / "rows.csv")]) == 0
    assert (tmp_path / "rows.csv").read_text().splitlines()[0] == ",".join(Row._fields)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == "imagegate: 1 files: 0 anomalies, 0 could not be judged.\n" * 2


def test_more_columns_on_wish(files: Path, limits: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    images = [str(files / "circle.png"), str(files / "black.png"), str(files / "text.txt")]
    assert main(["score", *images, "--columns", "threshold,reasons"]) == 0
    circle, black, text = read_csv(capfd.readouterr().out)
    assert (circle["threshold"], circle["reasons"]) == ("0.5", "")
    assert (black["threshold"], black["reasons"]) == ("0.5", "loss")
    assert (text["threshold"], text["reasons"]) == ("", "")
    assert main(["score", images[1], "--columns", "reasons", "--format", "jsonl"]) == 0
    assert json.loads(capfd.readouterr().out)["reasons"] == ["loss"]


def test_a_name_that_a_spreadsheet_takes_for_a_formula_is_written_as_a_path(
    tmp_path: Path, limits: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["=1+1.png", "+x.png", "@x.png", "plain.png"]
    for name in names:
        Path(name).write_bytes(picture())
    assert main(["score", *names]) == 0
    paths = [row["path"] for row in read_csv(capfd.readouterr().out)]
    assert paths == ["./=1+1.png", "./+x.png", "./@x.png", "plain.png"]
    assert all(Path(path).exists() for path in paths)
    assert main(["score", names[0], "--format", "jsonl"]) == 0
    assert json.loads(capfd.readouterr().out)["path"] == names[0]


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
@pytest.mark.parametrize("cut", [0, 7])
def test_a_run_goes_on_where_it_was_cut_off(
    files: Path, limits: Settings, tmp_path: Path, name: str, cut: int, capfd: pytest.CaptureFixture[str]
) -> None:
    (files / "line\nbreak.png").write_bytes(picture())
    whole, part = tmp_path / f"whole-{name}", tmp_path / name
    assert main(["score", str(files), "--output", str(whole)]) == 0
    lines = whole.read_text().splitlines(keepends=True)
    part.write_text("".join(lines[:30]) + lines[30][:cut])
    capfd.readouterr()
    assert main(["score", str(files), "--output", str(part), "--resume"]) == 0
    assert part.read_text() == whole.read_text()
    assert "69 files" in capfd.readouterr().err
    assert main(["score", str(files), "--output", str(part), "--resume"]) == 0
    assert part.read_text() == whole.read_text()


def test_rows_of_another_artifact_or_with_other_columns_are_not_gone_on_with(
    files: Path, limits: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "rows.csv"
    command = ["score", str(files), "--output", str(output), "--resume"]
    assert main(command) == 0
    before = output.read_text()
    assert main([*command, "--columns", "threshold"]) == 1
    assert "other columns" in capfd.readouterr().err
    write_tiny_artifact(tmp_path / "other", threshold=0.4)
    assert main([*command, "--artifact", str(tmp_path / "other")]) == 1
    assert "another artifact" in capfd.readouterr().err
    assert output.read_text() == before


def test_resuming_takes_a_file() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["score", "files", "--resume"])
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("names", "arguments", "code"),
    [
        (["circle.png", "text.txt"], [], 0),
        (["text.txt"], [], 1),
        (["circle.png"], ["--fail-on-anomaly"], 0),
        (["circle.png", "black.png"], ["--fail-on-anomaly"], 3),
        (["circle.png", "text.txt"], ["--fail-on-anomaly"], 3),
        (["circle.png"], ["--artifact", "no/such/artifact"], 1),
        (["circle.png"], ["--output", "no/such/folder/rows.csv"], 1),
    ],
)
def test_exit_code(files: Path, limits: Settings, names: list[str], arguments: list[str], code: int) -> None:
    assert main(["score", *(str(files / name) for name in names), *arguments]) == code


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["files"], "--engine ray takes two paths, INPUT and OUTPUT, not 1"),
        (["files", "rows", "more"], "--engine ray takes two paths, INPUT and OUTPUT, not 3"),
        (["files", "rows", "--format", "csv"], "--engine ray writes Parquet to OUTPUT"),
        (["files", "--output", "rows"], "--engine ray takes two paths"),
        (["files", "rows", "--output", "rows.csv"], "--engine ray writes Parquet to OUTPUT"),
    ],
)
def test_ray_takes_its_own_paths(arguments: list[str], reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["score", "--engine", "ray", *arguments])
    assert exit_.value.code == 2
    assert reason in capfd.readouterr().err


def test_without_ray_the_way_to_it_is_named(
    limits: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["score", "--engine", "ray", "files", "rows"]) == 1
    assert capfd.readouterr().err == "imagegate: there is no pyarrow: --engine ray needs `pip install '.[ray]'`.\n"


def test_a_score_that_is_not_a_number_is_an_anomaly_without_one(
    files: Path, limits: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = Scorer(load_artifact(limits.artifact), limits)
    detect = scorer._detector.detect
    monkeypatch.setattr(scorer._detector, "detect", lambda images, shown: detect(images * np.float32("nan"), shown))
    row = scorer.score([str(files / "circle.png")])[0]
    assert (row.is_anomaly, row.loss, row.score, row.p_value) == (True, None, None, 0.01)


def test_contents_can_come_from_elsewhere_than_the_disk(limits: Settings) -> None:
    contents = {"s3://a": circle_picture(), "s3://b": bytes(150_001)}

    def read(path: str) -> bytes:
        try:
            return contents[path]
        except KeyError as error:
            raise OSError("no such object") from error

    rows = Scorer(load_artifact(limits.artifact), limits).score(["s3://a", "s3://b", "s3://c"], read)
    assert [(row.error, row.status) for row in rows] == [
        (None, None),
        ("too-many-bytes", 413),
        ("unreadable-file", None),
    ]


@pytest.mark.parametrize(
    ("send", "number"),
    [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)],  # as a terminal does, as a supervisor does
    ids=["ctrl-c", "sigterm"],
)
def test_an_interrupted_run_keeps_its_rows_and_leaves_no_process(
    tmp_path: Path, limits: Settings, send: Callable[[int, int], None], number: int
) -> None:
    slow = tmp_path / "slow.png"
    slow.write_bytes(encoded(Image.effect_noise((400, 300), 80)))
    output = tmp_path / "rows.csv"
    command = [sys.executable, "-m", "app", "score", *[str(slow)] * 4000, "--workers", "2", "--output", str(output)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while not (output.exists() and output.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.05)
        send(process.pid, number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.startswith("imagegate: interrupted after ")
    assert errors.count("\n") == 1
    assert len(read_csv(output.read_text())) == int(errors.split()[3])
    while group_exists(process.pid):  # multiprocessing's own resource tracker takes a moment longer
        assert time.monotonic() < deadline
        time.sleep(0.05)


def group_exists(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True

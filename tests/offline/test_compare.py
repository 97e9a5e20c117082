import csv
from pathlib import Path

import pytest

from app.__main__ import main
from app.keeping.store import KeptStore
from testing.artifacts import write_tiny_artifact
from testing.kept_images import add, record
from testing.pictures import picture

# Mean squared distance from white: (255 - level)^2 / 255^2.
WHITE, GREY, DARK, BLACK = (picture(level=level) for level in (255, 150, 100, 0))  # 0, .17, .37, 1


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return write_tiny_artifact(tmp_path / "old", threshold=0.3)


@pytest.fixture
def stricter(tmp_path: Path) -> Path:
    return write_tiny_artifact(tmp_path / "stricter", threshold=0.1)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for name, content in (("white", WHITE), ("grey", GREY), ("dark", DARK), ("black", BLACK), ("text", b"Dear sir")):
        (folder / f"{name}.png").write_bytes(content)
    return folder


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    with open(folder / "rows.csv", newline="") as stream:
        return {Path(row["path"]).stem: row for row in csv.DictReader(stream)}


def test_changes_are_counted_with_intervals(
    old: Path, stricter: Path, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(old), str(stricter), str(files)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["normal", "for", "both", "1", "25.00%", "(0.63%", "to", "80.59%)"] in lines
    assert ["refused", "by", "both", "2", "50.00%", "(6.76%", "to", "93.24%)"] in lines
    assert ["newly", "refused", "1", "25.00%", "(0.63%", "to", "80.59%)"] in lines
    assert ["not", "judged", "1"] in lines


def test_rows_and_page_show_what_changes(old: Path, stricter: Path, files: Path, tmp_path: Path) -> None:
    assert main(["compare", str(stricter), str(old), str(files), "--output", str(tmp_path / "out")]) == 0
    rows = rows_of(tmp_path / "out")
    assert {name: row["change"] for name, row in rows.items()} == {
        "white": "normal for both",
        "grey": "newly admitted",
        "dark": "refused by both",
        "black": "refused by both",
        "text": "not judged",
    }
    assert rows["grey"]["old_is_anomaly"] == "true"
    assert float(rows["grey"]["old_threshold"]) == pytest.approx(0.1)
    assert rows["grey"]["old_reasons"] == "loss"
    assert rows["text"]["error"] == "unsupported-format"
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<figure>") == 1
    assert "newly admitted" in page
    assert "redrawn badly here" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_a_name_that_is_markup_is_text_on_the_page(old: Path, stricter: Path, tmp_path: Path) -> None:
    file = tmp_path / "<script>alert(1)<&script>.png"
    file.write_bytes(GREY)
    assert main(["compare", str(old), str(stricter), str(file), "--output", str(tmp_path / "out")]) == 0
    assert "<script>" not in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize(("names", "code"), [(["grey"], 3), (["white", "black"], 0), (["text"], 1)])
def test_exit_codes(old: Path, stricter: Path, files: Path, names: list[str], code: int) -> None:
    paths = [str(files / f"{name}.png") for name in names]
    assert main(["compare", str(old), str(stricter), *paths, "--fail-on-change"]) == code


def test_an_artifact_that_cannot_be_used_is_said(old: Path, files: Path, tmp_path: Path) -> None:
    assert main(["compare", str(old), str(tmp_path / "nowhere"), str(files)]) == 1


def test_a_kept_folder_is_told_by_sample_and_by_label(
    old: Path, stricter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = KeptStore(tmp_path / "kept", 2**24)
    belongs, odd = record(0, sampled=True), record(1)
    add(store, belongs, content=GREY)
    add(store, odd, content=BLACK)
    store.label(belongs.id, "normal")
    store.label(odd.id, "anomaly")
    command = ["compare", str(old), str(stricter), "--kept", str(tmp_path / "kept"), "--output", str(tmp_path / "out")]
    assert main(command) == 0
    printed = capsys.readouterr().out
    for heading in ("1 the random sample", "1 images labelled as belonging", "1 images labelled as not belonging"):
        assert heading in printed
    rows = rows_of(tmp_path / "out")
    assert (rows[belongs.id]["label"], rows[belongs.id]["sampled"]) == ("normal", "true")
    assert rows[belongs.id]["change"] == "newly refused"
    assert "labelled: belongs" in (tmp_path / "out" / "index.html").read_text()

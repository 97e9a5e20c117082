"""The command line of the offline commands."""

from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from app.__main__ import main
from testing.artifacts import write_tiny_artifact
from testing.pictures import picture


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    names = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    for name in names:
        Path(name).write_bytes(picture())
    return names


@pytest.mark.parametrize(
    "order",
    [
        "{old} {new} {a} {b} --workers 1 --output {out}",
        "{old} {new} --workers 1 --output {out} {a} {b}",
        "--workers 1 {old} --output {out} {new} {a} --fail-on-change {b}",
    ],
)
def test_compare_takes_options_anywhere(
    tmp_path: Path, images: list[str], order: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = (write_tiny_artifact(tmp_path / name) for name in ("old", "new"))
    line = order.format(old=old, new=new, a=images[0], b=images[1], out=tmp_path / "out")
    assert main(["compare", *line.split()]) == 0
    assert "normal for both" in capsys.readouterr().out
    assert len((tmp_path / "out" / "rows.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize("order", ["{a} {b} {options}", "{options} {a} {b}", "{a} {options} {b}"])
def test_score_takes_options_anywhere(
    tiny_artifact: Path, images: list[str], order: str, capfd: pytest.CaptureFixture[str]
) -> None:
    options = f"--artifact {tiny_artifact} --workers 1 --columns threshold"
    assert main(["score", *order.format(a=images[0], b=images[1], options=options).split()]) == 0
    header, *rows = capfd.readouterr().out.splitlines()
    assert "threshold" in header
    assert [row.split(",")[0] for row in rows] == images


def test_a_name_that_begins_like_an_option_stands_behind_two_dashes(
    tiny_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "-a.png").write_bytes(picture())
    monkeypatch.chdir(tmp_path)
    assert main(["score", "--artifact", str(tiny_artifact), "--workers", "1", "--", "-a.png"]) == 0
    assert "-a.png,false" in capfd.readouterr().out.lower()


@pytest.mark.parametrize("line", ["score", "compare old", "compare old new", "score a.png --colour", "serve a.png"])
def test_a_command_line_that_is_wrong_ends_with_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (BrokenProcessPool(), 1, "a worker process died"),
        (OSError(28, "No space left on device"), 1, "cannot be written: No space left on device"),
    ],
)
@pytest.mark.parametrize("command", ["compare", "recalibrate"])
def test_what_ends_a_command_early_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    error: BaseException,
    code: int,
    words: str,
) -> None:
    def fail(folder: Path) -> None:
        raise error

    monkeypatch.setattr(f"app.offline.{command}.load_artifact", fail)
    arguments = ["old", "new", "image"] if command == "compare" else ["old", "image"]
    assert main([command, *arguments, "--output", "out"]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("imagegate: ")
    assert words in line

"""What is below a folder is found, once, or named."""

import os
from pathlib import Path
from typing import Any

import pytest

from app.detection.folders import files_below, printable


def make_files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def found(folder: Path) -> list[str]:
    return [os.path.relpath(path, folder) for path in files_below(str(folder))]


@pytest.fixture
def unlisted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes folders of some name impossible to list: root, who runs tests in containers, may list any."""
    names: set[str] = set()

    def refusing(call: Any) -> Any:
        def checked(path: Any = ".") -> Any:
            if os.path.basename(os.fspath(path)) in names:
                raise PermissionError(13, "Permission denied", os.fspath(path))
            return call(path)

        return checked

    monkeypatch.setattr(os, "scandir", refusing(os.scandir))
    monkeypatch.setattr(os, "listdir", refusing(os.listdir))
    return names


def test_files_come_in_the_order_of_their_names_without_hidden_ones(tmp_path: Path) -> None:
    make_files(tmp_path, "b/2", "b/10", "a", ".git/c", "b/.d")
    assert found(tmp_path) == ["a", "b/10", "b/2"]


def test_a_linked_folder_is_followed_and_files_in_it_are_found_once(tmp_path: Path) -> None:
    make_files(tmp_path, "elsewhere/deep/1", "data/2")
    data = tmp_path / "data"
    (data / "link").symlink_to(tmp_path / "elsewhere")
    (data / "again").symlink_to(tmp_path / "elsewhere")
    assert found(data) == ["2", "again/deep/1"]


def test_a_folder_that_is_linked_from_its_neighbour_is_found_under_its_own_name(tmp_path: Path) -> None:
    make_files(tmp_path, "z/1")
    (tmp_path / "a").symlink_to(tmp_path / "z")
    assert found(tmp_path) == ["z/1"]


def test_links_that_lead_back_end_nothing(tmp_path: Path) -> None:
    make_files(tmp_path, "data/inner/1")
    for name, target in (("self", "data"), ("up", "."), ("inner/parent", "data/inner")):
        (tmp_path / "data" / name).symlink_to(tmp_path / target)
    assert found(tmp_path / "data") == ["inner/1"]


def test_a_volume_of_kubernetes_whose_folders_are_links_into_a_hidden_one_is_read(tmp_path: Path) -> None:
    make_files(tmp_path, "..2026_01/images/1")
    (tmp_path / "..data").symlink_to("..2026_01")
    (tmp_path / "images").symlink_to("..data/images")
    assert found(tmp_path) == ["images/1"]


def test_a_folder_that_is_itself_a_link_is_searched(tmp_path: Path) -> None:
    make_files(tmp_path, "data/1")
    (tmp_path / "link").symlink_to("data")
    assert found(tmp_path / "link") == ["1"]


def test_a_folder_that_cannot_be_listed_stands_for_itself(tmp_path: Path, unlisted: set[str]) -> None:
    make_files(tmp_path, "a/1", "secret/2", "z/3")
    unlisted.add("secret")
    assert sorted(found(tmp_path)) == ["a/1", "secret", "z/3"]


def test_links_to_nothing_are_named(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    assert found(tmp_path) == ["gone", "loop"]


def test_names_that_are_no_text_can_be_printed() -> None:
    assert printable(os.fsdecode(b"caf\xe9.png")) == "caf\\xe9.png"
    assert printable(Path("café.png")) == "café.png"


def test_scoring_names_a_folder_that_it_cannot_list_and_then_does_not_exit_with_0(
    tmp_path: Path, unlisted: set[str], tiny_artifact: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from app.__main__ import main
    from testing.pictures import picture

    make_files(tmp_path, "files/secret/1")
    (tmp_path / "files" / "white.png").write_bytes(picture())
    command = ["score", str(tmp_path / "files"), "--artifact", str(tiny_artifact)]
    unlisted.add("secret")
    assert main(command) == 0
    assert "secret,,,,,,unreadable-file,,Permission denied." in capfd.readouterr().out
    assert main([*command, "--fail-on-anomaly"]) == 3

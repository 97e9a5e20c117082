"""The files by which the project is installed, built and checked agree with each other."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from testing.paths import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))


def without_comments(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize(
    "document",
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "app/settings.py", ROOT / "Dockerfile"],
    ids=lambda path: path.name,
)
def test_every_make_target_that_is_spoken_of_exists(document: Path) -> None:
    # In backquotes, or as a command: at the start of a line or after "&&" and "$".
    commands = re.findall(r"(?:`|^|&& |\$ )((?:[A-Z_]+=\S+ )*make(?: [\w=.:/-]+)+)", document.read_text(), re.MULTILINE)
    words = {word for command in commands for word in command.split() if "=" not in word} - {"make"}
    assert words <= TARGETS


def test_make_test_and_ci_run_only_targets_that_exist() -> None:
    listed = re.search(r"targets=\(([^)]*)\)", (ROOT / ".ci/run").read_text())
    assert listed
    targets = listed[1].split()
    assert targets[0] == "test"
    assert set(targets) <= TARGETS
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE.replace("\\\n", ""), re.MULTILINE)
    assert phony
    assert set(phony[1].split()) == TARGETS


@pytest.mark.parametrize("target", sorted(TARGETS - {"help"}))
def test_make_only_says_what_it_would_do_when_asked_to(target: str, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    before = sorted(tmp_path.iterdir())
    run = subprocess.run(["make", "-n", target], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["DATA=typo"], "DATA=typo is not a folder"),
        (["DATA=note.txt"], "DATA=note.txt is not a folder"),
        (["data=my images"], "data= is written in capitals: make train DATA=FOLDER"),
        (["DATA=my images", "output=here"], "output= is written in capitals"),
        (["DATA=my images", "train=--epochs 1"], "train= is written in capitals"),
        (["DATA=my images"], ""),
        ([], ""),
    ],
)
def test_a_training_that_cannot_work_is_refused_before_the_set_up(words: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    for name in ("pyproject.toml", "constraints.txt", "note.txt"):
        (tmp_path / name).touch()
    (tmp_path / "my images").mkdir()
    environment = {"PATH": os.environ["PATH"], "data": "what the environment calls so is no mistake"}
    command = ["make", "-n", "train", *words]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert said in run.stderr
    assert ("Setting up .venv-dev" in run.stdout) == (run.returncode == 0) == (said == "")


def test_a_python_without_venv_is_named_with_the_way_out(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    run = subprocess.run(["make", "run", "PYTHON=false"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode != 0
    assert "false is not Python 3.11" in run.stderr
    assert "make run PYTHON=" in run.stderr
    assert not (tmp_path / ".venv").exists()


def test_constraints_pin_every_dependency_of_the_service_but_never_torch() -> None:
    lines = without_comments((ROOT / "constraints.txt").read_text())
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "one exact, public version a line"
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    named = {re.split(r"[<>=\[~!]", requirement)[0] for requirement in PROJECT["dependencies"]}
    assert named <= pinned
    assert not {name for name in pinned if name.startswith(("torch", "nvidia", "triton"))}


def test_make_and_pyproject_ask_for_the_same_torch() -> None:
    wanted = [one for one in PROJECT["optional-dependencies"]["training"] if one.startswith("torch")]
    assert re.findall(r"'(torch[^']*)'", MAKEFILE) == wanted


def test_the_build_sees_only_what_the_image_holds() -> None:
    patterns = without_comments((ROOT / ".dockerignore").read_text())
    assert patterns[0] == "*"
    let_in = {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    assert let_in == {"app", "model_artifacts/circles", "pyproject.toml", "constraints.txt"}


def test_the_dockerfile_has_no_warnings() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    run = subprocess.run(
        [hadolint, "--failure-threshold", "warning", "Dockerfile"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout


def test_a_clone_keeps_the_bytes_of_every_file_whatever_its_line_endings_are_set_to(tmp_path: Path) -> None:
    for setting in ("core.autocrlf=true", "core.eol=crlf"):
        clone = tmp_path / setting
        clone.mkdir()
        git = ["git", "-C", str(clone), "-c", setting]
        (clone / ".gitattributes").write_bytes((ROOT / ".gitattributes").read_bytes())
        files = {
            "manifest.json": b'{\n  "a": 1\n}\n',
            "container.sh": b"#!/bin/sh\ntrue\n",
            "calibration.npy": b"\0\n\r\n",
        }
        for name, content in files.items():
            (clone / name).write_bytes(content)
        for command in (["init", "-q"], ["add", "."]):
            subprocess.run([*git, *command], check=True, capture_output=True)
        for name in files:
            (clone / name).unlink()
        subprocess.run([*git, "checkout", "--", "."], check=True, capture_output=True)
        assert {name: (clone / name).read_bytes() for name in files} == files

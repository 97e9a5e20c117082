"""What `pip install .` gives: the command, its default artifact, and no need of a checkout."""

import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

import app.__main__
import imagegate.__main__
from app import __version__
from app.detection.artifact import load_artifact
from testing.artifacts import DEFAULT_ARTIFACT
from testing.paths import ROOT
from testing.pictures import circle_picture


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("distributions")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def installed(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, as an installation lays it out."""
    (wheel,) = distributions.glob("*.whl")
    site = tmp_path_factory.mktemp("installed") / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


INSTALLED = [sys.executable, "-P", "-c", "import sys, imagegate.__main__; sys.exit(imagegate.__main__.main())"]


def environment(installed: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin"}


def run_installed(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command as its entry point starts it: its packages are found in the installation, not in the folder."""
    return subprocess.run(
        [*INSTALLED, *words],
        cwd=folder,
        env=environment(installed),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder_with_an_app(tmp_path: Path) -> Path:
    """A working folder as a user may have it, with a package named `app` of its own."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("raise SystemExit('this is the wrong app')")
    (tmp_path / "circle.png").write_bytes(circle_picture())
    return tmp_path


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_installed_command_judges_with_the_default_artifact_beside_a_folder_named_app(
    installed: Path, folder_with_an_app: Path, workers: str
) -> None:
    paths = ["circle.png"] * 20  # more than one process would take
    run = run_installed(installed, folder_with_an_app, "score", *paths, "--workers", workers)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count(f",{load_artifact(DEFAULT_ARTIFACT).version},,,") == 20


def test_the_installed_command_serves_with_several_workers_beside_a_folder_named_app(
    installed: Path, folder_with_an_app: Path
) -> None:
    command = [*INSTALLED, "serve", "--workers", "2", "--port", "0"]
    with subprocess.Popen(
        command, cwd=folder_with_an_app, env=environment(installed), stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr is not None
            said = ""
            while (address := re.search(r"http://\S+", said)) is None:
                line = server.stderr.readline()
                assert line, said
                said += line
            assert httpx2.get(f"{address.group()}/readyz", timeout=30).status_code == 200
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=60)


def test_the_wheel_holds_the_page_and_the_report_template(installed: Path) -> None:
    assert (installed / "app/routes/page.html").is_file()
    assert (installed / "training/report/templates/report.html").is_file()
    assert (installed / "app/default_artifact/circles/manifest.json").is_file()


def test_wheel_and_sdist_are_what_an_index_takes(distributions: Path) -> None:
    files = sorted(map(str, distributions.iterdir()))
    assert len(files) == 2
    command = [sys.executable, "-m", "twine", "check", "--strict", *files]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("main", [imagegate.__main__.main, app.__main__.main])
def test_the_version_is_printed(main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"imagegate {__version__}\n"


def test_help_lists_every_command_of_each_program(capsys: pytest.CaptureFixture[str]) -> None:
    listed = []
    for main in (imagegate.__main__.main, app.__main__.main):
        with pytest.raises(SystemExit):
            main(["--help"])
        said = capsys.readouterr().out
        assert "--version" in said
        listed.append(set(re.findall(r"^    (\w+)\b", said, re.MULTILINE)))
    assert listed[1] == {"serve", "reload", "recalibrate", "compare", "score"}
    assert listed[0] == listed[1] | {"train"}


def test_train_without_its_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert imagegate.__main__.main(["train", "--data", "folder"]) == 1
    assert "`pip install '.[training]'` in a checkout of the repository" in capsys.readouterr().err

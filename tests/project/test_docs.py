"""README and docs say what is there, and their commands run."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app import __version__
from app.detection.artifact import FORMAT_VERSION
from app.settings import PREFIX, Settings
from testing.artifacts import DEFAULT_ARTIFACT
from testing.paths import ROOT
from testing.servers import Server

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ALL = "\n".join(page.read_text() for page in PAGES)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_stands_in_the_table_of_settings(name: str) -> None:
    assert f"| `{PREFIX}{name.upper()}` |" in (ROOT / "docs/running.md").read_text()


def test_every_setting_that_the_documentation_names_exists() -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"GATE_[A-Z_]+[A-Z]", ALL)) <= known


def test_the_table_of_artifact_formats_is_that_of_the_code() -> None:
    rows = re.findall(
        r"^\| ([0-9.]+) \| ([0-9, ]+) \| ([0-9]+) \|$", (ROOT / "docs/running.md").read_text(), re.MULTILINE
    )
    reads = ", ".join(map(str, range(1, FORMAT_VERSION + 1)))
    assert rows[-1] == (".".join(__version__.split(".")[:2]), reads, str(FORMAT_VERSION))


def test_every_route_is_documented(client: TestClient) -> None:
    for path in client.get("/openapi.json").json()["paths"]:
        # Two ways of saying the same: with and without a version, and what hangs below a model.
        short = re.sub(r"/versions/\{[a-z_]+\}|/ready$", "", path) if path.startswith("/v2/models") else path
        assert re.sub(r"\{[a-z_]+\}", "", short) in re.sub(r"\{[a-z_]+\}", "", ALL), path


@each_page
def test_every_file_that_a_page_links_to_exists(page: Path) -> None:
    for target in re.findall(r"\]\((?!http|#)([^)]+)\)", page.read_text()):
        assert (page.parent / target.partition("#")[0]).exists(), target


@each_page
def test_every_heading_that_a_page_links_to_exists(page: Path) -> None:
    for target, heading in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
        if not target or target.endswith(".md"):
            assert heading in headings(page.parent / target if target else page), f"{target}#{heading}"


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    }


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 170
    assert len(README.split()) <= 1900


def test_the_first_curl_answers_what_the_readme_shows() -> None:
    command = next(line for line in README.splitlines() if line.startswith("curl -F file=@docs/duck.png"))
    shown = json.loads(README[README.index(command) :].split("```json\n")[1].split("```")[0])
    with Server(artifact=DEFAULT_ARTIFACT) as server, server.client():
        arguments = shlex.split(command.replace("http://127.0.0.1:8000", server.url))
        printed = subprocess.run(["curl", "-sS", *arguments[1:]], cwd=ROOT, capture_output=True, check=True).stdout
    answer = json.loads(printed)
    assert answer.pop("score") == pytest.approx(shown.pop("score"), rel=1e-3)
    assert answer.pop("loss") == pytest.approx(shown.pop("loss"), rel=1e-3)
    assert answer == shown


def test_the_documentation_trains_with_options_that_exist() -> None:
    from training.__main__ import _parser

    for line in re.findall(r"python -m training ([^`\n#]*)", ALL):
        _parser().parse_args(shlex.split(line))


def test_code_blocks_in_bash_are_valid() -> None:
    for block in re.findall(r"```bash\n(.*?)```", ALL, re.DOTALL):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)

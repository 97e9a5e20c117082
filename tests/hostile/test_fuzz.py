"""The long proofs, `make test-fuzz`: Pillow's own test images, coverage-guided fuzzing, and the OpenAPI contract."""

import collections
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from testing.paths import ROOT
from testing.servers import Server

pytestmark = [pytest.mark.slow, pytest.mark.fuzz]

# Outside of the work tree, and kept: the distribution has 47 MB.
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "imagegate"
FUZZ_SECONDS = int(os.environ.get("FUZZ_SECONDS", "60"))
# None of these files comes near a limit, so a whole second means that something is wrong; ten allow for a busy machine.
SECONDS_A_FILE = 10


@pytest.fixture(scope="session")
def pillow_images() -> list[Path]:
    """Every file of the tests in Pillow's source distribution."""
    import PIL

    folder = CACHE / f"pillow-{PIL.__version__}"
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        wanted = ("--no-deps", "--no-binary", "pillow", f"pillow=={PIL.__version__}")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(CACHE), *wanted]
        subprocess.run(command, check=True)
        (archive,) = CACHE.glob(f"pillow-{PIL.__version__}.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Debian 12's Python has none yet
            tar.extractall(CACHE)
    return sorted(path for path in (folder / "Tests").rglob("*") if path.is_file())


def test_every_image_of_pillows_own_tests_is_judged_or_refused(pillow_images: list[Path], tiny_artifact: Path) -> None:
    assert len(pillow_images) > 1000
    answers: collections.Counter[tuple[str, int]] = collections.Counter()
    slowest = (0.0, "")
    with Server(artifact=tiny_artifact) as server, server.client() as client:
        for path in pillow_images:
            data = path.read_bytes()
            started = time.perf_counter()
            response = client.post("/v1/predict", content=data)
            slowest = max(slowest, (time.perf_counter() - started, path.name))
            assert response.status_code in {200, 400, 413, 415, 422}, (path, response.text)
            if response.status_code != 200:
                assert response.headers["content-type"] == "application/problem+json", path
            answers[path.suffix.lower() or "none", response.status_code] += 1
    by_status: collections.Counter[int] = collections.Counter()
    for (_, status), count in answers.items():
        by_status[status] += count
    print(f"\n{len(pillow_images)} files of Pillow's tests: {dict(sorted(by_status.items()))}; slowest {slowest}")
    for suffix in (".png", ".jpg", ".gif", ".bmp", ".webp"):
        print(suffix, {status: count for (kind, status), count in sorted(answers.items()) if kind == suffix})
    assert slowest[0] < SECONDS_A_FILE


@pytest.mark.parametrize("target", ["fuzz_images", "fuzz_body"])
def test_a_bounded_run_of_the_fuzzer_finds_nothing(target: str) -> None:
    (ROOT / "build" / "fuzz").mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        f"tests.hostile.fuzz.{target}",
        f"-max_total_time={FUZZ_SECONDS}",
        "-print_final_stats=1",
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=FUZZ_SECONDS + 120, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    print("\n" + "\n".join(line for line in run.stderr.splitlines() if line.startswith(("stat::", "Done "))))


@pytest.mark.parametrize(
    ("routes", "unproven"),
    [
        (["--exclude-path", "/v1/predict/batch"], "positive_data_acceptance"),
        (["--include-path", "/v1/predict/batch"], "positive_data_acceptance,negative_data_rejection"),
    ],
)
def test_answers_conform_to_the_services_own_openapi(routes: list[str], unproven: str, tiny_artifact: Path) -> None:
    """schemathesis sends what the OpenAPI allows and what it does not, and checks every answer against it.

    Random bytes are a valid image to the schema, and `positive_data_acceptance` would report their refusal: it is left
    out, and that valid requests are accepted is proven in tests/routes/test_v1.py. In a form every value is bytes, so
    that what `negative_data_rejection` sends as a number or a lone string is a batch of one file like any other.
    """
    (ROOT / "build").mkdir(exist_ok=True)
    with Server(artifact=tiny_artifact) as server, server.client():
        schemathesis = Path(sys.executable).parent / "schemathesis"
        options = ["--exclude-checks", unproven, "--max-examples", "30", "--seed", "1", "--no-color"]
        command = [str(schemathesis), "run", f"{server.url}/openapi.json", *routes, *options]
        run = subprocess.run(command, cwd=ROOT / "build", capture_output=True, text=True, timeout=600, check=False)
    print(run.stdout[-1500:])
    assert run.returncode == 0, run.stdout[-8000:]

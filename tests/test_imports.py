"""What importing the service does, seen from a fresh interpreter."""

import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import app
from testing.paths import ROOT

# A program, and what only an extra makes importable.
NOT_IMPORTED = {
    "app.__main__",
    "app.offline.cluster",
    "app.offline.locations",
    "app.offline.parquet",
    "app.telemetry.spans",
}
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(app.__path__, "app.") if module.name not in NOT_IMPORTED
)
NEVER_SERVED = {"torch", "matplotlib", "sklearn", "training", "onnx", "tests", "ray", "pyarrow"}


def run_python(code: str, **environment: str) -> str:
    """What the code prints, run in the project's folder; without what makes telemetry think that it is being tested."""
    kept = {name: value for name, value in os.environ.items() if name not in {"CI", "ORT_DISABLE_TELEMETRY"}}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=ROOT, env=kept | environment, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_the_whole_of_app_loads_nothing_that_only_training_needs() -> None:
    assert "app.main" in MODULES
    loaded = run_python(f"import sys, {', '.join(MODULES)}; print(*{{m.split('.')[0] for m in sys.modules}})").split()
    assert "onnxruntime" in loaded
    assert not NEVER_SERVED & set(loaded)


def test_the_runtime_sends_no_telemetry_and_leaves_no_device_id(tmp_path: Path) -> None:
    run_python("import app.detection.detector", HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert not list(tmp_path.iterdir())


def test_an_operator_may_decide_otherwise_about_telemetry() -> None:
    code = "import app, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert run_python(code).strip() == "1"
    assert run_python(code, ORT_DISABLE_TELEMETRY="0").strip() == "0"

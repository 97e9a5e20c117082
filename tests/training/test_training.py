"""The whole program: `python -m training`, from images to an artifact that the service loads."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.detection.artifact import load_artifact, write_artifact
from app.detection.detector import Detector
from app.detection.promise import rate_with_confidence
from app.errors import ArtifactError, PromiseError
from app.main import create_app
from app.settings import Settings
from testing.paths import ROOT
from training.__main__ import _parser as parser
from training.__main__ import main
from training.data.anomalies import ANYWHERE
from training.data.dataset import circle_dataset
from training.errors import TrainingError
from training.plan import FitSettings, Plan, make_plan
from training.run import train


def tiny_plan(output, model="gate", latent_size=2, **changes):
    plan = Plan(
        output=output,
        name="tiny",
        model=model,
        latent_size=latent_size,
        fit=FitSettings(epochs=1),
        target_false_positive_rate=0.1,
        count=64,
        calibration_count=40,
        test_count=20,
        family_count=1,
    )
    return replace(plan, **changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    output = tmp_path_factory.mktemp("trained") / "tiny"
    train(tiny_plan(output))
    return output


@pytest.fixture
def interrupts():
    """`main` installs handlers; the tests' own come back afterwards."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("model", ["ae", "vae", "cvae"])
def test_tutorial_models_train_export_calibrate_and_load_in_the_service(tmp_path, model):
    artifact = train(tiny_plan(tmp_path / model, model, latent_size=1))
    detector = Detector(load_artifact(tmp_path / model))
    assert artifact.manifest.architecture.name == model
    images = circle_dataset(1, seed=9, calibration_count=1, test_count=20).test.images
    for image, detection in zip(images, detector.detect(images), strict=True):
        assert detection.loss == pytest.approx(np.square(image - detection.reconstruction).mean(), rel=1e-4)
        assert detection.is_anomaly == (detection.score > artifact.manifest.threshold)


def test_manifest_says_everything(trained):
    manifest = load_artifact(trained).manifest
    assert manifest.promise.calibration_size == 40
    assert manifest.promise.rank == 37
    assert manifest.promise.rate_with_90_percent_confidence == pytest.approx(rate_with_confidence(40, 37), abs=1e-6)
    assert manifest.variants == ["original"]
    assert manifest.training == {
        "epochs": 1,
        "batch_size": 32,
        "learning_rate": 3e-4,
        "one_cycle": False,
        "loss": "mse",
    }
    assert manifest.data["train"] == 64
    assert manifest.evaluation["test_images"] == 20
    assert {"torch", "onnxruntime", "numpy", "python"} <= set(manifest.library_versions)
    assert {"autoencoder.safetensors", "model.onnx", "report/model_card.md"} <= set(manifest.files)


def test_threshold_is_the_calibration_score_of_the_promised_rank(trained):
    artifact = load_artifact(trained)
    assert artifact.manifest.threshold == artifact.calibration[0, artifact.manifest.promise.rank - 1]


def test_artifact_holds_no_path_of_this_machine(trained):
    for path in trained.rglob("*"):
        if path.is_file():
            assert str(trained.parent).encode() not in path.read_bytes()
            assert path.stat().st_mode & 0o444 == 0o444  # the container's user can read it


def test_same_seed_gives_the_same_version_wherever_it_is_written(trained, tmp_path):
    output = tmp_path / "parents" / "are made"
    assert train(tiny_plan(output)).version == load_artifact(trained).version
    assert list(output.parent.iterdir()) == [output]


def test_training_again_replaces_the_artifact_says_so_and_leaves_nothing_beside_it(trained, tmp_path, capsys):
    output = shutil.copytree(trained, tmp_path / "tiny")
    artifact = train(tiny_plan(output, seed=1))
    said = f"{output} holds the artifact tiny {load_artifact(trained).version}; it is replaced when this is done.\n"
    assert capsys.readouterr().out.startswith(said)
    assert load_artifact(output).version == artifact.version != load_artifact(trained).version
    assert list(tmp_path.iterdir()) == [output]


def test_output_that_holds_something_else_is_refused_before_any_work(tmp_path):
    (tmp_path / "thesis.txt").write_text("ten years")
    with pytest.raises(ArtifactError, match="holds other files"):
        # A count that would take hours: the refusal comes first.
        train(tiny_plan(tmp_path, count=10**9))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("anomalies", "words"),
    [
        ("good/bad", "lies within --data good: its images would be learned as normal ones; move them out"),
        ("good", "is --data itself: its images would be learned"),
        (".", "contains --data good: the normal images would count as anomalies; move them out"),
        ("elsewhere", "is not a folder of images"),
        ("note.txt", "is not a folder of images"),
        ("good/.bad", None),
        ("goodness", None),
    ],
)
def test_anomalies_that_would_be_learned_are_refused_before_any_image_is_read(tmp_path, monkeypatch, anomalies, words):
    monkeypatch.chdir(tmp_path)
    for folder in ("good/bad", "good/.bad", "goodness"):
        Path(folder).mkdir(parents=True)
    Path("note.txt").write_text("no folder")
    Path("good/broken.png").write_bytes(b"the next refusal, once the folder is read")
    next_refusal = "good holds 0 different readable images"
    said = next_refusal if words is None else f"--anomalies {anomalies} {words}"
    with pytest.raises(TrainingError, match=re.escape(said)):
        train(tiny_plan(tmp_path / "tiny", data=Path("good"), anomalies=Path(anomalies)))


def test_rate_that_calibration_cannot_promise_is_refused_before_any_work(tmp_path):
    with pytest.raises(PromiseError, match="takes at least 9999"):
        train(tiny_plan(tmp_path / "tiny", target_false_positive_rate=0.0001, count=10**9))


def test_failed_run_leaves_the_earlier_artifact_as_it_was(trained, tmp_path):
    output = shutil.copytree(trained, tmp_path / "tiny")
    with pytest.raises(TrainingError, match="not a number"):
        train(tiny_plan(output, fit=FitSettings(epochs=1, learning_rate=1e30)))
    assert load_artifact(output).version == load_artifact(trained).version
    assert list(tmp_path.iterdir()) == [output]


def test_folder_of_images_becomes_an_artifact(tmp_path, capsys, interrupts):
    folder, generator = tmp_path / "My squares", np.random.default_rng(0)
    for number in range(60):
        left, top, width, height = (int(one) for one in generator.integers((2, 2, 6, 6), (20, 20, 18, 18)))
        image = Image.new("RGB", (40, 40), "white")
        image.paste((0, 0, 200), (left, top, left + width, top + height))
        (folder / str(number % 2)).mkdir(parents=True, exist_ok=True)
        image.save(folder / str(number % 2) / f"{number}.{('png', 'jpg', 'bmp')[number % 3]}", quality=95)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0broken")
    for kind, level in (("dark", 0), ("grey", 128), ("grey", 127)):
        (tmp_path / "odd" / kind).mkdir(parents=True, exist_ok=True)
        Image.new("L", (40, 40), level).save(tmp_path / "odd" / kind / f"{level}.png")
    output = tmp_path / "artifact"
    command = ["--data", str(folder), "--output", str(output), "--epochs", "1", "--anomalies", str(tmp_path / "odd")]
    assert main([*command, "--target-false-positive-rate", "0.1"]) == 0
    printed = capsys.readouterr().out
    assert "Skipped broken.jpg: " in printed
    assert f"GATE_ARTIFACT={output} make run" in printed
    artifact = load_artifact(output)
    assert artifact.version in printed
    assert artifact.manifest.promise.words in printed
    assert artifact.manifest.name == "artifact"
    assert artifact.manifest.data["kind"] == "folder"
    evaluation = artifact.manifest.evaluation
    drawn = {name: rates["detection_rate"] for name, rates in evaluation["families"].items() if name in ANYWHERE}
    assert len(drawn) == len(evaluation["families"]) - 1  # the other one is the user's own
    assert evaluation["macro_detection_rate"] == pytest.approx(np.mean(list(drawn.values())), abs=1e-4)
    own = evaluation["own_anomalies"]
    assert {name: found["images"] for name, found in own["subfolders"].items()} == {"dark": 1, "grey": 2}
    assert f"Of your own 3 anomalies {own['detection_rate']:.1%} are found." in printed
    assert re.search(r"promised +refused in the test +made-up pictures found .* your anomalies found\n +10%", printed)
    assert len(re.findall(r"found\) without \d/\d+\.(?:png|jpg|bmp)\n", printed)) == 5
    assert sum(region["images"] for region in artifact.manifest.evaluation["regions"]) == 9
    assert not any("circle" in family for family in artifact.manifest.evaluation["families"])


def test_too_few_images_are_one_line_that_says_how_many_it_takes(tmp_path, capsys, interrupts):
    Image.new("L", (28, 28)).save(tmp_path / "one.png")
    assert main(["--data", str(tmp_path), "--output", str(tmp_path / "artifact")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "at least 396" in error


@pytest.mark.parametrize(
    "command",
    [
        ["--epochs", "0"],
        ["--count", "-3"],
        ["--seed", "x"],
        ["--batch-size", "1.5"],
        ["--latent-size", "0"],
        ["--learning-rate", "nan"],
        ["--target-false-positive-rate", "1"],
        ["--target-false-positive-rate", "nan"],
        ["--model", "gan"],
        ["--loss", "l1"],
        ["--name", "two words"],
        ["--circles", "square"],
    ],
)
def test_impossible_value_is_one_line_that_names_the_option(command, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(command)
    assert f"error: argument {command[0]}: " in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("command", "output", "name"),
    [
        ([], "model_artifacts/circles", "circles"),
        (["--model", "ae"], "model_artifacts/circles-ae", "circles-ae"),
        (["--data", "/srv/My digits (2)"], "model_artifacts/My-digits-2", "My-digits-2"),
        (["--name", "night"], "model_artifacts/night", "night"),
        (["--output", "/tmp/some/where"], "/tmp/some/where", "where"),
        (["--output", "/tmp/where", "--name", "night"], "/tmp/where", "night"),
    ],
)
def test_output_and_name_follow_from_each_other(command, output, name):
    plan = make_plan(parser().parse_args(command))
    assert (plan.output, plan.name) == (Path(output), name)


def test_defaults_of_the_plain_autoencoder_are_the_tutorials():
    plan = make_plan(parser().parse_args(["--model", "ae"]))
    assert plan.fit == FitSettings(epochs=10, batch_size=32, learning_rate=3e-4, loss="mse")
    assert (plan.count, plan.latent_size) == (1000, 1)
    assert make_plan(parser().parse_args(["--model", "vae"])).fit.epochs == 30


@pytest.mark.parametrize(
    ("command", "circles"),
    [
        ([], "smooth"),
        (["--model", "ae"], "tutorial"),
        (["--model", "cvae"], "tutorial"),
        (["--model", "ae", "--circles", "smooth"], "smooth"),
        (["--circles", "tutorial"], "tutorial"),
    ],
)
def test_each_model_has_its_own_circles_unless_told_otherwise(command, circles):
    assert make_plan(parser().parse_args(command)).circles == circles


def test_artifact_of_tutorial_circles_records_them_and_judges_in_the_service_what_it_was_trained_on(tmp_path):
    artifact = train(tiny_plan(tmp_path / "ae", "ae", latent_size=1, circles="tutorial"))
    assert artifact.manifest.preprocessing.resize_filter == "nearest"
    assert artifact.manifest.data["circles"] == "tutorial"
    assert "--circles tutorial" in (tmp_path / "ae" / "report" / "model_card.md").read_text()
    test = circle_dataset(64, 0, 40, 20, "tutorial").test
    with TestClient(create_app(Settings(artifact=tmp_path / "ae", log_level="error"))) as client:
        for original, expected in zip(test.originals[:3], Detector(artifact).detect(test.images[:3]), strict=True):
            answer = client.post("/v1/predict", files={"file": original}).json()
            assert answer["loss"] == pytest.approx(expected.loss, rel=1e-5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_run_leaves_nothing_and_says_so_in_one_line(tmp_path, number):
    output = tmp_path / "artifact"
    command = [sys.executable, "-u", "-m", "training", "--output", str(output), "--count", "64", "--epochs", "100000"]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with run:
        assert run.stdout.readline().startswith("Epoch 001"), "it trains"
        os.kill(run.pid, number)
        _, errors = run.communicate(timeout=120)
    assert run.returncode == 128 + number
    assert errors.splitlines()[-1] == "Stopped; no half-written artifact is left."
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_run_stopped_while_it_writes_leaves_the_earlier_artifact(trained, tmp_path, monkeypatch, interrupts):
    output = shutil.copytree(trained, tmp_path / "tiny")

    def interrupt(*_arguments):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("training.run.write_report", interrupt)
    monkeypatch.setattr("training.__main__.make_plan", lambda options: tiny_plan(output))
    assert main(["--output", str(output)]) == 130
    assert load_artifact(output).version == load_artifact(trained).version
    assert list(tmp_path.iterdir()) == [output]


def test_help_does_not_wait_for_pytorch():
    code = "import sys, training.__main__ as m\ntry: m.main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert "--target-false-positive-rate" in run.stdout


def test_report_numbers_are_the_manifests(trained):
    report = json.loads((trained / "report" / "report.json").read_text())
    manifest = load_artifact(trained).manifest
    assert report["evaluation"] == manifest.evaluation
    assert report["threshold"] == manifest.threshold


def test_interrupt_between_the_two_renames_brings_the_earlier_artifact_back(trained, tmp_path, monkeypatch):
    output = shutil.copytree(trained, tmp_path / "tiny")
    version, renames, rename = load_artifact(output).version, [], Path.rename

    def fill(folder):
        shutil.copytree(trained, folder, dirs_exist_ok=True)
        fields = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").unlink()
        return {name: field for name, field in fields.items() if name not in ("format_version", "files")}

    def interrupted(source, target):
        renames.append(target)
        if len(renames) == 2:
            raise KeyboardInterrupt
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_artifact(output, fill)
    assert load_artifact(output).version == version
    assert list(tmp_path.iterdir()) == [output]


def test_without_pytorch_it_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None\n"  # as if it were not there
        "from training.__main__ import main; sys.exit(main(['--output', sys.argv[1]]))"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "new")], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 1
    assert run.stderr == (
        "error: there is no torch here, which training needs: `pip install '.[training]'` "
        "(or `make train`, which makes an environment of its own).\n"
    )

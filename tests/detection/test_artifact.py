import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.detection.artifact import CALIBRATION, GRAPH, MANIFEST, load_artifact, replaced_words, write_artifact
from app.detection.images import Preprocessing
from app.errors import ArtifactError
from testing.artifacts import write_tiny_artifact


def rewrite_manifest(folder: Path, **changes: Any) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_was_written_is_what_is_loaded(tmp_path: Path) -> None:
    artifact = load_artifact(write_tiny_artifact(tmp_path / "new" / "tiny"))
    assert artifact.manifest.name == "tiny"
    assert artifact.version.startswith("sha256:")
    assert len(artifact.version) == len("sha256:") + 12
    assert artifact.calibration.shape == (1, 99)
    assert artifact.preprocessing.background == 255


def test_version_changes_with_any_file(tmp_path: Path) -> None:
    one = load_artifact(write_tiny_artifact(tmp_path / "one"))
    same = load_artifact(write_tiny_artifact(tmp_path / "same"))
    other = load_artifact(write_tiny_artifact(tmp_path / "other", reconstruction_level=0.5))
    assert one.version == same.version != other.version


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no artifact folder .*nowhere.*GATE_ARTIFACT"):
        load_artifact(tmp_path / "nowhere")


@pytest.mark.parametrize("name", [MANIFEST, GRAPH, CALIBRATION])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_tiny_artifact(tmp_path / "tiny")
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} is missing"):
        load_artifact(folder)


def test_one_changed_byte_is_noticed_and_its_file_named(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "tiny")
    content = bytearray((folder / GRAPH).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / GRAPH).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.onnx is damaged or was changed"):
        load_artifact(folder)


def test_a_newer_format_asks_for_a_newer_imagegate(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "tiny")
    rewrite_manifest(folder, format_version=3, something_new=True)
    with pytest.raises(ArtifactError, match=r"has format 3; .* use a newer imagegate"):
        load_artifact(folder)


def test_an_unknown_field_of_the_same_format_is_no_error_and_changes_no_other(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "tiny")
    before = load_artifact(folder).manifest
    promise = {**before.promise.model_dump(), "something_new": 1}
    rewrite_manifest(folder, something_new=True, promise=promise)
    assert load_artifact(folder).manifest == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": "high"}, "threshold"),
        ({"files": {"../secret": "0" * 64}}, "outside its folder"),
        ({"files": {}}, r"does not list autoencoder\.safetensors"),
        ({"threshold": float("nan")}, "threshold is not a number"),
        ({"variants": ["one", "two"]}, r"shape \(1, 99\), not \(2, 99\)"),
    ],
)
def test_a_manifest_that_does_not_fit_says_where(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = write_tiny_artifact(tmp_path / "tiny")
    rewrite_manifest(folder, **changes)
    with pytest.raises(ArtifactError, match=message):
        load_artifact(folder)


def test_a_pickle_in_place_of_an_array_is_not_run(tmp_path: Path) -> None:
    def fill_with_pickle(aside: Path) -> dict[str, Any]:
        source = write_tiny_artifact(tmp_path / "source")
        for path in source.iterdir():
            (aside / path.name).write_bytes(path.read_bytes())
        (aside / MANIFEST).unlink()
        np.save(aside / CALIBRATION, np.array([[object()]]), allow_pickle=True)
        fields = json.loads((source / MANIFEST).read_text())
        return {name: value for name, value in fields.items() if name not in ("files", "format_version")}

    with pytest.raises(ArtifactError, match=r"calibration\.npy is not a numpy array"):
        write_artifact(tmp_path / "evil", fill_with_pickle)


def test_a_folder_says_which_artifact_is_replaced_even_one_that_does_not_load(tmp_path: Path) -> None:
    assert replaced_words(tmp_path) is None
    assert replaced_words(tmp_path / "new") is None
    (tmp_path / "manifest.json").write_text("{}")
    said = f"{tmp_path} holds an artifact that does not load; it is replaced when this is done."
    assert replaced_words(tmp_path) == said


def test_writing_again_replaces_the_old_artifact_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "tiny")
    write_tiny_artifact(folder, reconstruction_level=0.5, name="second")
    assert load_artifact(folder).manifest.name == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_failed_write_leaves_the_old_artifact_alone(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "tiny")

    def fail(aside: Path) -> dict[str, Any]:
        (aside / GRAPH).write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_artifact(folder, fail)
    assert load_artifact(folder).manifest.name == "tiny"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_folder_with_other_files_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ArtifactError, match="holds other files"):
        write_tiny_artifact(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_the_filter_that_an_artifact_was_trained_with_is_the_one_that_serves(tmp_path: Path) -> None:
    changes = {"preprocessing": {"background": 255, "resize_filter": "nearest"}}
    artifact = load_artifact(write_tiny_artifact(tmp_path / "tiny", **changes))
    assert artifact.preprocessing == Preprocessing(background=255, resize_filter="nearest")


def test_samples_and_report_are_kept_in_memory_and_none_are_needed(tmp_path: Path) -> None:
    images = np.arange(2 * 784, dtype=np.uint16).astype(np.uint8).reshape(2, 28, 28)
    folder = write_tiny_artifact(tmp_path / "new", samples=(images, images[:1]), report={"index.html": b"words"})
    artifact = load_artifact(folder)
    np.testing.assert_array_equal(artifact.samples.normal, images)
    assert len(artifact.samples.odd) == 1
    assert artifact.report == {"index.html": b"words"}
    older = load_artifact(write_tiny_artifact(tmp_path / "old"))
    assert (len(older.samples.normal), len(older.samples.odd), older.report) == (0, 0, {})


@pytest.mark.parametrize(
    "images", [np.zeros((2, 28, 28), np.float32), np.zeros((28, 28), np.uint8), np.array([{}], dtype=object)]
)
def test_samples_of_another_kind_are_refused_by_name(tmp_path: Path, images: Any) -> None:
    with pytest.raises(ArtifactError, match=r"samples\.npz"):
        write_tiny_artifact(tmp_path / "wrong", samples=(images, images))

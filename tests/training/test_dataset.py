import os
import shutil
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from app.detection.images import Preprocessing, decode_image
from app.settings import HEIC_IS_MISSING, Settings
from training.data.circles import draw_circles, random_circles
from training.data.dataset import MAX_FILE_BYTES, circle_dataset, decode, fingerprint, own_size, read
from training.data.folder import decode_folder, folder_dataset
from training.errors import TrainingError

PARTS = ("train", "calibration", "test")


def save_image(path, seed, size=(40, 30), mode="L", dark=False):
    levels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    levels[[0, -1]] = levels[:, [0, -1]] = 0 if dark else 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels).convert(mode).save(path)


@pytest.fixture
def folder(tmp_path):
    """Eighty images of every accepted format, several sizes and modes, in nested folders."""
    root = tmp_path / "My images"
    for number in range(80):
        suffix = ("png", "jpg", "webp", "bmp", "gif")[number % 5]
        mode = {"png": "RGBA", "gif": "P"}.get(suffix, "RGB" if number % 2 else "L")
        save_image(root / f"part {number % 3}" / "deep" / f"{number}.{suffix}", number, (20 + number, 35), mode)
    return root


def test_circles_are_split_as_asked_and_decoded_by_the_serving_code():
    dataset = circle_dataset(count=5, seed=0, calibration_count=4, test_count=3)
    assert [len(getattr(dataset, part).images) for part in PARTS] == [5, 4, 3]
    for part in (dataset.train, dataset.calibration, dataset.test):
        for original, image in zip(part.originals, part.images, strict=True):
            np.testing.assert_array_equal(decode_image(read(original), dataset.preprocessing, 10_000), image)
        assert len(part.radii) == len(part.images)
    assert {key: dataset.description[key] for key in ("kind", *PARTS)} == {
        "kind": "circles",
        "train": 5,
        "calibration": 4,
        "test": 3,
    }


@pytest.mark.parametrize(("circles", "resampling"), [("tutorial", "NEAREST"), ("smooth", "BICUBIC")])
def test_circles_are_reduced_as_asked_and_the_description_says_how(circles, resampling):
    dataset = circle_dataset(count=4, seed=0, calibration_count=1, test_count=1, circles=circles)
    for original, image in zip(dataset.train.originals, dataset.train.images, strict=True):
        gray = Image.open(BytesIO(original)).convert("L")
        expected = np.asarray(gray.resize((28, 28), Image.Resampling[resampling]), np.float32) / np.float32(255)
        np.testing.assert_allclose(image, expected, atol=1e-6)
    assert dataset.description["circles"] == circles


def test_radii_belong_to_their_circles():
    test = circle_dataset(count=1, seed=0, calibration_count=1, test_count=30).test
    darkness = (1 - test.images).sum(axis=(1, 2))
    assert np.corrcoef(darkness, test.radii)[0, 1] > 0.95


def test_parts_share_no_circle_and_more_training_leaves_the_others_as_they_were():
    few, many = (circle_dataset(count, seed=3, calibration_count=4, test_count=3) for count in (4, 6))
    contents = [read(original) for part in PARTS for original in getattr(few, part).originals]
    assert len(set(contents)) == len(contents)
    assert few.calibration.originals == many.calibration.originals
    assert few.test.originals == many.test.originals
    assert few.description["fingerprint"] != many.description["fingerprint"]


def test_folder_is_read_with_all_formats_and_sizes_and_split_by_seed(folder):
    first, again, other = (folder_dataset(folder, seed, rate=0.05) for seed in (1, 1, 2))
    assert [len(getattr(first, part).images) for part in PARTS] == [48, 20, 12]
    paths = [path for part in PARTS for path in getattr(first, part).originals]
    assert len(set(paths)) == 80
    assert {path.suffix for path in paths} == {".png", ".jpg", ".webp", ".bmp", ".gif"}
    assert first.train.originals == again.train.originals
    assert first.train.originals != other.train.originals
    assert first.description["fingerprint"] == other.description["fingerprint"]
    np.testing.assert_array_equal(decode(first.test.originals, first.preprocessing), first.test.images)


def test_split_and_fingerprint_depend_on_contents_not_on_names(folder, tmp_path):
    moved = tmp_path / "moved"
    moved.mkdir()
    for number, path in enumerate(sorted(folder.rglob("*.*"), reverse=True)):
        shutil.copy(path, moved / f"{number}.img")
    first, second = folder_dataset(folder, 0, 0.05), folder_dataset(moved, 0, 0.05)
    assert first.description == second.description
    np.testing.assert_array_equal(first.calibration.images, second.calibration.images)


def test_broken_and_foreign_files_are_listed_and_skipped(folder):
    whole = (folder / "part 0" / "deep" / "0.png").read_bytes()
    (folder / "broken.png").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_bytes(b"never looked at")
    lines = []
    dataset = folder_dataset(folder, 0, 0.05, tell=lines.append)
    assert sorted(line.split(":")[0] for line in lines[:2]) == ["Skipped broken.png", "Skipped notes.txt"]
    assert lines[2:3] == ["My images: 80 different images are read; 2 files are skipped, 0 exact copies are left out."]
    assert dataset.description["skipped"] == 2


def test_a_file_larger_than_serving_accepts_is_not_read_and_a_pipe_not_waited_for(folder):
    with (folder / "video.mp4").open("wb") as file:
        file.truncate(20 * 2**30)  # takes no room on the disk
    os.mkfifo(folder / "pipe")
    (folder / "gone.png").symlink_to("nowhere.png")
    lines = []
    assert folder_dataset(folder, 0, 0.05, tell=lines.append).description["skipped"] == 3
    assert sorted(lines[:3]) == [
        "Skipped gone.png: No such file or directory",
        "Skipped pipe: Not a regular file.",
        "Skipped video.mp4: The file has 20 GB; at most 32 MB are read.",
    ]
    assert Settings.model_fields["max_upload_bytes"].default == MAX_FILE_BYTES


def test_a_skipped_name_that_is_not_utf_8_is_shown_escaped(folder):
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(b"no image")
    lines = []
    folder_dataset(folder, 0, 0.05, tell=lines.append)
    assert lines[0].startswith("Skipped caf\\xe9.png: The file is not one of PNG")
    lines[0].encode()


def test_linked_folders_are_followed_once_and_optional_formats_are_read(folder, tmp_path):
    save_image(tmp_path / "elsewhere" / "more.tiff", 99)
    for name in ("first", "second"):
        (folder / name).symlink_to(tmp_path / "elsewhere")
    description = folder_dataset(folder, 0, 0.05).description
    assert sum(description[part] for part in PARTS) == 81
    assert description["duplicates"] == 0


def test_a_folder_of_tiffs_of_one_size_has_that_size(tmp_path):
    for number in range(80):
        save_image(tmp_path / f"{number}.tiff", number, (100, 100))
    assert own_size(folder_dataset(tmp_path, 0, 0.05).train.originals) == (100, 100)


def test_heics_are_read_with_their_extra_and_named_without(folder, monkeypatch):
    pytest.importorskip("pillow_heif", reason="the extra `heic` is not installed")
    from testing.heic_files import encoded_heic

    (folder / "photo.heic").write_bytes(encoded_heic(Image.new("RGB", (64, 64), "white")))
    lines = []
    description = folder_dataset(folder, 0, 0.05, tell=lines.append).description
    assert sum(description[part] for part in PARTS) == 81
    monkeypatch.setattr("app.detection.heic.is_heic_installed", lambda: False)
    description = folder_dataset(folder, 0, 0.05, tell=lines.append).description
    assert sum(description[part] for part in PARTS) == 80
    assert f"Skipped photo.heic: {HEIC_IS_MISSING}." in lines
    assert "pip install 'imagegate[heic]'" in HEIC_IS_MISSING


def test_equal_files_count_once(folder):
    shutil.copy(folder / "part 0" / "deep" / "0.png", folder / "copy.png")
    description = folder_dataset(folder, 0, 0.05).description
    assert description["duplicates"] == 1
    assert sum(description[part] for part in PARTS) == 80


def test_too_few_images_say_how_many_the_rate_takes(folder):
    with pytest.raises(TrainingError, match=r"80 different readable images\. .* 0\.01 takes at least 396: 99 for"):
        folder_dataset(folder, 0, rate=0.01)


def test_what_is_said_to_be_enough_is_enough(folder):
    with pytest.raises(TrainingError, match="at least 96"):
        folder_dataset(folder, 0, rate=0.04)
    for number in range(80, 96):
        save_image(folder / f"{number}.png", number)
    assert len(folder_dataset(folder, 0, rate=0.04).calibration.images) == 24


def test_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="not a folder"):
        folder_dataset(tmp_path / "missing", 0, 0.05)


def test_transparent_parts_get_the_background_of_the_other_images(tmp_path):
    for number in range(80):
        save_image(tmp_path / f"{number}.png", number, dark=True)
    Image.new("LA", (30, 30), (255, 0)).save(tmp_path / "transparent.png")
    dataset = folder_dataset(tmp_path, 0, 0.05)
    assert dataset.preprocessing.background == 0
    everything = {path.name: image for part in PARTS for path, image in pairs(getattr(dataset, part))}
    assert everything["transparent.png"].max() == 0


def pairs(part):
    return zip(part.originals, part.images, strict=True)


def test_fingerprint_ignores_order_and_notices_every_image():
    files = draw_circles(random_circles(2, np.random.default_rng(0)))
    assert len(files) == 2
    assert fingerprint(["a", "b"]) == fingerprint(["b", "a"]) != fingerprint(["a", "c"])


def test_images_of_a_folder_come_by_name_and_know_their_subfolder(tmp_path):
    for row, name in enumerate(("dust/10.png", "dust/9.png", "loose.png", "scratch/deep/1.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (30, 30), 60 * row).save(tmp_path / name)
    found = decode_folder(tmp_path, Preprocessing())
    assert found.names == ["dust/9.png", "dust/10.png", "loose.png", "scratch/deep/1.png"]
    assert found.subfolders == ["dust", "dust", "", "scratch"]
    assert found.images[:, 0, 0].tolist() == pytest.approx([60 / 255, 0, 120 / 255, 180 / 255])

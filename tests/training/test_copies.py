"""Near-copies: found relative to how near neighbours lie anyway, kept in one part, counted once."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from app.detection.images import Preprocessing
from training.data.circles import Canvas, Circle, draw_circles, random_circles
from training.data.copies import find_scenes
from training.data.dataset import decode
from training.data.folder import _tell_scenes, _tell_sizes, folder_dataset, group, split
from training.data.oddest import oddest
from training.errors import TrainingError

SHOTS = 5


def written_digits(count, seed=0):
    """(count, 28, 28) distinct written digits, dark on white."""
    digits = load_digits().images
    rows = np.random.default_rng(seed).permutation(len(digits))[:count]
    pictures = [Image.fromarray((255 - digits[row] * 255 / 16).astype(np.uint8)) for row in rows]
    enlarged = [np.asarray(picture.resize((28, 28), Image.Resampling.BICUBIC)) for picture in pictures]
    return np.stack(enlarged).astype(np.float32) / 255


def shots_of(images, seed=1):
    """`SHOTS` of each: a little noise, and another light."""
    generator = np.random.default_rng(seed)
    shots = np.repeat(images, SHOTS, axis=0)
    light = generator.uniform(0.97, 1.0, (len(shots), 1, 1))
    return np.clip(shots * light + generator.normal(0, 0.015, shots.shape), 0, 1).astype(np.float32)


def circle_video(scenes, seed=2):
    """`SHOTS` frames of each circle, which moves a little between them."""
    generator = np.random.default_rng(seed)
    canvas = Canvas()
    frames = []
    for circle in random_circles(scenes, generator):
        for dx, dy, dr in generator.uniform(-0.002, 0.002, (SHOTS, 3)):
            frames.append(canvas.draw(Circle(circle.x + dx, circle.y + dy, circle.radius + dr / 2)))
    return np.stack([np.asarray(frame.convert("L").resize((28, 28), Image.Resampling.BICUBIC)) for frame in frames]) / (
        np.float32(255)
    )


def in_order(count):
    return np.array(list(pairwise(range(count))), np.int64)


def any_order():
    return np.empty((0, 2), np.int64)


def torn(scenes, true):
    """The shares of images whose scene is torn apart, and that were put together with another scene."""
    apart = [len(set(scenes[true == scene])) > 1 for scene in true]
    together = [len(set(true[scenes == scene])) > 1 for scene in scenes]
    return np.mean(apart), np.mean(together)


@pytest.mark.parametrize("named", [in_order, lambda _: any_order()], ids=["named in order", "named at random"])
def test_bursts_of_digits_are_found_whatever_their_names(named):
    images = shots_of(written_digits(200))
    apart, together = torn(find_scenes(images, named(len(images))), np.arange(len(images)) // SHOTS)
    assert apart <= 0.02
    assert together <= 0.05


def test_frames_of_circles_as_near_as_other_circles_are_found_by_the_order_of_their_names():
    images = circle_video(200)
    apart, together = torn(find_scenes(images, in_order(len(images))), np.arange(len(images)) // SHOTS)
    assert apart <= 0.02
    assert together <= 0.05


@pytest.mark.parametrize("count", [80, 400, 1500])
def test_distinct_digits_are_left_apart(count):
    images = written_digits(count)
    assert len(np.unique(find_scenes(images, in_order(count)))) >= 0.995 * count


@pytest.mark.parametrize("count", [80, 400, 1500])
def test_distinct_circles_are_left_apart(count):
    images = decode(draw_circles(random_circles(count, np.random.default_rng(count))), Preprocessing())
    assert len(np.unique(find_scenes(images, in_order(count)))) >= 0.995 * count


def test_digits_sorted_by_their_class_are_left_apart():
    labels, order = load_digits().target[:1000], np.random.default_rng(3).permutation(1000)
    rows = order[np.argsort(labels[order], kind="stable")]
    digits = load_digits().images[rows]
    images = np.kron(1 - digits / 16, np.ones((1, 3, 3)))  # (1000, 24, 24)
    images = np.pad(images, ((0, 0), (2, 2), (2, 2)), constant_values=1).astype(np.float32)
    assert len(np.unique(find_scenes(images, in_order(1000)))) >= 0.99 * 1000


def test_one_pair_of_copies_among_many_images_is_found():
    images = written_digits(300)
    images[17] = np.clip(images[203] + 0.01, 0, 1)
    scenes = find_scenes(images, any_order())
    assert scenes[203] == scenes[17] == 17
    assert len(np.unique(scenes)) == 299


def test_a_scene_is_in_one_part_and_counts_once_for_the_promise():
    scenes = np.repeat(np.arange(0, 500, SHOTS), SHOTS)
    train, calibration, test = split(scenes, seed=4)
    assert (len(calibration), len(test)) == (25, 15)
    assert len(train) == 60 * SHOTS
    parts = [set(scenes[rows].tolist()) for rows in (train, calibration, test)]
    assert [len(part) for part in parts] == [60, 25, 15]
    assert len(set.union(*parts)) == 100


def test_folders_and_name_prefixes_are_scenes_by_hand():
    paths = [Path(name) for name in ("a/cat_1.png", "a/cat_2.png", "a/dog-01.png", "b/cat_1.png", "b/007.png")]
    images = np.zeros((len(paths), 28, 28), np.float32)
    assert group(images, paths, "folder").tolist() == [0, 0, 0, 3, 3]
    assert group(images, paths, "name-prefix").tolist() == [0, 0, 2, 3, 4]
    assert group(images, paths, "none").tolist() == [0, 1, 2, 3, 4]


def save_shots(folder, images):
    folder.mkdir()
    for row, image in enumerate(images):
        Image.fromarray((image * 255).round().astype(np.uint8)).save(folder / f"shot {row}.png")


def test_a_folder_of_bursts_is_told_in_one_line_and_split_by_scene(tmp_path):
    save_shots(tmp_path / "bursts", shots_of(written_digits(100)))
    lines = []
    dataset = folder_dataset(tmp_path / "bursts", 0, 0.05, tell=lines.append)
    line = lines[0]
    copies = dataset.description["near_copies"]
    assert 95 <= 500 - copies <= 102
    said = (
        f"Of 500 images {copies} look like near-copies of others (bursts, videos), which leaves {500 - copies} scenes, "
    )
    assert line.startswith(said)
    shots = [{int(path.stem.split()[1]) // SHOTS for path in part.originals} for part in (dataset.train, dataset.test)]
    assert len(shots[0] & shots[1]) <= 1


def test_one_near_copy_is_told_as_one_and_scenes_by_hand_are_no_copies():
    lines = []
    _tell_scenes(np.array([0, 1, 1]), "likeness", lines.append)
    _tell_scenes(np.array([0, 1, 1]), "folder", lines.append)
    assert lines[0].startswith(
        "Of 3 images 1 looks like a near-copy of others (bursts, videos), which leaves 2 scenes,"
    )
    assert lines[1].startswith("3 images belong by folder to 2 scenes, up to 2 images each: ")


@pytest.mark.parametrize(("rate", "advised"), [(0.01, True), (0.05, False), (0.1, False)])
def test_a_small_folder_is_advised_of_a_higher_rate_only_below_it(rate, advised):
    lines = []
    _tell_sizes(500, rate, [], lines.append)
    said = (
        "1,000 or more, or a promised rate of 5%, let the gate" if advised else "1,000 or more let the gate find more."
    )
    assert said in lines[0]


def test_too_few_scenes_are_refused_however_many_the_images(tmp_path):
    save_shots(tmp_path / "bursts", shots_of(written_digits(100)))
    with pytest.raises(TrainingError, match=r"500 different readable images of \d+ scenes\..* at least 396: 99 for"):
        folder_dataset(tmp_path / "bursts", 0, 0.01, tell=lambda _: None)
    assert len(folder_dataset(tmp_path / "bursts", 0, 0.01, group_by="none").calibration.images) == 125


def test_nine_of_ten_contaminants_are_among_the_files_listed_first():
    """In ten folders of one digit each, with four of other digits."""
    data = load_digits()
    found = 0
    for digit in range(10):
        own, others = np.flatnonzero(data.target == digit), np.flatnonzero(data.target != digit)
        rows = np.concatenate((own, np.random.default_rng(digit).choice(others, 4, replace=False)))
        images = np.kron(1 - data.images[rows] / 16, np.ones((1, 3, 3))).astype(np.float32)
        listed = oddest(images, np.arange(len(rows)), [str(row) for row in rows])
        assert len(listed) == 30
        found += len({file.name for file in listed} & {str(row) for row in rows[-4:]})
    assert found >= 36


def test_shots_of_one_odd_scene_are_odd_all_the_same():
    images = shots_of(written_digits(60))
    images[:SHOTS] = 1 - images[:SHOTS]
    listed = oddest(images, np.arange(len(images)) // SHOTS, [str(row) for row in range(len(images))])
    assert int(listed[0].name) < SHOTS
    assert listed[0].oddness > 3
    assert len({int(file.name) // SHOTS for file in listed}) == len(listed)


def test_a_faint_stranger_is_listed_although_it_lies_near_to_all():
    generator = np.random.default_rng(0)
    strokes = np.kron(generator.random((200, 7, 7)) < 0.4, np.ones((4, 4))).astype(np.float32)
    faint = np.full((28, 28), 0.4, np.float32)
    faint[10:12, 4:24] = 0.5
    images = np.concatenate([strokes, faint[None]])
    listed = oddest(images, np.arange(201), [f"{row}" for row in range(201)])
    assert listed[0].name == "200"


def test_a_few_odd_images_among_equal_ones_are_listed_first_with_a_number_to_read():
    images = np.full((100, 28, 28), 0.9, np.float32)
    images[97:, 5:20, 5:20] = 0.1
    listed = oddest(images, np.arange(100), [str(row) for row in range(100)])
    assert {file.name for file in listed[:3]} == {"97", "98", "99"}
    assert 3 < listed[2].oddness <= listed[0].oddness < 1000
    assert listed[3].oddness < 1

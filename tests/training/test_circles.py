import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from app.detection.images import Preprocessing, decode_image
from training.data.circles import Canvas, Circle, draw_circles, random_circles


def draw_on_new_figure(circle):
    """The tutorial's way, as slow as it is."""
    plt.switch_backend("Agg")
    figure = plt.figure(figsize=(1, 1))
    axes = figure.add_subplot()
    axes.add_patch(plt.Circle((circle.x, circle.y), circle.radius, color="k", fill=False))
    axes.axis("off")
    figure.canvas.draw()
    pixels = np.array(figure.canvas.buffer_rgba())
    plt.close(figure)
    return pixels


def test_reused_canvas_draws_what_a_new_figure_draws_pixel_for_pixel():
    circles = random_circles(40, np.random.default_rng(0))
    extremes = [Circle(0.5, 0.5, 0.03), Circle(0.53, 0.53, 0.47), Circle(0.53, 0.53, 0.6)]
    canvas = Canvas()
    for circle in [*circles, *extremes]:
        np.testing.assert_array_equal(np.asarray(canvas.draw(circle)), draw_on_new_figure(circle))


def test_matplotlib_settings_of_the_user_do_not_change_a_circle():
    circle = Circle(0.5, 0.52, 0.3)
    expected = np.asarray(Canvas().draw(circle))
    with plt.rc_context({"patch.linewidth": 5, "figure.dpi": 200, "figure.facecolor": "red"}):
        np.testing.assert_array_equal(np.asarray(Canvas().draw(circle)), expected)


def test_circles_follow_the_tutorials_distribution():
    circles = random_circles(2000, np.random.default_rng(0))
    xs, ys, radii = np.array([(circle.x, circle.y, circle.radius) for circle in circles]).T
    for centres in (xs, ys):
        assert 0.5 <= centres.min() < 0.5005
        assert 0.5295 < centres.max() <= 0.53
    assert 0.03 <= radii.min() < 0.035
    assert 0.465 < radii.max() <= 0.47
    assert abs(np.corrcoef(xs, ys)[0, 1]) < 0.1


def test_same_seed_draws_the_same_files():
    files = [draw_circles(random_circles(3, np.random.default_rng(seed))) for seed in (5, 5, 6)]
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_drawn_file_decodes_to_a_dark_outline_on_white():
    (content,) = draw_circles([Circle(0.5, 0.5, 0.4)])
    image = decode_image(content, Preprocessing(), 10_000)
    assert image.shape == (28, 28)
    assert image[0].min() > 0.9
    assert image.min() < 0.7
    assert image[12:16, 12:16].min() > 0.9


def test_drawing_leaves_earlier_images_alone():
    canvas = Canvas()
    first = canvas.draw(Circle(0.5, 0.5, 0.1))
    before = np.array(first)
    canvas.draw(Circle(0.5, 0.5, 0.4))
    np.testing.assert_array_equal(np.asarray(first), before)
    assert isinstance(first, Image.Image)

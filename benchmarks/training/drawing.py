"""`python -m benchmarks.training.drawing`: how much faster one reused canvas draws than new figures do.

Both draw the same circles, in turns, and must agree in every pixel.
"""

import time
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from training.data.circles import Canvas, Circle, random_circles

CIRCLES_A_TURN = 100
TURNS = 5


def draw_on_new_figure(circle: Circle) -> NDArray[np.uint8]:
    """As the tutorial does. Returns (100, 100, 4)."""
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(1, 1))
    axes = figure.add_subplot()
    axes.add_patch(plt.Circle((circle.x, circle.y), circle.radius, color="k", fill=False))
    axes.axis("off")
    figure.canvas.draw()
    pixels = np.array(figure.canvas.buffer_rgba())
    plt.close(figure)
    return pixels


def timed(draw: Callable[[Circle], NDArray[np.uint8]], circles: list[Circle]) -> tuple[float, list[NDArray[np.uint8]]]:
    """Seconds a circle, and the pictures."""
    start = time.perf_counter()
    pictures = [draw(circle) for circle in circles]
    return (time.perf_counter() - start) / len(circles), pictures


def main() -> None:
    mpl.use("Agg")
    canvas = Canvas()
    draw_on_new_figure(Circle(0.5, 0.5, 0.2))  # loads fonts
    slow, fast = [], []
    for turn in range(TURNS):
        circles = random_circles(CIRCLES_A_TURN, np.random.default_rng(turn))
        seconds, expected = timed(draw_on_new_figure, circles)
        slow.append(seconds)
        seconds, found = timed(lambda circle: np.asarray(canvas.draw(circle)), circles)
        fast.append(seconds)
        if not all(np.array_equal(one, other) for one, other in zip(expected, found, strict=True)):
            raise SystemExit("The two ways differ in a pixel.")
    ratios = sorted(one / other for one, other in zip(slow, fast, strict=True))
    print(f"new figure each: {1e3 * min(slow):.2f} ms a circle")
    print(f"one canvas:      {1e3 * min(fast):.3f} ms a circle")
    print(f"speed-up:        {ratios[TURNS // 2]:.0f} (median of {TURNS} turns, {ratios[0]:.0f} to {ratios[-1]:.0f})")


if __name__ == "__main__":
    main()

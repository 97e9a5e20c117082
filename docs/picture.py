"""Draws the README's picture: a circle and a duck, what the default gate redraws, and what it decides.

python -m docs.picture
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from app.detection.artifact import load_artifact
from app.detection.detector import Detector
from app.detection.images import decode_image
from examples.digits.pictures import odd_pictures
from training.data.circles import Circle, draw_circles
from training.data.dataset import shown_by

HERE = Path(__file__).parent
ACCEPTED, REFUSED, INK = "#1f7a4d", "#b3261e", "#333333"


def main() -> None:
    detector = Detector(load_artifact(HERE.parent / "model_artifacts" / "circles"))
    (circle,) = draw_circles([Circle(0.515, 0.515, 0.36)])
    odd_pictures()["duck"][0].save(HERE / "duck.png")
    (HERE / "circle.png").write_bytes(circle)
    figure = Figure(figsize=(6.4, 2.3))
    figure.subplots_adjust(left=0.01, right=0.99, top=0.9, bottom=0.24, wspace=0.12)
    with mpl.rc_context({"font.size": 10}):
        panels = figure.subplots(1, 5, gridspec_kw={"width_ratios": [1, 1, 0.3, 1, 1]})
        panels[2].set_axis_off()
        for pair, content in ((panels[:2], circle), (panels[3:], (HERE / "duck.png").read_bytes())):
            image = decode_image(content, detector.artifact.preprocessing, max_pixels=10**6)
            detection = detector.detect(image[np.newaxis], [shown_by(content)])[0]
            for axes, picture, title in zip(pair, (image, detection.reconstruction), ("sent", "redrawn"), strict=True):
                axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
                axes.set_title(title, color=INK)
                axes.set_xticks([])
                axes.set_yticks([])
            verdict, colour = ("anomaly: refused", REFUSED) if detection.is_anomaly else ("normal: accepted", ACCEPTED)
            middle = (pair[0].get_position().x0 + pair[1].get_position().x1) / 2
            figure.text(middle, 0.1, verdict, ha="center", color=colour, fontsize=13, weight="bold")
            figure.text(
                middle,
                0.02,
                f"score {detection.score:.2f}, threshold {detection.threshold:.2f}",
                ha="center",
                color=INK,
                fontsize=9,
            )
    figure.savefig(HERE / "circle-and-duck.png", dpi=150)


if __name__ == "__main__":
    main()

"""Fits the plain autoencoder with ten seeds, and notes how far each comes: `docs/tutorial/seeds.json`.

python -m docs.tutorial.seeds
"""

import json
from typing import Any

import torch

from docs.tutorial.page import HERE
from training.tutorial.lesson import Lesson, fit_network, new_network, train_circles
from training.tutorial.measures import mean_image_loss

SEEDS = range(10)
NOTES = HERE / "seeds.json"
# A network whose last epoch is not this much below the loss of the mean image has learnt the mean image alone.
_LEAST_GAIN = 0.03


def main() -> None:
    torch.set_num_threads(1)
    rows = [_measure(seed) for seed in SEEDS]
    NOTES.write_text("[\n" + ",\n".join(f"  {json.dumps(row)}" for row in rows) + "\n]\n")


def read_seeds() -> list[dict[str, Any]]:
    """One entry for each seed: `seed`, `mean_image_loss`, `epoch_losses`, and whether it `stayed` on the plateau."""
    rows: list[dict[str, Any]] = json.loads(NOTES.read_text())
    return [{**row, "stayed": row["epoch_losses"][-1] > (1 - _LEAST_GAIN) * row["mean_image_loss"]} for row in rows]


def _measure(seed: int) -> dict[str, Any]:
    lesson = Lesson(seed)
    circles = train_circles(lesson)
    losses = fit_network(new_network("ae", seed), circles.images, lesson.epochs, seed)
    plateau = mean_image_loss(circles.images)
    return {"seed": seed, "mean_image_loss": round(plateau, 4), "epoch_losses": [round(loss, 4) for loss in losses]}


if __name__ == "__main__":
    main()

"""`python -m benchmarks.training.training`: the tutorial's run, in its own way and in ours.

Its way: a new figure and a PNG file for each circle, a dataset that opens and resizes a file whenever it is asked for
one, a DataLoader, Adam as PyTorch has it by default. Ours is what `python -m training --model ae` does up to the fitted
network. Both start from the same weights and see the same circles in the same order.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from app.detection.images import SIDE, Preprocessing
from benchmarks.training.drawing import draw_on_new_figure
from training.data.circles import Circle, draw_circles, random_circles
from training.data.dataset import decode
from training.fitting.fit import fit
from training.model.autoencoders import build, describe
from training.plan import FitSettings

SEED = 0


class Files(Dataset[Tensor]):
    """The tutorial's dataset: images stay in their files until they are needed."""

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(folder.iterdir())

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, place: int) -> Tensor:
        image = Image.open(self._paths[place]).convert("L").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.asarray(image, np.float32)[np.newaxis] / 255)


class SameOrder(Sampler[int]):
    """Shuffles as `training.fitting.fit` does."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._generator = torch.Generator().manual_seed(SEED)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(self._count, generator=self._generator).tolist())


def tutorials_way(circles: list[Circle], settings: FitSettings) -> list[float]:
    """The loss of each epoch."""
    with tempfile.TemporaryDirectory() as folder:
        for number, circle in enumerate(circles):
            Image.fromarray(draw_on_new_figure(circle)).save(Path(folder, f"{number:06}.png"))
        files = Files(Path(folder))
        batches = DataLoader(files, batch_size=settings.batch_size, sampler=SameOrder(len(files)))
        network = build(describe("ae", 1, settings.loss), SEED)
        optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
        epoch_losses = []
        for _ in range(settings.epochs_for(len(files))):
            losses = []
            for images in batches:
                loss = F.mse_loss(network(images), images)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            epoch_losses.append(float(np.mean(losses)))
        return epoch_losses


def our_way(circles: list[Circle], settings: FitSettings) -> list[float]:
    """The same."""
    levels = decode(draw_circles(circles), Preprocessing())
    images = (levels * 255).round().astype(np.uint8)
    return fit(build(describe("ae", 1, settings.loss), SEED), images, settings, SEED)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.training")
    parser.add_argument("--circles", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    mpl.use("Agg")
    draw_on_new_figure(Circle(0.5, 0.5, 0.2))  # loads fonts
    circles = random_circles(options.circles, np.random.default_rng(SEED))
    settings = FitSettings(epochs=options.epochs)
    ratios = []
    for turn in range(options.rounds):
        ways = [tutorials_way, our_way][:: -1 if turn % 2 else 1]
        seconds, losses = {}, {}
        for way in ways:
            start = time.perf_counter()
            losses[way] = way(circles, settings)
            seconds[way] = time.perf_counter() - start
        np.testing.assert_allclose(losses[our_way], losses[tutorials_way], rtol=0.01)
        ratios.append(seconds[tutorials_way] / seconds[our_way])
        print(
            f"the tutorial's way {seconds[tutorials_way]:.1f} s, ours {seconds[our_way]:.1f} s, {ratios[-1]:.1f} times"
        )
    last = ", ".join(f"{loss:.4f}" for loss in losses[our_way])
    print(
        f"median {sorted(ratios)[len(ratios) // 2]:.1f} times; losses of our epochs {last}, of the tutorial's within 1%"
    )


if __name__ == "__main__":
    sys.exit(main())

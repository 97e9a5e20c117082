"""`python -m training.add_samples ARTIFACT NEW`: the same artifact with images to show, for one that has none.

The network, the threshold and everything else stay as they are; the version changes, since the manifest lists one more
file. A training of today writes these images itself.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.detection.artifact import MANIFEST, Artifact, load_artifact, write_artifact
from app.detection.detector import Detector
from app.detection.shown import LOSSLESS_LARGE, LOSSLESS_OWN
from app.errors import ArtifactError
from training.data.dataset import circle_dataset
from training.data.folder import decode_folder
from training.errors import TrainingError
from training.fitting.evaluate import draw_families
from training.report.samples import choose_samples, write_samples

_FAMILY_COUNT = 10


def add_samples(artifact: Path, new: Path, data: Path | None = None) -> Artifact:
    """Writes the artifact `new`.

    Args:
        artifact: Trained on circles, whose test images are drawn again by its seed; or on others.
        new: Where it goes.
        data: A folder of normal images that were not trained on; needed unless the artifact's are circles.

    Raises:
        ArtifactError: The artifact does not load.
        TrainingError: There are no images to choose from.
    """
    loaded = load_artifact(artifact)
    manifest, detector = loaded.manifest, Detector(loaded)
    if data is not None:
        normal = decode_folder(data, loaded.preprocessing).images
    elif manifest.data.get("kind") == "circles":
        sizes = [manifest.data[part] for part in ("train", "calibration", "test")]
        normal = circle_dataset(1, manifest.seed, 1, sizes[2]).test.images
    else:
        raise TrainingError(f"{artifact} was trained on a folder: name normal images that it has not seen, by --data.")
    anomalies = draw_families(_FAMILY_COUNT, loaded.preprocessing)
    shown = LOSSLESS_LARGE if manifest.own_size is None else LOSSLESS_OWN
    threshold = manifest.thresholds.get(shown, manifest.threshold)
    samples = choose_samples(detector, threshold, normal, anomalies, shown)

    def fill(aside: Path) -> dict[str, Any]:
        for name in manifest.files:
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact / name, aside / name)
        write_samples(aside, samples)
        fields: dict[str, Any] = json.loads((artifact / MANIFEST).read_text())
        return {name: value for name, value in fields.items() if name not in ("format_version", "files")}

    return write_artifact(new, fill)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.add_samples", description=__doc__)
    parser.add_argument("artifact", type=Path, metavar="ARTIFACT")
    parser.add_argument("new", type=Path, metavar="NEW")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="normal images, unless they are circles")
    options = parser.parse_args(arguments)
    try:
        written = add_samples(options.artifact, options.new, options.data)
    except (ArtifactError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.new}: {len(written.samples.normal)} images that belong, {len(written.samples.odd)} that do not")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Which images an offline command takes: files and folders, or those of a kept folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.errors import ScoringError
from app.keeping.folder import KeptFolder
from app.keeping.record import Kept
from app.offline.local import find_files


@dataclass(frozen=True, slots=True)
class Chosen:
    """Files, and what is known of those that were kept.

    Attributes:
        files: In order.
        records: By file, of a kept folder.
    """

    files: list[str]
    records: dict[str, Kept]


def choose_images(paths: tuple[str, ...], kept: Path | None, wanted: Callable[[Kept], bool]) -> Chosen:
    """Finds the files.

    Args:
        paths: Files, and folders that are searched.
        kept: A folder of kept images in place of `paths`.
        wanted: Which of the kept images.

    Raises:
        ScoringError: There is no such kept folder, or nothing in it is wanted.
    """
    if kept is None:
        return Chosen(list(find_files(paths)), {})
    if not kept.is_dir():
        raise ScoringError(f"there is no folder {kept}.")
    folder = KeptFolder(kept)
    records = {str(folder.image_path(record)): record for record in folder.records() if wanted(record)}
    if not records:
        raise ScoringError(f"{kept} holds no kept images that fit: is GATE_KEEP_SAMPLE above 0?")
    return Chosen(list(records), records)

"""The files below a folder, the same for training and for scoring: nothing is left out in silence but hidden files."""

import os
from collections.abc import Iterator


def files_below(folder: str) -> Iterator[str]:
    """All files below a folder in the order of their names, files before folders, without hidden ones (a leading dot).

    Linked folders are followed, each folder once; a link that leads back to a folder around it is none.

    Yields:
        Paths that begin with `folder`. A folder that cannot be listed stands for itself: reading it fails like
        reading a file does, and so it is named where unreadable files are.
    """
    root = os.path.realpath(folder)
    seen = {_identity(folder)}
    unlisted: list[str] = []
    walk = os.walk(folder, onerror=lambda error: unlisted.append(str(error.filename)), followlinks=True)
    for parent, folders, names in walk:
        yield from unlisted
        unlisted.clear()
        visible = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in visible if _is_new(os.path.join(parent, name), root, seen)]
        yield from (os.path.join(parent, name) for name in sorted(names) if not name.startswith("."))
    yield from unlisted


def printable(path: str | os.PathLike[str]) -> str:
    """A path as text: bytes that are not UTF-8 are written as \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _is_new(path: str, root: str, seen: set[tuple[int, int] | None]) -> bool:
    """Whether to go into a folder; remembers it."""
    if os.path.islink(path):
        target = os.path.realpath(path)
        if _is_below(root, target):
            return False  # around the folder that was asked for
        inside = os.path.relpath(target, root) if _is_below(target, root) else "."
        if inside != "." and not any(part.startswith(".") for part in inside.split(os.sep)):
            return False  # found under its own name
    identity = _identity(path)
    if identity in seen:
        return False
    if identity is not None:
        seen.add(identity)
    return True


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None  # listing it will say why
    return status.st_dev, status.st_ino

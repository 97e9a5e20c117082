"""Lists the files below a folder, in the same way for training and for offline scoring."""

import os
from collections.abc import Iterator


def files_below(folder: str) -> Iterator[str]:
    """Yields all files below a folder, sorted by name, files before folders. Names with a leading dot are skipped.

    Symbolic links to folders are followed, but every folder is visited only once, and a link to a parent folder is
    ignored.

    Yields:
        Paths that begin with `folder`. A folder that cannot be listed is yielded itself: reading it then fails, so
        the caller reports it together with the unreadable files.
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
    """Returns whether to descend into a folder that has not been visited yet, and marks it as visited."""
    if os.path.islink(path):
        target = os.path.realpath(path)
        if _is_below(root, target):
            return False  # the link points to a parent of the folder that is listed
        inside = os.path.relpath(target, root) if _is_below(target, root) else "."
        if inside != "." and not any(part.startswith(".") for part in inside.split(os.sep)):
            return False  # the target lies below the same folder, so the walk reaches it without the link
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

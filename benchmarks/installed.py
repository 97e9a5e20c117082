"""How much disk a set of requirements takes, with all that they require in turn."""

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement


def installed_bytes(requirements: Iterable[str]) -> int:
    """Bytes of every file of every distribution, each once.

    Args:
        requirements: Names of installed distributions; an editable one counts for what it requires alone.
    """
    found: dict[str, Distribution] = {}
    remaining = list(requirements)
    while remaining:
        name = _normal(remaining.pop())
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # required for another platform or Python
        for line in found[name].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                remaining.append(requirement.name)
    return sum(_bytes(one) for one in found.values())


def _bytes(one: Distribution) -> int:
    paths = (Path(str(one.locate_file(file))) for file in one.files or ())
    return sum(path.stat().st_size for path in paths if path.is_file())


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

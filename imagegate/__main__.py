"""`imagegate serve | score | train | ...`: hands the command line to the service's commands, or to training."""

import importlib
import importlib.util
import sys
from collections.abc import Sequence

import app.__main__

_NO_TRAINING = (
    "imagegate: training needs PyTorch and more: `pip install '.[training]'` in a checkout of the repository."
)
_TRAIN = "learn what normal images look like, from a folder of them, into an artifact"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: By default those of the process.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["train"]:
        return _train(words[1:])
    return app.__main__.main(words, prog="imagegate", elsewhere={"train": _TRAIN})


def _train(words: Sequence[str]) -> int:
    if importlib.util.find_spec("torch") is None:
        print(_NO_TRAINING, file=sys.stderr)
        return 1
    training = importlib.import_module("training.__main__")
    code: int = training.main(words, prog="imagegate train")
    return code


if __name__ == "__main__":
    sys.exit(main())

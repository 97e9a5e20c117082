"""Coverage-guided fuzzing of multipart bodies, as `fuzz_images.py` does it for images.

The input's first line is the Content-Type, the rest the body.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["app.payload.multipart", "app.payload.body"]):
    from app.payload.multipart import parse_multipart
from starlette.datastructures import Headers

from app.errors import MalformedRequest


def take_apart(data: bytes) -> None:
    content_type, _, body = data.partition(b"\n")
    try:
        parts = parse_multipart(Headers(raw=[(b"content-type", content_type)]), body)
    except MalformedRequest:
        return
    assert sum(len(part.content) for part in parts) <= len(body)


def main() -> None:
    from tests.hostile.fuzz.seeds import write_body_seeds

    corpus = write_body_seeds(Path("build/fuzz/bodies"))
    limits = ["-timeout=5", "-rss_limit_mb=1024", "-max_len=8000", "-artifact_prefix=build/fuzz/"]
    atheris.Setup([sys.argv[0], str(corpus), *limits, *sys.argv[1:]], take_apart)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""`python -m benchmarks.serving.forms`: the service's reader of multipart forms beside python-multipart's.

Both take the same bodies apart into names and contents; the service's refuses more, and needs no callbacks.
"""

import argparse
import time
from collections.abc import Callable

from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers

from app.errors import MalformedRequest
from app.payload.content_type import read_content_type
from app.payload.multipart import parse_form
from testing.pictures import circle_picture

BOUNDARY = "4f3a5b6c7d8e9f00112233445566778899"
HEADERS = Headers({"content-type": f"multipart/form-data; boundary={BOUNDARY}"})


def form(content: bytes) -> bytes:
    head = b'--%b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    return head % BOUNDARY.encode() + content + b"\r\n--%b--\r\n" % BOUNDARY.encode()


def ours(body: bytes) -> list[tuple[bytes, bytes]]:
    try:
        return [(part.name.encode(), part.content) for part in parse_form(read_content_type(HEADERS), body)]
    except MalformedRequest:
        return []


def theirs(body: bytes) -> list[tuple[bytes, bytes]]:
    parts: list[tuple[bytes, bytes]] = []
    field, value, disposition, content = bytearray(), bytearray(), b"", bytearray()

    def end_of_header() -> None:
        nonlocal disposition
        if field.lower() == b"content-disposition":
            disposition = bytes(value)
        field.clear()
        value.clear()

    def end_of_part() -> None:
        parts.append((parse_options_header(disposition)[1].get(b"name", b""), bytes(content)))
        content.clear()

    parser = MultipartParser(
        parse_options_header(HEADERS["content-type"])[1][b"boundary"],
        {
            "on_header_field": lambda data, start, end: field.extend(data[start:end]),
            "on_header_value": lambda data, start, end: value.extend(data[start:end]),
            "on_header_end": end_of_header,
            "on_part_data": lambda data, start, end: content.extend(data[start:end]),
            "on_part_end": end_of_part,
        },
    )
    parser.write(body)
    parser.finalize()
    return parts


def seconds(read: Callable[[bytes], object], body: bytes, rounds: int, repeats: int = 5) -> float:
    """The least processor time of one call, of several repeats of `rounds` calls each."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        for _ in range(rounds):
            read(body)
        times.append((time.process_time() - started) / rounds)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=8, help="of the large bodies")
    size = parser.parse_args().megabytes * 2**20
    bodies = {
        "a small PNG": (form(circle_picture()), 2000),
        "a large file": (form(bytes(size)), 3),
        "false boundaries": (form(b"\r\n--%b" % BOUNDARY[:-1].encode() * (size // 38)), 1),
    }
    print(f"{'microseconds':28} {'here':>12} {'python-multipart':>18}")
    for name, (body, rounds) in bodies.items():
        repeats = 5 if rounds > 1 else 1
        here, there = (seconds(read, body, rounds, repeats) * 1e6 for read in (ours, theirs))
        print(f"{name:28} {here:12.1f} {there:18.1f}")


if __name__ == "__main__":
    main()

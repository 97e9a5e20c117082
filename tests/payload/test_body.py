"""Bodies: read within their bounds, held within a budget, and taken apart without a byte of trust."""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from app.errors import BodyTooSlow, CompressedBody, MalformedRequest, Overloaded, TooManyBytes
from app.payload.body import BodyReader
from app.payload.multipart import is_multipart, parse_multipart
from app.settings import Settings

FORM = Headers({"content-type": "multipart/form-data; boundary=cut"})


def part(name: str, content: bytes, more: bytes = b"") -> bytes:
    return b'--cut\r\nContent-Disposition: form-data; name="%s"\r\n%s\r\n%s\r\n' % (name.encode(), more, content)


def reader(**settings: Any) -> BodyReader:
    return BodyReader(Settings(**{"max_upload_bytes": 100, "max_buffered_bytes": 250, **settings}))


def read(
    bodies: BodyReader, chunks: Iterable[bytes], headers: dict[str, str] | None = None, *, ends: bool = True
) -> bytes:
    """Reads chunks as a server hands them over; without `ends` the last one never comes."""
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if ends:
        messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.sleep(60)
        return messages.pop(0)

    async def run() -> bytes:
        with bodies.hold() as held:
            return await bodies.read(Headers(headers or {}).raw, receive, held)

    return asyncio.run(run())


def test_chunks_are_joined_in_order() -> None:
    assert read(reader(), [b"a", b"", b"bc", b"d" * 90]) == b"abc" + b"d" * 90
    assert read(reader(), []) == b""


def test_a_body_up_to_the_limit_is_read_and_one_byte_more_refused() -> None:
    assert len(read(reader(), [b"x" * 60, b"x" * 40])) == 100
    with pytest.raises(TooManyBytes):
        read(reader(), [b"x" * 60, b"x" * 41])


def test_a_declared_length_over_the_limit_is_refused_before_anything_is_read() -> None:
    for declared in ("101", "9" * 20, "9" * 5000):
        with pytest.raises(TooManyBytes):
            read(reader(), [], {"content-length": declared}, ends=False)


def test_a_body_of_another_length_than_declared_is_refused() -> None:
    """uvicorn alone hands over an empty body where a request offers an upgrade."""
    for chunks in ([], [b"ab"], [b"abc", b"d"]):
        with pytest.raises(MalformedRequest):
            read(reader(), chunks, {"content-length": "3"})
    assert read(reader(), [b"ab", b"c"], {"content-length": "3"}) == b"abc"


@pytest.mark.parametrize("declared", ["", "-1", "ten", "²"])
def test_a_declared_length_that_is_none_is_ignored(declared: str) -> None:
    assert read(reader(), [b"abc"], {"content-length": declared}) == b"abc"


def test_a_body_that_stops_half_way_is_refused_in_time() -> None:
    with pytest.raises(BodyTooSlow, match=r"0\.05 seconds"):
        read(reader(body_timeout_seconds=0.05), [b"half"], ends=False)


def test_chunks_that_come_late_are_joined_with_those_that_were_there() -> None:
    messages = [
        {"type": "http.request", "body": body, "more_body": more}
        for body, more in ((b"a", True), (b"b", True), (b"c", False))
    ]

    async def receive() -> dict[str, Any]:
        if len(messages) < 3:
            await asyncio.sleep(0.001)
        return messages.pop(0)

    async def run() -> bytes:
        bodies = reader()
        with bodies.hold() as held:
            return await bodies.read([], receive, held)

    assert asyncio.run(run()) == b"abc"


def test_a_request_that_is_cancelled_while_its_body_comes_gives_its_bytes_back() -> None:
    bodies = reader()

    async def receive() -> dict[str, Any]:
        if bodies.buffered_bytes:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": b"half", "more_body": True}

    async def run() -> None:
        with bodies.hold() as held:
            await bodies.read([], receive, held)

    async def cancel() -> None:
        task = asyncio.create_task(run())
        await asyncio.sleep(0.01)
        assert bodies.buffered_bytes == 4
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert bodies.buffered_bytes == 0


def test_a_client_that_goes_away_is_told_apart() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def run() -> None:
        bodies = reader()
        with bodies.hold() as held:
            await bodies.read([], receive, held)

    with pytest.raises(ClientDisconnect):
        asyncio.run(run())


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "identity, gzip", "GZIP"])
def test_compressed_bodies_are_refused(coding: str) -> None:
    with pytest.raises(CompressedBody):
        read(reader(), [b"x"], {"content-encoding": coding})
    assert read(reader(), [b"x"], {"content-encoding": "Identity"}) == b"x"


def test_a_second_content_encoding_counts_too() -> None:
    headers = [(b"content-encoding", b"identity"), (b"content-encoding", b"gzip")]

    async def run() -> None:
        bodies = reader()
        with bodies.hold() as held:
            await bodies.read(headers, pytest.fail, held)

    with pytest.raises(CompressedBody):
        asyncio.run(run())


def test_all_bodies_together_stay_within_the_budget_and_give_it_back() -> None:
    bodies = reader()
    with bodies.hold() as first, bodies.hold() as second:
        for held in (first, second):
            held.size += 90
            bodies.buffered_bytes += 90
        with pytest.raises(Overloaded):
            read(bodies, [b"x" * 80])
        assert len(read(bodies, [b"x" * 70])) == 70
        assert bodies.buffered_bytes == 180
    assert bodies.buffered_bytes == 0


def test_a_refused_body_gives_its_budget_back() -> None:
    bodies = reader(body_timeout_seconds=0.05)
    for chunks, ends in (([b"x" * 101], True), ([b"half"], False)):
        with pytest.raises((TooManyBytes, BodyTooSlow)):
            read(bodies, chunks, ends=ends)
        assert bodies.buffered_bytes == 0


# --- multipart


@pytest.mark.parametrize(
    ("content_type", "answer"),
    [("multipart/form-data; boundary=x", True), ("Multipart/Form-Data", True), ("multipart/mixed", False), ("", False)],
)
def test_only_forms_are_taken_apart(content_type: str, answer: bool) -> None:
    assert is_multipart(Headers({"content-type": content_type})) is answer


def test_parts_come_in_order_with_name_and_content() -> None:
    body = part("a", b"1") + part("b", b"", b"Content-Type: image/png\r\n") + part("", b"--cu\r\n") + b"--cut--\r\n"
    assert [(one.name, one.content) for one in parse_multipart(FORM, body)] == [
        ("a", b"1"),
        ("b", b""),
        ("", b"--cu\r\n"),
    ]


def test_what_looks_like_a_boundary_within_a_part_is_content() -> None:
    content = b"\r\n--cu\r\n-cut\r\n--curt" + bytes(range(256))
    (one,) = parse_multipart(FORM, part("file", content) + b"--cut--")
    assert one.content == content


def test_a_part_without_a_name_has_an_empty_one() -> None:
    (one,) = parse_multipart(FORM, b"--cut\r\nContent-Type: image/png\r\n\r\nx\r\n--cut--")
    assert one.name == ""


def test_file_names_may_hold_anything() -> None:
    file_name = b'; name=\\"x\\"; ../../\xff'
    header = b'--cut\r\nContent-Disposition: form-data; filename="%s"; name="file"\r\n\r\n' % file_name
    (one,) = parse_multipart(FORM, header + b"x\r\n--cut--")
    assert (one.name, one.content) == ("file", b"x")


def test_a_name_from_an_earlier_part_is_not_kept() -> None:
    body = part("file", b"1") + b"--cut\r\n\r\n2\r\n--cut--"
    assert [one.name for one in parse_multipart(FORM, body)] == ["file", ""]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"\r\n" * 1000,
        b"--cut",
        b"--cut\r\n",
        b"--cutter\r\n",
        b"--cut\r\nno header\r\n\r\n",
        b"--cut\r\n: empty name\r\n\r\n",
        part("file", b"no end"),
        part("file", b"x")[:-2] + b"--cut--",
        part("file", b"x") + b"--cut",
        part("file", b"x") + b"--cut-",
        part("file", b"x", b"X: %s\r\n" % (b"y" * 100_000)) + b"--cut--",
        part("file", b"x", b"X: y\r\n" * 100) + b"--cut--",
        part("file", b"x", b"%s: y\r\n" % (b"X" * 100_000)) + b"--cut--",
        b'--cut\r\nContent-Disposition: form-data%s; name="file"\r\n\r\nx\r\n--cut--' % (b";" * 100),
        b"--cut" + b" " * 100 + b"\r\n\r\nx\r\n--cut--",
        part("file", b"x") * 1001 + b"--cut--",
    ],
)
def test_broken_forms_are_refused(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse_multipart(FORM, body)


def test_a_thousand_parts_are_accepted() -> None:
    assert len(parse_multipart(FORM, part("files", b"x") * 1000 + b"--cut--")) == 1000


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=%s" % ("x" * 300)],
)
def test_a_form_without_a_usable_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(MalformedRequest):
        parse_multipart(Headers({"content-type": content_type}), part("file", b"x") + b"--cut--")


@pytest.mark.parametrize("truncated_at", range(0, 90, 7))
def test_a_form_cut_anywhere_is_refused(truncated_at: int) -> None:
    body = part("file", b"0123456789") + b"--cut--"
    assert len(parse_multipart(FORM, body)) == 1
    with pytest.raises(MalformedRequest):
        parse_multipart(FORM, body[: truncated_at * len(body) // 90])


class Steps(bytes):
    """Bytes that count how often the parser looks at one of them alone."""

    looked = 0

    def __getitem__(self, key: Any) -> Any:
        Steps.looked += isinstance(key, int)
        return super().__getitem__(key)


@pytest.mark.parametrize("filler", [b"\r\n--cutx", b"\r\n--cu", b"\r", b"--cut-", b"\r\n--cut \t"])
def test_forms_are_not_taken_apart_byte_by_byte(filler: bytes) -> None:
    """python-multipart took 45 s of the event loop for 32 MiB of false boundaries, in steps of one byte."""
    body = Steps(part("file", filler * (2**20 // len(filler))) + b"--cut--")
    Steps.looked = 0
    with contextlib.suppress(MalformedRequest):
        parse_multipart(FORM, body)
    assert Steps.looked < 50_000


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (40 * 2**20, "The body has 40 MB; at most 32 MB are accepted."),
        (32 * 2**20 + 1, "The body has 33,554,433 bytes; at most 33,554,432 are accepted."),
        (3 * 2**30, "The body has 3 GB; at most 32 MB are accepted."),
    ],
)
def test_sizes_are_said_as_people_say_them(declared: int, words: str) -> None:
    with pytest.raises(TooManyBytes) as refusal:
        read(reader(max_upload_bytes=32 * 2**20), [], {"content-length": str(declared)})
    assert refusal.value.detail == words


def test_a_body_without_a_length_is_told_the_limit() -> None:
    with pytest.raises(TooManyBytes, match="more than the 100 bytes that are accepted"):
        read(reader(), [b"x" * 101])

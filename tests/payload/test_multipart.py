"""The strict reader of forms takes the bodies of ordinary clients, byte for byte as they send them."""

import pytest
from starlette.datastructures import Headers

from app.errors import MalformedRequest, UnsupportedFormat
from app.payload.content_type import read_content_type
from app.payload.multipart import parse_form, parse_multipart, write_form

CURL = "------------------------9a061a6c06d02008"
NODE = "----formdata-undici-056168337866"
AIOHTTP = "8eb59b5c764c4870a7f04868c78b64b8"
WEBKIT = "----WebKitFormBoundaryRZDOzUOQkXbDLOVF"
GECKO = "----geckoformboundary5bb97bf2b6e2d8a8e0c9a1b2c3d4e5f6"
GO = "2f0a9c1b0e7c4d5a6b7c8d9e0f1a2b3c4d5e6f7a8b9c0d1e2f3a4b5c6d7e"
OKHTTP = "b6a2f3f0-5f0e-4a4e-9d0e-1f2a3b4c5d6e"
APACHE = "yWwFLKBjVNnzfm4HEWTMpVvRTrhzAWh2Dl"
DISPOSITION = b"Content-Disposition: form-data; "

# Boundary, then header and content of each part.
CLIENTS: dict[str, tuple[str, list[tuple[bytes, bytes]]]] = {
    "curl": (
        CURL,
        [
            (DISPOSITION + b'name="file"; filename="a.png"\r\nContent-Type: image/png', b"PIXELS"),
            (DISPOSITION + b'name="meta"\r\nContent-Type: application/json', b'{"a":1}'),
        ],
    ),
    "node": (
        NODE,
        [
            (DISPOSITION + b'name="file"; filename="a b%22\xc3\xbc.png"\r\nContent-Type: image/png', b"PIXELS"),
            (DISPOSITION + b'name="empty"\r\nContent-Type: application/octet-stream', b""),
        ],
    ),
    "aiohttp": (
        AIOHTTP,
        [
            (b"Content-Type: image/png\r\n" + DISPOSITION + b'name="file"; filename="a.png"', b"PIXELS"),
            (b"Content-Type: text/plain; charset=utf-8\r\n" + DISPOSITION + b'name="n"', b"\xc3\xbc"),
        ],
    ),
    "httpx": (
        "a2accf5750eace1ddb329dead568ab17",
        [
            (DISPOSITION + b'name="top_k"', b"3"),
            (DISPOSITION + b'name="file"; filename="\xc3\xbc.png"\r\nContent-Type: image/png', b"PIXELS"),
        ],
    ),
    "requests": ("d0f5a3c1b2e4f6a7d0f5a3c1b2e4f6a7", [(DISPOSITION + b'name="file"; filename="a.png"', b"PIXELS")]),
    "chromium": (
        WEBKIT,
        [
            (DISPOSITION + b'name="file"; filename="a (1).png"\r\nContent-Type: image/png', b"PIXELS"),
            (DISPOSITION + b'name="mask"; filename=""\r\nContent-Type: application/octet-stream', b""),
        ],
    ),
    "firefox": (GECKO, [(DISPOSITION + b'name="file"; filename="a.png"\r\nContent-Type: image/png', b"PIXELS")]),
    "go": (
        GO,
        [(DISPOSITION + b'name="file"; filename="a.png"\r\nContent-Type: application/octet-stream', b"PIXELS")],
    ),
    "okhttp": (
        OKHTTP,
        [
            (
                DISPOSITION + b'name="file"; filename="a.png"\r\nContent-Type: image/png\r\nContent-Length: 6',
                b"PIXELS",
            )
        ],
    ),
    "apache": (
        APACHE,
        [
            (
                DISPOSITION + b'name="file"; filename="a.png"\r\nContent-Type: image/png\r\n'
                b"Content-Transfer-Encoding: binary",
                b"PIXELS",
            )
        ],
    ),
    "dart": (
        "dart-http-boundary-Xy_.+abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRST",
        [(b'content-type: image/png\r\ncontent-disposition: form-data; name="file"; filename="a.png"', b"PIXELS")],
    ),
    "qt": (
        "boundary_.oOo._SDKY3AU6/g5fNhIxl/XpFEqtyLTwOoXB",
        [(b'Content-Type: image/png\r\nContent-Disposition: form-data; name="file"; filename="a.png"', b"PIXELS")],
    ),
    "qt with padding": (
        "boundary_.oOo._SDKY3+U6/g5fNhIxl/XpFEqtyLTwOo==",
        [(b'Content-Type: image/png\r\nContent-Disposition: form-data; name="file"; filename="a.png"', b"PIXELS")],
    ),
    "spring": (
        "Xkq9vYt4JHc3w2Zl",
        [
            (
                DISPOSITION + b'name="file"; filename="a.png"\r\nContent-Type: image/png\r\nContent-Length: 6',
                b"PIXELS",
            )
        ],
    ),
}


def written(boundary: str, parts: list[tuple[bytes, bytes]]) -> bytes:
    pieces = [b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary.encode(), header, content) for header, content in parts]
    return b"".join([*pieces, b"--%b--\r\n" % boundary.encode()])


def headers(boundary: str) -> Headers:
    written = f'"{boundary}"' if "/" in boundary else boundary
    return Headers({"content-type": f"multipart/form-data; boundary={written}"})


@pytest.mark.parametrize("client", CLIENTS)
def test_body_of_an_ordinary_client_is_taken_apart(client: str) -> None:
    boundary, parts = CLIENTS[client]
    body = written(boundary, parts)
    found = parse_form(read_content_type(headers(boundary)), body)
    assert [part.content for part in found] == [content for _, content in parts]
    assert "file" in [part.name for part in found if part.is_file]
    assert [part.content for part in parse_multipart(headers(boundary), body)] == [part.content for part in found]


@pytest.mark.parametrize("client", CLIENTS)
def test_form_that_is_written_again_is_read_to_the_same_parts(client: str) -> None:
    boundary, parts = CLIENTS[client]
    content_type = read_content_type(headers(boundary))
    found = parse_form(content_type, written(boundary, parts))
    again = parse_form(content_type, write_form(found, boundary.encode()))
    assert [(one.name, one.content, one.content_type) for one in again] == [
        (one.name, one.content, one.content_type) for one in found
    ]


def test_dotnet_quotes_its_boundary_and_names_a_file_twice() -> None:
    """The service reads that; in front of a classifier `filename*` is refused, since not every reader knows it."""
    header = b"Content-Type: image/png\r\nContent-Disposition: form-data; name=file; filename=a.png"
    extended = header + b"; filename*=utf-8''a.png"
    with_quotes = Headers({"content-type": 'multipart/form-data; boundary="5bb97bf2-b6e2"'})
    (part,) = parse_multipart(with_quotes, written("5bb97bf2-b6e2", [(extended, b"PIXELS")]))
    assert (part.name, part.content, part.is_file) == ("file", b"PIXELS", True)
    content_type = read_content_type(with_quotes)
    (part,) = parse_form(content_type, written("5bb97bf2-b6e2", [(header, b"PIXELS")]))
    assert (part.name, part.file_name) == ("file", "a.png")
    with pytest.raises(MalformedRequest):
        parse_form(content_type, written("5bb97bf2-b6e2", [(extended, b"PIXELS")]))


@pytest.mark.parametrize(
    "content_type",
    [
        "a",
        "a/b/c",
        "image/png;;",
        "image/png; a",
        "image/png; a=b; A=c",
        "image/png; a*=utf-8''b",
        'image/png; a="\\""',
    ],
)
def test_content_type_that_can_be_read_in_two_ways_is_refused(content_type: str) -> None:
    with pytest.raises(MalformedRequest):
        read_content_type(Headers({"content-type": content_type}))


@pytest.mark.parametrize("boundary", ["a=b", "a===", "aboundary=", "boundary==", "a,b", "a b", "a?", "/" * 71])
def test_boundary_of_which_readers_make_two_is_refused(boundary: str) -> None:
    content_type = read_content_type(Headers({"content-type": f'multipart/form-data; boundary="{boundary}"'}))
    with pytest.raises(MalformedRequest):
        parse_form(content_type, written(boundary, [(DISPOSITION + b'name="file"; filename="a.png"', b"PIXELS")]))


@pytest.mark.parametrize("boundary", ["cut+b", "cut/b", "cut=="])
def test_part_for_a_reader_that_ends_the_boundary_early_is_refused(boundary: str) -> None:
    hidden = b"PIXELS\r\n--cut\r\n" + DISPOSITION + b'name="file"\r\n\r\nOTHER'
    content_type = read_content_type(Headers({"content-type": f'multipart/form-data; boundary="{boundary}"'}))
    with pytest.raises(MalformedRequest, match="begins like its boundary"):
        parse_form(content_type, written(boundary, [(DISPOSITION + b'name="file"; filename="a.png"', hidden)]))


@pytest.mark.parametrize("charset", ["utf-16", "utf-7", "shift_jis", "ibm037", "iso-2022-jp"])
def test_charset_that_is_not_utf_8_in_ascii_is_refused(charset: str) -> None:
    assert read_content_type(Headers({"content-type": "application/json; charset=UTF-8;"})).is_json
    with pytest.raises(UnsupportedFormat):
        read_content_type(Headers({"content-type": f"application/json; charset={charset}"}))

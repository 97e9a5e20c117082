"""Whatever is sent, the real app answers from the closed list of statuses, with a problem body, in bounded time."""

import json
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.detection.images import Preprocessing, decode_image, open_image
from app.errors import Refusal, UndecodableImage
from app.judging.decoding import _decode_slice
from app.main import create_app
from app.settings import Settings
from testing import hostile_files as make

# What an image or a body may cause: the contract's list, and 200.
CLOSED_LIST = {200, 400, 408, 413, 415, 422}
REGRESSIONS = Path(__file__).parent / "fuzz" / "regressions"


@pytest.fixture(scope="module")
def client(tiny_artifact: Path) -> Iterator[TestClient]:
    app = create_app(Settings(artifact=tiny_artifact, log_level="error"))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def answer(client: TestClient, data: bytes, **request: Any) -> int:
    """The status for one file as the raw body; checks that the answer keeps the contract."""
    response = client.post("/v1/predict?reconstruction=none", content=data, **request)
    status = response.status_code
    assert status in CLOSED_LIST, response.text
    body = response.json()
    if status == 200:
        assert isinstance(body["is_anomaly"], bool)
    else:
        assert response.headers["content-type"] == "application/problem+json"
        assert body["status"] == status
        assert body["error"] == body["detail"]
        assert set(body) == {"type", "title", "status", "detail", "error"}
    return status


def status_of(data: bytes, max_pixels: int = 25_000_000) -> int:
    """The status that decoding one file leads to; anything but a refusal from the closed list fails the test."""
    try:
        decode_image(data, Preprocessing(), max_pixels)
    except Refusal as refusal:
        status = refusal.status
    else:
        status = 200
    assert status in CLOSED_LIST
    return status


@pytest.mark.parametrize("name", make.small_files())
def test_valid_files_are_judged(client: TestClient, name: str) -> None:
    assert answer(client, make.small_files()[name]) == 200


@pytest.mark.parametrize("name", make.small_files())
def test_a_file_cut_at_any_byte_is_refused_or_judged(client: TestClient, name: str) -> None:
    data = make.small_files()[name]
    whole = sum(status_of(data[:end]) == 200 for end in range(1, len(data)))
    # Missing ends are forgiven where the pixels are complete, missing pixels never are.
    assert whole < len(data) / 2
    assert answer(client, data[: len(data) // 3]) in {415, 422}


@pytest.mark.parametrize("name", make.small_files())
def test_a_file_with_any_byte_changed_is_refused_or_judged(name: str) -> None:
    data = make.small_files()[name]
    for position in range(len(data)):
        for changed in (0x00, 0xFF, data[position] ^ 0x80, data[position] ^ 0x01):
            broken = data[:position] + bytes((changed,)) + data[position + 1 :]
            assert status_of(broken, 1_000_000) in CLOSED_LIST


def test_hostile_heics_are_refused_or_judged(tiny_artifact: Path) -> None:
    pytest.importorskip("pillow_heif", reason="the extra `heic` is not installed")
    from testing.heic_files import coded, encoded_heic, heic

    data = encoded_heic(Image.new("RGB", (64, 64), "white"))
    sizes = [(0, 0), (2**32 - 1, 2**32 - 1), (65_536, 1), (8, 8), (5000, 5000)]
    broken = [data[:end] for end in range(12, len(data), 37)]
    broken += [data[:at] + bytes((data[at] ^ 0xFF,)) + data[at + 1 :] for at in range(12, len(data), 5)]
    broken += [heic([coded(Image.new("L", (64, 64)), size)]) for size in sizes]
    app = create_app(Settings(artifact=tiny_artifact, formats=("PNG", "HEIC"), log_level="error"))
    with TestClient(app, raise_server_exceptions=False) as client:
        assert answer(client, data) == 200
        statuses = [answer(client, one) for one in broken]
        assert answer(client, data) == 200
    assert set(statuses[-5:]) == {413, 422}
    assert set(statuses) <= {200, 413, 415, 422}


@pytest.mark.parametrize("name", make.small_files())
def test_the_data_of_one_format_under_the_name_of_another(client: TestClient, name: str) -> None:
    data = make.small_files()[name]
    for signature in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\xff\xff\0\0WEBPVP8 ", b"BM", b"GIF89a"):
        if not data.startswith(signature[:3]):
            assert answer(client, signature + data[len(signature) :]) in {413, 422}
    assert answer(client, data, headers={"content-type": "application/json"}) == 200


@pytest.mark.parametrize("data", [b"", b"\0", b"{}", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"MZ"])
def test_what_is_no_image_is_refused(client: TestClient, data: bytes) -> None:
    assert answer(client, data) == (415 if data else 400)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("PNG of 25 million columns", 413),
        ("PNG of 25 million rows", 413),
        ("PNG 9000x9000", 413),
        ("PNG compressed text", 200),
        ("PNG EXIF bomb", 200),
        ("PNG empty chunks", 422),
        ("PNG empty data chunks", 422),
        ("PNG 16000 data chunks", 200),
        ("PNG trailing data", 200),
        ("JPEG empty segments", 422),
        ("JPEG padding", 422),
        ("JPEG junk", 422),
        ("JPEG escaped junk", 422),
        ("JPEG tables", 422),
        ("JPEG Photoshop", 200),
        ("JPEG EXIF segments", 200),
        ("GIF frame larger than its screen", 413),
        ("GIF frame that is disposed of", 413),
        ("GIF comments", 422),
        ("GIF extensions", 422),
        ("GIF junk", 422),
        ("GIF frames", 200),
        ("BMP run lengths", 413),
        ("BMP palette of 65536", 422),
        ("WebP canvas", 422),
        ("WebP canvas 13000x13000", 413),
    ],
)
def test_bombs_cost_little(client: TestClient, name: str, expected: int) -> None:
    """A tenth of a second of CPU is what they take; a second allows for a busy machine."""
    data = make.LARGE[name]()
    started = time.thread_time()
    assert status_of(data) == expected
    assert time.thread_time() - started < 1
    assert answer(client, data) == expected


def test_a_jpeg_of_thousands_of_scans_is_refused_before_decoding(client: TestClient) -> None:
    data = make.jpeg_with_scans(5000, 256)
    assert answer(client, data) == 422


def test_compressed_bombs_behind_the_pixels_are_not_inflated(client: TestClient) -> None:
    bomb = zlib.compress(bytes(2**25), 9)
    assert answer(client, make.png(28, 28, after=[make.chunk(b"zTXt", b"k\0\0" + bomb)] * 500)) == 200


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_impossible_orientation_is_upright(client: TestClient, orientation: int) -> None:
    image = Image.new("L", (28, 28), 200)
    assert answer(client, make.save(image, "JPEG", exif=make.exif(orientation))) == 200


@pytest.mark.parametrize("offset", [0, 10, 54, 2**31, 2**32 - 1])
def test_a_bmp_whose_pixels_lie_elsewhere(client: TestClient, offset: int) -> None:
    status = answer(client, make.bmp(28, 28, 24, pixels=bytes(84 * 28), offset=offset))
    assert status == (200 if offset <= 54 else 422)


def test_headers_that_promise_more_than_the_file_holds(client: TestClient) -> None:
    for data in (
        make.png(28, 28)[:33] + b"\xff\xff\xff\xffIDAT" + bytes(50),
        make.bmp(4000, 4000, 24, pixels=bytes(100)),
        b"BM" + bytes(12) + b"\xff\xff\xff\x7f" + bytes(60),
        make.gif((5000, 5000), (0, 0, 5000, 5000))[:60],
        make.jpeg_with(b"\xff\xdb\xff\xff"),
    ):
        assert answer(client, data) == 422


def test_a_small_file_is_opened_and_decoded_in_milliseconds() -> None:
    """Files of up to 16 KiB and 256x256 pixels are judged in the event loop, where nothing else runs meanwhile."""
    size = 16 * 2**10
    worst: dict[str, bytes] = {
        "png chunks": make.png(28, 28, before=[make.chunk(b"abCd")] * (size // 12 - 20)),
        "png data chunks": make.png_with_split_data(size // 12 - 20),
        "jpeg segments": make.jpeg_with(make.fill(make.segment(0xFE, b""), size - 900)),
        "jpeg scans": make.jpeg_with_scans(64, 256),
        "gif comments": make.gif((28, 28), (0, 0, 28, 28), before=b"\x21\xfe" + b"\x01a" * (size // 2 - 400) + b"\0"),
        "bmp run lengths": make.bmp(256, 256, 8, 1, pixels=b"\1\1" * (size // 2 - 700), palette=make.rainbow_palette()),
        "bmp run lengths, lines": make.bmp(256, 256, 8, 1, 2, b"\1\1\0\0" * 256, bytes(8)),
        "exif": make.png(28, 28, before=[make.chunk(b"eXIf", make.exif_bomb(1300, size - 900)[6:])]),
    }
    for name, data in worst.items():
        assert len(data) <= size, name
        seconds = []
        for _ in range(3):
            started = time.thread_time()
            status_of(data, 256 * 256)
            seconds.append(time.thread_time() - started)
        assert min(seconds) < 0.05, f"{name}: {min(seconds)}"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["PNG RGBA 16 bit", "PNG grey 16 bit", "WebP of one color"])
def test_the_estimate_of_memory_covers_what_decoding_takes(name: str) -> None:
    command = [sys.executable, "-m", "benchmarks.serving.hostile", "--only", name, "--json"]
    (line,) = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    row = json.loads(line)
    assert row["answer"] == "200"
    assert row["peak_bytes"] < row["estimated_bytes"] < 2 * row["peak_bytes"] + 32 * make.MIB


# --- bodies


def test_a_body_over_the_limit_is_refused_by_length_and_by_chunks(make_client: Callable[..., TestClient]) -> None:
    client = make_client(max_upload_bytes=1000)

    def chunks() -> Iterator[bytes]:
        yield from [b"x" * 600] * 2

    assert answer(client, b"x" * 1001) == 413
    assert answer(client, chunks()) == 413  # type: ignore[arg-type]
    assert client.post("/v1/predict/batch", content=b"x" * 1001).status_code == 413
    assert answer(client, b"x" * 1000) == 415


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_compressed_requests_are_refused(client: TestClient, coding: str) -> None:
    assert answer(client, make.small_files()["png"], headers={"content-encoding": coding}) == 415


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"--cut--", 400),
        (b'--cut\r\nContent-Disposition: form-data; name="file"\r\n\r\n', 400),
        (b'--cut\r\nContent-Disposition: form-data; name="file"\r\n\r\n\r\n--cut--', 400),
        (b'--cut\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--cut--', 400),
        (b'--cut\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--cut--', 415),
        (b'--cut\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n' * 2 + b"--cut--", 400),
        (b"--cut\r\n\r\n\r\n" * 5000 + b"--cut--", 400),
        (b"\0" * 5000, 400),
    ],
)
def test_broken_forms_are_refused(client: TestClient, body: bytes, expected: int) -> None:
    assert answer(client, body, headers={"content-type": "multipart/form-data; boundary=cut"}) == expected


def test_a_form_within_a_form_is_no_image(client: TestClient) -> None:
    inner = b'--in\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + make.small_files()["png"] + b"\r\n--in--"
    headers = b'Content-Disposition: form-data; name="file"\r\nContent-Type: multipart/mixed; boundary=in\r\n\r\n'
    body = b"--cut\r\n" + headers + inner + b"\r\n--cut--"
    assert answer(client, body, headers={"content-type": "multipart/form-data; boundary=cut"}) == 415


def test_each_bad_file_of_a_batch_gives_its_own_problem(client: TestClient) -> None:
    good = make.small_files()["png"]
    files = [good, b"", b"hello", make.png(9000, 9000), good[:60], make.png(1, 70_000), good]
    response = client.post("/v1/predict/batch", files=[("files", ("x", data)) for data in files])
    assert response.status_code == 200
    statuses = [one.get("status", 200) for one in response.json()["results"]]
    assert statuses == [200, 415, 415, 413, 422, 413, 200]


# --- inputs that once broke something, found by `make fuzz`


@pytest.mark.parametrize("path", sorted(REGRESSIONS.glob("*")), ids=lambda path: path.name)
def test_inputs_that_once_broke_it(client: TestClient, path: Path) -> None:
    assert answer(client, path.read_bytes()) in CLOSED_LIST


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("interlace", [0, 1])
def test_refusals_of_a_batch_keep_neither_pictures_nor_files(level: int, interlace: int) -> None:
    rows = np.random.default_rng(0).bytes(2**20) * 4  # less than half of 9 MB; each file has 4 MB
    damaged = make.png(1500, 1500, color=6, rows=rows, interlace=interlace, level=level)
    before = resident_mib()
    opening = partial(open_image, max_pixels=25_000_000)
    results = [_decode_slice([damaged], opening, Preprocessing())[0] for _ in range(30)]
    assert all(isinstance(result, UndecodableImage) for result in results)
    assert resident_mib() - before < 60


@pytest.mark.parametrize("rows", [b"", bytes(100)])
def test_no_memory_is_taken_for_rows_that_cannot_come(rows: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("memory was taken")

    monkeypatch.setattr(Image, "frombytes", refuse)
    with pytest.raises(UndecodableImage) as refused:
        decode_image(make.png(5000, 5000, color=6, rows=rows), Preprocessing(), 25_000_000)
    assert isinstance(refused.value.__cause__, ValueError)

"""What the fuzzers begin with: one small valid input of each kind, and all that once broke something."""

from pathlib import Path

from testing.hostile_files import small_files

REGRESSIONS = Path(__file__).parent / "regressions"


def write_image_seeds(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in small_files().items():
        (folder / name).write_bytes(data)
    for path in REGRESSIONS.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def write_body_seeds(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    header = (
        b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    )
    form = b"multipart/form-data; boundary=cut\n" + (header + b"content\r\n") * 2 + b"--cut--\r\n"
    (folder / "form").write_bytes(form)
    (folder / "quoted").write_bytes(form.replace(b"=cut\n", b'="cut"\n'))
    (folder / "empty").write_bytes(b"multipart/form-data; boundary=cut\n--cut--")
    return folder

"""Where `--engine ray` reads and writes: this machine's folders, and the URLs that Arrow's file systems reach."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as fs

from app.errors import ScoringError
from app.offline.local import find_files


@dataclass(frozen=True, slots=True)
class Location:
    """A file or folder that every machine of the cluster reaches under the same name.

    Attributes:
        filesystem: Arrow's file system. It is pickled with its configuration when it is sent to other machines.
        path: The path within the file system; absolute on a disk.
        prefix: The scheme and host of the URL, without credentials, which precede the path in file names; "" on a disk.
        name: The location as the user gave it, without credentials and options. On a disk, file names begin with it.
    """

    filesystem: Any
    path: str
    prefix: str
    name: str

    @classmethod
    def of(cls, place: str) -> "Location":
        """
        Args:
            place: A path, or a URL of a kind that Arrow knows: s3://, gs://, abfs://, hdfs://, file://.

        Raises:
            ScoringError: It is another kind of URL, or one with a mistake in it.
        """
        if "://" not in place:
            return cls(fs.LocalFileSystem(), os.path.abspath(place), "", place)
        parts = urlsplit(place)
        try:
            filesystem, path = fs.FileSystem.from_uri(place)
        except (pa.ArrowException, ValueError, OSError) as error:
            # Without Arrow's own words, which repeat the URL, and so its credentials.
            raise ScoringError(
                f"{parts.scheme}://... cannot be used: no kind of URL that Arrow knows, or a character that has to be "
                "escaped in it (a / in a secret key is %2F)."
            ) from error
        if filesystem.type_name == "local":
            return cls(filesystem, path, "", path)
        host = parts.netloc.rpartition("@")[2] if path.startswith("/") else ""
        prefix = f"{parts.scheme}://{host}"
        return cls(filesystem, path, prefix, prefix + path)

    @property
    def is_on_disk(self) -> bool:
        return bool(self.filesystem.type_name == "local")

    def contains(self, other: "Location") -> bool:
        """Whether the other location is this one, or lies inside it."""
        if self.prefix != other.prefix or not self.filesystem.equals(other.filesystem):
            return False
        resolve = os.path.realpath if self.is_on_disk else str
        return f"{resolve(other.path)}/".startswith(f"{resolve(self.path).rstrip('/')}/")

    def check(self) -> None:
        """Checks that the location exists.

        Raises:
            ScoringError: It does not exist, or the file system cannot be reached.
        """
        try:
            found = self.filesystem.get_file_info(self.path)
        except (pa.ArrowException, OSError) as error:
            raise ScoringError(f"{self.name} cannot be read: {error}.") from error
        if found.type == fs.FileType.NotFound:
            raise ScoringError(f"There is no file or folder {self.name}.")

    def files(self) -> Iterator[str]:
        """Yields the names of all files, except hidden ones and those in hidden folders (a leading dot).

        Raises:
            ScoringError: They cannot be listed.
        """
        if self.is_on_disk:  # Arrow's own walk knows only names that are UTF-8
            yield from find_files([self.name])
            return
        try:
            yield from self._files_elsewhere()
        except (pa.ArrowException, OSError) as error:
            raise ScoringError(f"{self.name} cannot be listed: {error}.") from error

    def _files_elsewhere(self) -> Iterator[str]:
        if self.filesystem.get_file_info(self.path).is_file:
            yield self.name
            return
        # All at once, 200 bytes a file: folder by folder, Arrow does not find S3's objects with an empty part (a//b).
        for info in self.filesystem.get_file_info(fs.FileSelector(self.path, recursive=True)):
            parts = info.path.removeprefix(self.path).split("/")
            if info.is_file and not any(part.startswith(".") for part in parts):
                yield self.prefix + info.path

    def read(self, name: str, max_bytes: int) -> bytes:
        """A file's content; of a larger one the first `max_bytes`.

        Raises:
            OSError: It cannot be read.
        """
        try:
            with self.filesystem.open_input_file(name.removeprefix(self.prefix)) as file:
                content: bytes = file.read(max_bytes)
                return content
        except pa.ArrowException as error:  # such as a name that this file system does not admit
            raise OSError(str(error)) from error

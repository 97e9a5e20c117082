"""`python -m app.server.worker LISTENER READY PARENT ARTIFACT SNAPSHOT`: one of several serving processes.

`app.server.supervisor` alone starts it.

The arguments are inherited file descriptors: the listening socket, a pipe to write a byte to once requests are
accepted, a pipe that ends when the parent does, a pipe for each artifact that this process comes to serve, and a file
with the one that the others serve (-1 if there is none yet).
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Mapping

from app.errors import ArtifactError
from app.settings import SettingsError, read_settings
from app.telemetry.logs import configure_logging
from app.telemetry.shared_metrics import reserve

LENGTH_BYTES = 8


def main() -> int:
    listener_fd, ready_fd, parent_fd, artifact_fd, snapshot_fd = (int(argument) for argument in sys.argv[1:])
    try:
        settings = read_settings()
        configure_logging(settings.log_level, settings.log_format)
        reserve()
        from app.server.serve import GateServer  # not above: it imports prometheus-client

        server = GateServer(settings, _content(snapshot_fd), lambda contents: _send(contents, artifact_fd))
    except (SettingsError, ArtifactError) as error:
        print(f"imagegate: {error}", file=sys.stderr)
        return 1

    def drain_without_parent() -> None:
        asyncio.get_running_loop().remove_reader(parent_fd)
        server.drain()

    def tell_parent() -> None:
        os.write(ready_fd, b"1")
        os.close(ready_fd)
        asyncio.get_running_loop().add_reader(parent_fd, drain_without_parent)

    server.on_started = tell_parent
    with socket.socket(fileno=listener_fd) as listener:
        server.run(sockets=[listener])
    return 0 if server.started else 1


def _content(descriptor: int) -> bytes | None:
    if descriptor < 0:
        return None
    with open(descriptor, "rb") as file:
        file.seek(0)
        return file.read()


def _send(contents: Mapping[str, bytes], descriptor: int) -> None:
    """Gives the parent the artifact that serves from now on."""
    from app.detection.snapshot import pack

    packed = pack(contents)
    with contextlib.suppress(BrokenPipeError), open(descriptor, "wb", closefd=False) as pipe:
        pipe.write(len(packed).to_bytes(LENGTH_BYTES, "big") + packed)


if __name__ == "__main__":
    sys.exit(main())

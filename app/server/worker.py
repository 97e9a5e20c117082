"""`python -m app.server.worker LISTENER READY PARENT`: one of several serving processes.

`app.server.supervisor` alone starts it.

The arguments are inherited file descriptors: the listening socket, a pipe to write a byte to once requests are
accepted, and a pipe that ends when the parent does.
"""

import asyncio
import os
import socket
import sys

from app.errors import ArtifactError
from app.server.serve import GateServer
from app.settings import SettingsError, read_settings


def main() -> int:
    listener_fd, ready_fd, parent_fd = (int(argument) for argument in sys.argv[1:])
    try:
        server = GateServer(read_settings())
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


if __name__ == "__main__":
    sys.exit(main())

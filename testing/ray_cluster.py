"""A real Ray cluster on one machine: each node is a group of processes with a loopback address of its own."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from testing.servers import free_port, wait_until

RAY = str(Path(sys.executable).parent / "ray")
_START_SECONDS = 90
_STORE_BYTES = 100_000_000


class Node:
    """`ray start --block` and all that it starts, with one core."""

    def __init__(self, address: str, log: Path, environment: dict[str, str], *arguments: str) -> None:
        options = [f"--node-ip-address={address}", "--num-cpus=1", f"--object-store-memory={_STORE_BYTES}"]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [RAY, "start", "--block", "--disable-usage-stats", *options, *arguments],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            started = wait_until(lambda: b"Ray runtime started" in log.read_bytes(), _START_SECONDS)
            assert started, log.read_text()
        except BaseException:
            self.kill()
            raise

    def is_scoring(self) -> bool:
        """Whether an actor of this node has a batch in hand."""
        return any(b"ScoringActor" in title and b"submit" in title for title in self._processes().values())

    def kill(self) -> None:
        """As a machine that loses its power: SIGKILL to every process, until there is none."""
        assert wait_until(self._kill_processes, _START_SECONDS)
        self._process.wait()

    def _kill_processes(self) -> bool:
        processes = self._processes()
        for number in processes:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        return not processes

    def _processes(self) -> dict[int, bytes]:
        """Those of the session, since actors have process groups of their own, that have not ended: id -> title."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended meanwhile
                title = (folder / "cmdline").read_bytes()
                if title and os.getsid(int(folder.name)) == self._process.pid:
                    found[int(folder.name)] = title
        return found


class Cluster:
    """A head node, and more of them when asked for; all are killed at the end of the block.

    Attributes:
        environment: For commands that shall use it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._nodes: list[Node] = []
        self._address = f"127.0.0.2:{free_port()}"
        # The token that nodes show each other is kept in HOME; the paths of sockets must be short.
        self.environment = {
            **os.environ,
            "HOME": str(folder),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ADDRESS": self._address,
        }

    def __enter__(self) -> "Cluster":
        port = self._address.rpartition(":")[2]
        self._start("127.0.0.2", "--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self._folder}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for node in reversed(self._nodes):
            node.kill()

    def add_node(self) -> Node:
        return self._start(f"127.0.0.{2 + len(self._nodes)}", f"--address={self._address}")

    def _start(self, address: str, *arguments: str) -> Node:
        # `ray start` refuses to run where RAY_ADDRESS speaks of another cluster.
        environment = {name: value for name, value in self.environment.items() if name != "RAY_ADDRESS"}
        node = Node(address, self._folder / f"{address}.log", environment, *arguments)
        self._nodes.append(node)
        return node

"""Several replicas behind nginx: stopped, started and given a new artifact one after another, while requests go on.

`make test-replicas` sees to nginx. Each client asks on a connection of its own and tries a failed request once more, as
any client of a service behind a balancer does; nothing may be lost beyond that.
"""

import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from testing.artifacts import write_tiny_artifact
from testing.pictures import picture
from testing.servers import Server, free_port, running, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.replicas,
    pytest.mark.skipif(not shutil.which("nginx"), reason="`make test-replicas` installs nginx"),
]
REPLICAS, CLIENTS = 3, 4
DRAIN_SECONDS = 1
# For each step: several servers, their clients and nginx share the machine's cores.
PATIENCE_SECONDS = 90

# nginx itself asks no second replica (proxy_next_upstream off): what a client's own retry saves is what is measured.
NGINX = """
worker_processes 1;
events {{}}
http {{
    access_log off;
    upstream gate {{
        {servers}
        keepalive 8;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://gate;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_next_upstream off;
        }}
    }}
}}
"""


class Clients:
    """Ask for verdicts without a pause until the block ends.

    Attributes:
        answers: (artifact's version, verdict) -> how many.
        retried: What the first attempt of a request got instead of an answer.
        lost: What the second one got.
    """

    def __init__(self, url: str) -> None:
        self._url = f"{url}/v1/predict?reconstruction=none"
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        self._lock = threading.Lock()
        self.answers: Counter[tuple[str, bool]] = Counter()
        self.retried: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self) -> None:
        with httpx2.Client(timeout=30) as client:
            while not self._stop.is_set():
                if not self._try(client, self.retried):
                    self._try(client, self.lost)

    def _try(self, client: httpx2.Client, failures: Counter[str]) -> bool:
        try:
            response = client.post(self._url, content=picture(level=100))
        except httpx2.TransportError as error:
            outcome = type(error).__name__
        else:
            if response.status_code == 200:
                answer = response.json()
                with self._lock:
                    self.answers[answer["model"]["version"], answer["is_anomaly"]] += 1
                return True
            outcome = str(response.status_code)
        with self._lock:
            failures[outcome] += 1
        return False

    def wait_for_more(self, count: int = 50) -> None:
        """Until so many more answers have come."""
        before = self.answers.total()
        assert wait_until(lambda: self.answers.total() >= before + count, PATIENCE_SECONDS), (
            self.answers,
            self.retried,
            self.lost,
        )


class Replicas:
    """Servers of one artifact link, each on a port that it keeps over its restarts."""

    def __init__(self, stack: ExitStack, artifact: Path) -> None:
        self._stack = stack
        self._artifact = artifact
        self.ports = [free_port() for _ in range(REPLICAS)]
        self.servers = [self._start(port) for port in self.ports]

    def _start(self, port: int) -> Server:
        server = Server("--port", str(port), artifact=self._artifact, drain_seconds=DRAIN_SECONDS, log_level="info")
        self._stack.enter_context(server)
        server.wait_for_line("listening", seconds=PATIENCE_SECONDS)
        return server

    def restart(self, number: int) -> None:
        """As a rolling update does: SIGTERM, drain, exit 0, and a new one in its place."""
        self.servers[number].signal(signal.SIGTERM)
        assert self.servers[number].exit_code(PATIENCE_SECONDS) == 0
        self.servers[number] = self._start(self.ports[number])

    def kill(self, number: int) -> None:
        """As a lost machine does."""
        self.servers[number].process.kill()
        self.servers[number].process.wait()
        self.servers[number] = self._start(self.ports[number])

    def reload(self, number: int) -> None:
        self.servers[number].signal(signal.SIGHUP)
        self.servers[number].wait_for_line("artifact reloaded", seconds=PATIENCE_SECONDS)


@contextmanager
def nginx(ports: list[int], folder: Path) -> Iterator[str]:
    """Balances over the replicas; gives its address."""
    port = free_port()
    # After one failure a replica gets nothing for a second.
    servers = "\n".join(f"server 127.0.0.1:{one} max_fails=1 fail_timeout=1s;" for one in ports)
    (folder / "nginx.conf").write_text(NGINX.format(servers=servers, port=port))
    directives = f"daemon off; pid {folder}/pid; error_log stderr;"
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", directives]
    with running(command, port, folder / "log") as url:
        yield url


@pytest.fixture
def link(tmp_path: Path) -> Path:
    """Points at an artifact that takes the clients' image for normal; `strict` beside it does not."""
    write_tiny_artifact(tmp_path / "lenient", threshold=0.5)
    write_tiny_artifact(tmp_path / "strict", threshold=0.25)
    link = tmp_path / "current"
    link.symlink_to("lenient")
    return link


def one_after_another(clients: Clients, step: Callable[[int], None]) -> str:
    """Does `step` to each replica with requests before, between and after; gives the figures."""
    answers, retried, started = clients.answers.total(), clients.retried.total(), time.monotonic()
    for number in range(REPLICAS):
        clients.wait_for_more()
        step(number)
    clients.wait_for_more()
    elapsed = time.monotonic() - started
    return (
        f"{clients.answers.total() - answers} answers, {clients.retried.total() - retried} of them at the second "
        f"attempt, {clients.lost.total()} lost, in {elapsed:.0f} s"
    )


def test_no_request_is_lost_while_replicas_come_and_go(link: Path, tmp_path: Path) -> None:
    with ExitStack() as stack:
        replicas = Replicas(stack, link)
        url = stack.enter_context(nginx(replicas.ports, tmp_path))
        figures = {}
        with Clients(url) as clients:
            figures["restarted"] = one_after_another(clients, replicas.restart)
            after_restarts = clients.retried.total()
            subprocess.run(["ln", "-sfn", "strict", link], check=True)
            figures["given a new artifact"] = one_after_another(clients, replicas.reload)
            assert clients.retried.total() == after_restarts, "a reload costs no request"
            figures["killed"] = one_after_another(clients, replicas.kill)
    for what, figure in figures.items():
        print(f"{REPLICAS} replicas {what} one after another: {figure}")
    assert not clients.lost, (clients.lost, clients.retried)
    # Each version gave its own verdict, and both were asked.
    assert len(clients.answers) == len({version for version, _ in clients.answers}) == 2

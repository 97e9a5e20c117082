"""Addresses as people and other programs write them, and what is said of those that are none."""

import signal
import socket

import pytest

from app.server.listener import Address, listen, read_address
from app.settings import SettingsError
from testing.servers import Server


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ("127.0.0.1", 8000)),
        ({"HOST": "", "PORT": ""}, ("127.0.0.1", 8000)),
        ({"HOST": "0.0.0.0", "PORT": "0"}, ("0.0.0.0", 0)),
        ({"HOST": "::1", "PORT": "65535"}, ("::1", 65535)),
    ],
)
def test_the_environment_says_where_and_what_is_empty_says_nothing(
    environment: dict[str, str], expected: tuple[str, int]
) -> None:
    assert read_address(None, None, environment)[:2] == expected


def test_the_command_line_comes_before_the_environment() -> None:
    environment = {"HOST": "nowhere", "PORT": "none"}
    assert read_address("localhost", "9", environment) == Address("localhost", 9, "--host")


@pytest.mark.parametrize(
    ("host", "hint"), [("[::1]", "write ::1"), ("*", "0.0.0.0 stands for"), ("http://0.0.0.0", ""), ("a b", "")]
)
def test_what_is_no_host_is_named_with_what_to_write(host: str, hint: str) -> None:
    with pytest.raises(SettingsError, match=r"^--host is an IP address or a name") as told:
        read_address(host, None, {})
    assert hint in str(told.value)
    with pytest.raises(SettingsError, match=r"^HOST is"):
        read_address(None, None, {"HOST": host})


@pytest.mark.parametrize("port", ["99999", "65536", "-1", "http", "tcp://10.0.0.1:80", "8000 ", "1e3", "\u0663"])
def test_what_is_no_port_is_named(port: str) -> None:
    with pytest.raises(SettingsError, match=r"^--port is a number from 0"):
        read_address(None, port, {})
    with pytest.raises(SettingsError, match=r"^PORT is a number from 0"):
        read_address(None, None, {"PORT": port})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "::"])
def test_addresses_and_names_can_be_bound(host: str) -> None:
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with listen(Address(host, 0, "--host")) as listener:
        assert listener.getsockname()[1]


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        ((), {"HOST": "x86_64-conda-linux-gnu"}, "HOST names no address of this machine: 'x86_64-conda-linux-gnu'"),
        (("--host", "[::1]"), {}, "--host is an IP address"),
        (("--port", "99999"), {}, "--port is a number"),
        ((), {"PROMETHEUS_MULTIPROC_DIR": "/proc/none"}, "PROMETHEUS_MULTIPROC_DIR=/proc/none cannot be written to"),
        (("--workers", "2"), {"PROMETHEUS_MULTIPROC_DIR": "/proc/none"}, "PROMETHEUS_MULTIPROC_DIR=/proc/none cannot"),
    ],
)
def test_an_impossible_address_or_folder_is_one_line_on_the_screen(
    tiny_artifact: object,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    words: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    port = () if "--port" in arguments else ("--port", "0")
    with Server(*port, *arguments, command=("app", "serve"), artifact=tiny_artifact) as server:
        assert server.exit_code() == 1
    assert len(server.log) == 1
    assert server.log[0].startswith(f"imagegate: {words}")


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("folder", ["", "made/for/it"])
def test_a_folder_for_metrics_that_is_not_there_is_made_and_an_empty_name_is_none(
    tiny_artifact: object, monkeypatch: pytest.MonkeyPatch, tmp_path: object, workers: str, folder: str
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", f"{tmp_path}/{folder}" if folder else "")
    with Server("--workers", workers, artifact=tiny_artifact) as server, server.client() as client:
        assert "gate_waiting" in client.get("/metrics").text
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 0

"""The listening socket: bound once, before anything serves."""

import ipaddress
import logging
import os
import re
import socket
from collections.abc import Mapping
from typing import NamedTuple

from app.settings import SettingsError

logger = logging.getLogger(__name__)

_DEFAULT_HOST, _DEFAULT_PORT = "127.0.0.1", "8000"
_HOST_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")


class Address(NamedTuple):
    """Where to listen.

    Attributes:
        host: An IP address, or a name of this machine.
        port: 0 takes any that is free.
        host_from: What said so, for messages: `--host`, HOST, or nothing for the default.
    """

    host: str
    port: int
    host_from: str


def read_address(host: str | None, port: str | None, environment: Mapping[str, str] = os.environ) -> Address:
    """The address that the command line or, where it says nothing, HOST and PORT ask for; empty means not set.

    Raises:
        SettingsError: It cannot be one; the message names who said it.
    """
    host_from, wanted = ("--host", host) if host else ("HOST", environment.get("HOST"))
    if not wanted:
        host_from, wanted = "", _DEFAULT_HOST
    port_from, number = ("--port", port) if port else ("PORT", environment.get("PORT") or _DEFAULT_PORT)
    if not re.fullmatch(r"[0-9]{1,5}", number) or int(number) > 65535:
        raise SettingsError(f"{port_from} is a number from 0 (any that is free) to 65535, not {number!r}.")
    if not _is_ip_address(wanted) and not _HOST_NAME.fullmatch(wanted):
        raise SettingsError(f"{host_from} is an IP address or a name of this machine, not {wanted!r}{_hint(wanted)}.")
    return Address(wanted, int(number), host_from)


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _hint(host: str) -> str:
    inner = host.strip("[]")
    if inner != host and _is_ip_address(inner):
        return f": write {inner}"
    if host == "*":
        return ": 0.0.0.0 stands for every address, :: for those of IPv6 as well"
    return ""


def listen(address: Address) -> socket.socket:
    """A listening TCP socket.

    Raises:
        SettingsError: Nothing on this machine has that name or address.
        OSError: The port cannot be bound.
    """
    host, port, host_from = address
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        # conda's compilers set HOST to the kind of machine that they compile for.
        hint = " (conda sets this variable too: set it empty)" if host_from == "HOST" else ""
        raise SettingsError(f"{host_from} names no address of this machine: {host!r}{hint}.") from error
    family, bound = found[0][0], found[0][4]
    both = host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(bound, family=family, backlog=2048, dualstack_ipv6=both)


def log_address(listener: socket.socket) -> None:
    """Says where to find the service, as a URL."""
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    logger.info("listening", extra={"fields": {"address": url}})

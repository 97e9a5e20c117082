"""The listening socket: bound once, before anything serves."""

import logging
import socket

logger = logging.getLogger(__name__)


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes any that is free.

    Raises:
        OSError: The address cannot be bound.
    """
    if ":" not in host:
        return socket.create_server((host, port), backlog=2048)
    both = host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server((host, port), family=socket.AF_INET6, backlog=2048, dualstack_ipv6=both)


def log_address(listener: socket.socket) -> None:
    """Says where to find the service, as a URL."""
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    logger.info("listening", extra={"fields": {"address": url}})

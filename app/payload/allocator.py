"""Makes glibc's memory allocator return freed memory to the system. Does nothing with other allocators."""

import ctypes
from collections.abc import Callable

# From malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
# Blocks from this size on get a mapping of their own, which costs system calls and page faults: with a lower limit, a
# photograph of 2 MB would take 6% longer.
_LARGE_BYTES = 2**23


def return_large_blocks() -> None:
    """Lets decoded images and whole uploads go back to the system as soon as they are freed.

    By default glibc learns from large blocks that are freed to keep up to 32 MiB for the next one, and it keeps an
    arena for each thread: a burst of photographs would leave hundreds of megabytes behind.
    """
    mallopt = _function("mallopt")
    mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
    mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE_BYTES)
    mallopt(_M_ARENA_MAX, 2)


def return_free_pages() -> None:
    """Gives back what small freed blocks left between others that are in use; takes some milliseconds."""
    _function("malloc_trim")(0)


def _function(name: str) -> Callable[..., object]:
    try:
        function: Callable[..., object] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return lambda *arguments: None
    return function

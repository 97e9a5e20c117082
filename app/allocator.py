"""glibc's memory allocator, told to give memory back."""

import ctypes

# From malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE_BYTES = 2**16


def return_freed_memory() -> None:
    """Lets uploads and decoded images go back to the system when they are freed. Elsewhere than on glibc, nothing.

    By default glibc learns from large blocks that are freed to keep up to 32 MiB for the next one, and it keeps an
    arena for each thread: a burst of photographs would leave hundreds of megabytes behind.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)
    mallopt(_M_ARENA_MAX, 2)

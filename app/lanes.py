"""Threads for blocking work, the queue in front of them, and the watch over clients that went away."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

T = TypeVar("T")


class Lane:
    """A fixed number of threads, and a first-come queue that lives in the event loop.

    Not the executor's own queue: what is cancelled there stays, with the upload that it holds, until a thread comes
    round to it. Here a caller that stops waiting leaves nothing behind.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._free = asyncio.Semaphore(threads)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, done in a thread.

        Cancelled while waiting, the work is not started. Cancelled later, the work cannot be stopped: its thread, and
        so its place in the lane, stays taken until it ends.
        """
        await self._free.acquire()
        try:
            running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        except RuntimeError:  # the threads are shut down
            self._free.release()
            raise
        running.add_done_callback(lambda _: self._free.release())
        # Shielded, for a cancelled future counts as done and would give the place away while the thread still works.
        return await asyncio.shield(running)

    def close(self) -> None:
        """Takes no more work; what runs goes on, and the interpreter waits for it at its exit."""
        self._threads.shutdown(wait=False, cancel_futures=True)


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncIterator[None]:
    """Gives up what happens inside as soon as the client is gone: nobody would read the answer.

    Args:
        receive: The request's, with its body read to the end.

    Raises:
        ClientDisconnect: In place of the cancellation inside.
    """
    task = asyncio.current_task()
    assert task is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if gone and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watcher.cancel()

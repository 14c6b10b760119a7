"""Run functions in several threads, without waiting for ever for those that hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")

SECONDS_TO_END = 3.0
"""How long the caller waits for functions that are still running when it has an error, or is interrupted."""


def at_once(functions: Iterator[Callable[[], T]], limit: int) -> Generator[T]:
    """Run functions in threads, and yield their results as they come.

    The threads are daemons, unlike those of an executor: a server may not answer for minutes, and Ctrl-C has to end the
    command nevertheless. Each function runs in the app context of the caller, which listeners of an engine may use.

    :param limit: the maximum number of threads.
    """
    waiting: SimpleQueue[Callable[[], T] | None] = SimpleQueue()
    done: SimpleQueue[Future[T]] = SimpleQueue()
    threads: list[threading.Thread] = []
    running = 0
    try:
        for function in functions:
            waiting.put(partial(copy_context().run, function))
            running += 1
            if running > len(threads):
                threads.append(threading.Thread(target=_serve, args=(waiting, done), daemon=True))
                threads[-1].start()
            if running == limit:
                yield done.get().result()
                running -= 1
        while running:
            yield done.get().result()
            running -= 1
    finally:
        deadline = time.monotonic() + SECONDS_TO_END
        for _ in threads:
            waiting.put(None)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def in_time(function: Callable[[], object], seconds: float) -> None:
    """Run a function in a daemon thread, and wait for its end for a number of seconds.

    :raises TimeoutError: if it takes longer; it then goes on in its thread.
    """
    waiting: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
    done: SimpleQueue[Future[object]] = SimpleQueue()
    for work in (partial(copy_context().run, function), None):
        waiting.put(work)
    threading.Thread(target=_serve, args=(waiting, done), daemon=True).start()
    try:
        ended = done.get(timeout=seconds)
    except Empty:
        raise TimeoutError from None
    ended.result()


def _serve(waiting: SimpleQueue[Callable[[], T] | None], done: SimpleQueue[Future[T]]) -> None:
    while (function := waiting.get()) is not None:
        result: Future[T] = Future()
        try:
            result.set_result(function())
        except BaseException as exc:  # noqa: BLE001 (the caller raises it)
            result.set_exception(exc)
        done.put(result)

"""One run at a time in a process.

``alembic.op`` and ``alembic.context`` are global, so two runs at the same time would write into each other's databases.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ampho.errors import NestedRunError

_POLL_SECONDS = 0.01
_lock = threading.Lock()
_run: object | None = None
_inside: ContextVar[object | None] = ContextVar("ampho_inside_run", default=None)


@contextmanager
def exclusive(sleep: Callable[[float], None] | None = None) -> Iterator[None]:
    """Wait until no other run is in progress in this process, and keep others waiting.

    :param sleep: waits for some seconds without blocking a running loop. The lock is then polled: if a task holds it
        across an ``await``, and another task of the same loop blocks on it, it is never released.
    :raises NestedRunError: if this is called inside a run, which would wait for itself.
    """
    global _run  # noqa: PLW0603 (only the holder of the lock writes this)
    check_not_inside()
    if sleep is None:
        _lock.acquire()
    else:
        while not _lock.acquire(blocking=False):
            sleep(_POLL_SECONDS)
    try:
        _run = object()
        _inside.set(_run)
        yield
    finally:
        _run = None
        _lock.release()


def check_not_inside() -> None:
    """Raise a :exc:`NestedRunError` if the caller is inside a run."""
    if is_inside():
        raise NestedRunError(
            "A migration was started inside a migration. A revision must not call Ampho: let the app call it after the"
            " run, or put the other change into a revision that this one depends on."
        )


def is_inside() -> bool:
    """Return whether the caller is inside a run."""
    # The mark of a run that has ended does not count: its context, or a task that it started, may still have it.
    return _run is not None and _inside.get() is _run

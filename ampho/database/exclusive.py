"""Allow only one run at a time in a process.

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
    """Wait until no other run is in progress in this process, then make other runs wait.

    :param sleep: a function that sleeps without blocking the event loop. If it is given, the lock is polled, because a
        task that waited for the lock in any other way would also block the task that holds the lock.
    :raises NestedRunError: if this is called inside a run, because that run would never end.
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
            "A migration was started inside another migration. A revision must not call Ampho. Call Ampho after"
            " the migration, or move the other change to a revision that the running one depends on."
        )


def is_inside() -> bool:
    """Return whether the caller is inside a run."""
    # Ignore the mark of a run that has ended, because a task that the run started may still have this mark.
    return _run is not None and _inside.get() is _run

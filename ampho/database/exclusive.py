"""One run at a time in a process.

``alembic.op`` and ``alembic.context`` are process-wide, so two runs at once would write into each other's databases.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

from ampho.errors import NestedRunError

_POLL_SECONDS = 0.01
_lock = threading.Lock()
_run: object | None = None
_inside: ContextVar[object | None] = ContextVar("ampho_inside_run", default=None)


@contextmanager
def exclusive() -> Iterator[None]:
    """Wait until no run goes on in this process, and keep others waiting.

    :raises NestedRunError: if this is called inside a run, which would wait for itself.
    """
    check_not_inside()
    with _lock, _marked():
        yield


@asynccontextmanager
async def exclusive_async() -> AsyncIterator[None]:
    """Do the same without blocking the running loop.

    The lock is polled: held across an ``await`` and waited for in the same loop, it would never be free.

    :raises NestedRunError: if this is called inside a run, which would wait for itself.
    """
    import anyio

    check_not_inside()
    while not _lock.acquire(blocking=False):  # noqa: ASYNC110 (who holds it may be a thread without a loop)
        await anyio.sleep(_POLL_SECONDS)
    try:
        with _marked():
            yield
    finally:
        _lock.release()


def check_not_inside() -> None:
    """Check that no run is going on around the caller.

    :raises NestedRunError: if one is.
    """
    if is_inside():
        raise NestedRunError(
            "A migration was started inside a migration. A revision must not call Ampho: let the app do it after the"
            " run, or make the other change a revision that this one depends on."
        )


def is_inside() -> bool:
    """Return whether the caller is inside a run."""
    # A task that a run started keeps the run's mark after the run.
    return _run is not None and _inside.get() is _run


@contextmanager
def _marked() -> Iterator[None]:
    global _run  # noqa: PLW0603 (there is one run in a process, and who holds the lock writes this)
    _run = object()
    token = _inside.set(_run)
    try:
        yield
    finally:
        _inside.reset(token)
        _run = None

"""Coverage of this process: paused where others run the same lines, and in less time than it takes by itself.

Measured, Python takes twice as long.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from coverage import Coverage

_coverage = Coverage.current()
_collector = _coverage and _coverage._collector


def end() -> None:
    """Save what was measured, and measure nothing until :func:`start`."""
    if _coverage is not None:
        _coverage.stop()
        _coverage.save()


def start() -> None:
    """Start the collector of coverage; ``Coverage.start`` would wrap ``os._exit`` each time.

    The collector looks up the current greenlet whenever a function is called or returns. A dictionary takes much less
    time for that than the ``WeakKeyDictionary`` that it creates, and keeps the greenlets until it starts again.
    """
    if _collector is not None:
        weak = weakref.WeakKeyDictionary
        weakref.WeakKeyDictionary = dict  # type: ignore[assignment, misc]
        try:
            _collector.start()
        finally:
            weakref.WeakKeyDictionary = weak  # type: ignore[misc]


def restart() -> None:
    """Measure in less time, and forget the greenlets of the last test."""
    with paused():
        pass


@contextmanager
def paused() -> Iterator[None]:
    """Measure nothing in this process meanwhile."""
    if _collector is not None:
        _collector.stop()
    try:
        yield
    finally:
        start()

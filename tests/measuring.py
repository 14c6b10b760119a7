"""Coverage of this process: paused where others run the same lines, and in less time than it takes by itself.

Measured, Python takes twice as long.
"""

from __future__ import annotations

import pickle
import weakref
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from coverage import Coverage

_coverage = Coverage.current()
_collector = _coverage and _coverage._collector
_known: defaultdict[str, set[int]] = defaultdict(set)
"""What the children of this process have run, by file."""


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


def start_child(note: BinaryIO) -> None:
    """Start in a forked process, which writes to a file what no other child has run.

    To save it by itself would take longer than most commands, because coverage lists all files of the package, too.
    """

    def save() -> None:
        found = {file: arcs - _known[file] for file, arcs in _collector.data.copy().items()}
        note.write(pickle.dumps({file: arcs for file, arcs in found.items() if arcs}))
        note.flush()

    if _coverage is not None:
        _coverage.save = save  # for the end of the process, and for SIGTERM
        start()


def learn(note: BinaryIO) -> None:
    """Read what a child has written, which may have children of its own."""
    note.seek(0)
    while note.peek(1):
        for file, arcs in pickle.load(note).items():
            _known[file] |= arcs


def save_known() -> None:
    """Save what the children have run."""
    if _coverage is not None and _known:
        _collector.data.update(_known)
        _collector._activity = lambda: True  # or it would not look at what no tracer of this process has found
        _coverage.save()


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

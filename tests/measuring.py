"""Coverage of this process: paused where others run the same lines, and in less time than it takes by itself.

Measured, Python takes half as much time again.
"""

from __future__ import annotations

import pickle
import sys
import weakref
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
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
    time for that than the ``WeakKeyDictionary`` that it creates, and keeps the greenlets until it starts again. It also
    loses no ``KeyboardInterrupt``: the collector ignores what is raised in ``WeakKeyDictionary.__getitem__``. The lock
    is used without the methods around it, which take time, and could be interrupted between taking it and returning.
    """
    if _collector is not None:
        _collector._installation_trace = _start_thread
        _collector.lock_data, _collector.unlock_data = _collector.data_lock.acquire, _collector.data_lock.release
        weak = weakref.WeakKeyDictionary
        weakref.WeakKeyDictionary = dict  # type: ignore[assignment, misc]
        try:
            _collector.start()
        finally:
            weakref.WeakKeyDictionary = weak  # type: ignore[misc]


def _start_thread(frame: FrameType, event: str, arg: object) -> object:
    """Start the collector in a new thread, where it does not look up greenlets.

    Otherwise, each thread would have a greenlet and a weak reference to it, whose callback greenlet calls in a pending
    call when the thread has ended. If another thread ended at that moment, a second pending call would be queued, and
    Python 3.11 would hang: a traced function begins when no call is queued, and none is run within another.
    """
    sys.settrace(None)
    tracer = _collector._start_tracer()
    tracer.concur_id_func = None
    return tracer(frame, event, arg)


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

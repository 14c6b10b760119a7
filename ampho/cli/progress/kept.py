"""What is written to a terminal while somebody draws on it: it is kept for who draws, who writes it above the drawing.

Not ``sys.stdout`` stands in the way, but a pipe in the place of the descriptors: the log, a library in C and a program
that a revision starts write to these as well.
"""

from __future__ import annotations

import codecs
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TextIO, cast

from ampho.cli.streams import flush

FRESH = "\0"
"""Begins a line that shall stand alone, whatever is left of the line before it."""

_OUT, _ERR = 1, 2
_GRACE = 0.5  # seconds for the end to come, which a program in the background may keep open
_BLOCK = 65536
_BREATH = 0.01  # seconds: to wake up for each line would slow a run of short revisions
_HARMLESS = frozenset({"closed", "encoding", "errors", "isatty", "mode", "name", "newlines"})


class Kept:
    """Stands between a terminal and all who write to it.

    :ivar is_over: whether all was read that was written.
    """

    def __init__(self) -> None:
        self.is_over: bool = False
        self._terminals: dict[int, int] = {}
        self._chunks: SimpleQueue[bytes] = SimpleQueue()
        self._writing: int | None = None
        self._given_back: float | None = None

    @property
    def terminal(self) -> int:
        """The descriptor of the terminal itself."""
        return self._terminals[_OUT]

    def open(self) -> None:
        """Open the pipe, and read from it."""
        taken = [_OUT, _ERR] if os.path.samestat(os.fstat(_OUT), os.fstat(_ERR)) else [_OUT]
        self._terminals = {descriptor: os.dup(descriptor) for descriptor in taken}
        reading, self._writing = os.pipe()
        threading.Thread(target=self._read, args=[reading], name="ampho-output", daemon=True).start()

    def take(self) -> None:
        """Put the pipe in the place of standard output, and of standard error if that is the same terminal."""
        flush()
        if self._writing is not None:
            for descriptor in self._terminals:
                os.dup2(self._writing, descriptor)

    def _read(self, reading: int) -> None:
        with os.fdopen(reading, "rb", 0) as pipe:
            while chunk := pipe.read(_BLOCK):
                self._chunks.put(chunk)
                time.sleep(_BREATH)
        self._chunks.put(b"")

    def give_back(self) -> None:
        """Give the terminal back to who writes; who draws reads the rest."""
        if self._given_back is None:
            flush()
        for descriptor, terminal in self._terminals.items():
            os.dup2(terminal, descriptor)
        writing, self._writing = self._writing, None
        if writing is not None:
            os.close(writing)
        self._given_back = time.monotonic()

    def close(self) -> None:
        """Let go of the terminal, when all is over."""
        while self._terminals:
            os.close(self._terminals.popitem()[1])

    def get(self, seconds: float) -> bytes:
        """Return what was written; nothing if that is all for now."""
        try:
            chunk = self._chunks.get(timeout=max(seconds, 0))
        except Empty:
            given_back = self._given_back
            self.is_over = given_back is not None and time.monotonic() - given_back > _GRACE
            return b""
        self.is_over = not chunk
        return chunk


class Copy:
    """Writes to a terminal what was meant for it, as it is.

    :ivar is_open: whether the last line has no end yet.
    """

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self.is_open: bool = False

    def write(self, chunk: bytes) -> None:
        """Write a piece."""
        first, *others = chunk.split(FRESH.encode())
        self._write(first)
        for piece in others:
            self._write(b"\n" + piece if self.is_open else piece)

    def _write(self, piece: bytes) -> None:
        if piece:
            self.is_open = not piece.endswith(b"\n")
        with suppress(OSError):  # of a terminal that is gone
            while piece:
                piece = piece[os.write(self._terminal, piece) :]


class Lines:
    """Makes lines of what was written.

    :ivar whole: the lines.
    :ivar begun: the line whose end is still to come.
    """

    def __init__(self, encoding: str) -> None:
        self._decode = codecs.getincrementaldecoder(encoding)("backslashreplace").decode
        self.whole: list[str] = []
        self.begun: str = ""

    def add(self, chunk: bytes) -> None:
        """Add a piece."""
        first, *others = self._decode(chunk).split(FRESH)
        self._add(first)
        for piece in others:
            self._add("\n" + piece if self.begun else piece)

    def _add(self, text: str) -> None:
        *whole, self.begun = (self.begun + text).split("\n")
        self.whole += map(seen, whole)


def seen(line: str) -> str:
    """Return what a terminal leaves to see of a line that goes back to its beginning, as a progress bar does."""
    return line.removesuffix("\r").rpartition("\r")[2]


class Asking:
    """Stands in for standard input: who reads there wants to see what it asks, and to be seen typing.

    :param asked: called before.
    """

    def __init__(self, stream: TextIO, asked: Callable[[], None]) -> None:
        self._stream = stream
        self._asked = asked

    def take(self) -> None:
        """Take the place of standard input."""
        sys.stdin = cast("TextIO", self)

    def give_back(self) -> None:
        """Give it back."""
        if sys.stdin is cast("TextIO", self):
            sys.stdin = self._stream

    def __iter__(self) -> Any:
        self._asked()
        return iter(self._stream)

    def __getattr__(self, name: str) -> Any:
        if name not in _HARMLESS:
            self._asked()
        return getattr(self._stream, name)

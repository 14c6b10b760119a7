"""Standard streams that never raise an exception.

A stream may be closed, a disk may be full, a pipe may have lost its reader, and an encoding may lack a character. None
of these may interrupt a migration, or print a traceback after the work is done.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STANDARD = (0, 1, 2)
_LENIENT = frozenset({"backslashreplace", "ignore", "namereplace", "replace", "xmlcharrefreplace"})


class SafeFile(io.FileIO):
    """The raw file of a stream. It records the first error of a write instead of raising it.

    :ivar error: the error; None if everything was written, or if the reader of a pipe has closed it.
    :ivar ends_line: whether the last data ended with a newline.
    :ivar prefix: bytes to write before any data, in the same system call.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.error: OSError | None = None
        self.ends_line: bool = True
        self.prefix: bytes = b""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of the data, waiting for a slow reader. Discard it if it cannot be written."""
        self.ends_line = bytes(memoryview(data)[-1:]) == b"\n"
        prefix = self.prefix  # another thread may change self.prefix in the meantime
        try:
            while (written := super().write(prefix + data)) is None:  # a non-blocking pipe that is full
                select.select([], [self], [])
        except OSError as exc:
            self._give_up(exc)
            return memoryview(data).nbytes
        return max(written - len(prefix), 0)

    def _give_up(self, error: OSError) -> None:
        """Discard all further output, including the output of programs that a revision starts."""
        if error.errno != errno.EPIPE:
            self.error = error
        with suppress(OSError):
            null = _open_null()
            os.dup2(null, self.fileno())
            os.close(null)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Replace the standard streams, within a ``with`` block, with streams that never raise an exception."""
    _open_closed()
    given = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_safe, given)
    try:
        yield
    finally:
        flush()
        sys.stdout, sys.stderr = given


def flush() -> None:
    """Flush both streams."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def terminals() -> list[SafeFile]:
    """Return the raw files of the standard streams that write to a terminal."""
    files = map(_raw, (sys.stdout, sys.stderr))
    return [file for file in files if isinstance(file, SafeFile) and file.isatty()]


def output_error() -> OSError | None:
    """Return the error that made standard output incomplete, or None."""
    flush()
    file = _raw(sys.stdout)
    return file.error if isinstance(file, SafeFile) else None


def _open_closed() -> None:
    """Open the null device for each closed stream, so that a database file cannot get the descriptor of a stream."""
    for descriptor in _STANDARD:
        try:
            os.fstat(descriptor)
        except OSError:
            _open_null()  # the system assigns the lowest free descriptor
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(_open_null(), closefd=False)), "utf-8")
    sys.stdout = sys.stdout or _writing_to(_open_null(), "utf-8")
    sys.stderr = sys.stderr or _writing_to(_open_null(), "utf-8")


def _open_null() -> int:
    return os.open(os.devnull, os.O_RDWR)


def _writing_to(descriptor: int, encoding: str, errors: str | None = None, *, is_by_line: bool = False) -> TextIO:
    errors = errors if errors in _LENIENT else "backslashreplace"
    return io.TextIOWrapper(io.BufferedWriter(SafeFile(descriptor)), encoding, errors, line_buffering=is_by_line)


def _safe(stream: TextIO) -> TextIO:
    """Return a safe stream for ``stream``, or ``stream`` itself if a test replaced it or it is Windows' console."""
    file = _raw(stream)
    if not isinstance(file, io.FileIO) or isinstance(file, SafeFile):
        return stream
    with suppress(OSError, ValueError):
        stream.flush()
    is_by_line = stream.isatty() or stream is sys.stderr or getattr(stream, "write_through", False)  # with python -u
    return _writing_to(file.fileno(), stream.encoding, stream.errors, is_by_line=is_by_line)


def _raw(stream: TextIO) -> object:
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)  # without buffering, the buffer itself is the raw file

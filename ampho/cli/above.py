"""What others print while something is drawn: it is kept for who draws, who writes it above the drawing.

``print()``, the log, and whatever else writes to ``sys.stdout`` and ``sys.stderr``. Who reads from ``sys.stdin`` wants
to see what it asks, and to be seen typing: that ends the drawing.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TextIO, cast

_HARMLESS = frozenset({"closed", "encoding", "errors", "isatty", "mode", "name", "newlines"})


class Streams:
    """Stands between the standard streams and those who use them.

    :param asked: called when somebody is about to read from standard input.
    """

    def __init__(self, asked: Callable[[], None]) -> None:
        self._queue: deque[tuple[_Output | None, str]] = deque()
        self._asked = asked
        self._outputs: list[_Output] = []
        self._input: _Input | None = None
        self._handlers: list[tuple[logging.StreamHandler[Any], TextIO]] = []
        self._process = os.getpid()
        self._is_open = False  # the last line
        self.is_taken = False

    @property
    def output(self) -> TextIO:
        """Standard output itself."""
        return self._outputs[0].stream

    def take(self) -> None:
        """Take the place of standard output, and of what else is a terminal, for the handlers of loggers too."""
        self.is_taken = True
        self._outputs = [_Output(self, sys.stdout)]
        if sys.stderr.isatty():
            self._outputs.append(_Output(self, sys.stderr))
            sys.stderr = cast("TextIO", self._outputs[1])
        sys.stdout = cast("TextIO", self._outputs[0])
        for output in self._outputs:
            for handler in _handlers_on(output.stream):
                self._handlers.append((handler, output.stream))
                handler.setStream(output)
        if sys.stdin is not None and sys.stdin.isatty():
            self._input = _Input(sys.stdin, self._asked)
            sys.stdin = cast("TextIO", self._input)

    def give_back(self, *, is_asking: bool = False) -> None:
        """Give the streams back, and write to them what was not written yet.

        :param is_asking: whether the last line shall stay open for an answer.
        """
        self.is_taken = False
        for output in self._outputs:
            sys.stdout = output.stream if sys.stdout is cast("TextIO", output) else sys.stdout
            sys.stderr = output.stream if sys.stderr is cast("TextIO", output) else sys.stderr
            self._handlers += [(handler, output.stream) for handler in _handlers_on(output)]
        if self._input is not None and sys.stdin is cast("TextIO", self._input):
            sys.stdin = self._input.stream
        for handler, stream in self._handlers:
            if isinstance(handler.stream, _Output):
                handler.setStream(stream)
        self.write_rest()
        if self._is_open and not is_asking:
            self._write(self.output, "\n")

    def say(self, line: str) -> None:
        """Write a line of one's own."""
        self._queue.append((None, line))

    def keep(self, output: _Output, text: str) -> bool:
        """Keep what somebody writes, unless this is a forked process, in which nobody would write it."""
        if os.getpid() != self._process:
            return False
        self._queue.append((output, text))
        if not self.is_taken:  # as by a handler that was made meanwhile
            self.write_rest()
        return True

    def lines(self) -> list[str]:
        """Return the whole lines that are to be written, once."""
        found = []
        while self._queue:
            output, text = self._queue.popleft()
            if output is None:
                found.append(text)
            else:
                *whole, output.begun = (output.begun + text).split("\n")
                found += map(_seen, whole)
        return found

    @property
    def begun(self) -> list[str]:
        """The lines that are not whole yet."""
        return [_seen(output.begun) for output in self._outputs if output.begun]

    def write_rest(self) -> None:
        """Write what was kept as it is."""
        for output in self._outputs:
            begun, output.begun = output.begun, ""
            self._write(output.stream, begun)
        while self._queue:
            target, text = self._queue.popleft()
            if target is None:
                self._write(self.output, f"{chr(10) * self._is_open}{text}\n")
            else:
                self._write(target.stream, text)

    def _write(self, stream: TextIO, text: str) -> None:
        if not text:
            return
        with suppress(OSError):  # of a terminal that is gone
            try:
                stream.write(text)
            except UnicodeEncodeError:
                encoding = stream.encoding or "ascii"
                stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()
        self._is_open = not text.endswith("\n")


class _Output:
    """Standard output, or standard error.

    :ivar begun: what was written of a line whose end is still to come.
    """

    def __init__(self, streams: Streams, stream: TextIO) -> None:
        self._streams = streams
        self.stream = stream
        self.begun = ""

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        return len(text) if self._streams.keep(self, text) else self.stream.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        if not self._streams.is_taken:
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _Input:
    """Standard input."""

    def __init__(self, stream: TextIO, asked: Callable[[], None]) -> None:
        self.stream = stream
        self._asked = asked

    def __iter__(self) -> Any:
        self._asked()
        return iter(self.stream)

    def __getattr__(self, name: str) -> Any:
        if name not in _HARMLESS:
            self._asked()
        return getattr(self.stream, name)


def _handlers_on(stream: object) -> list[logging.StreamHandler[Any]]:
    """Return the handlers of loggers that write to a stream."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    handlers = {id(handler): handler for logger in loggers for handler in getattr(logger, "handlers", ())}
    return [
        handler
        for handler in handlers.values()
        if isinstance(handler, logging.StreamHandler) and handler.stream is stream
    ]


def _seen(line: str) -> str:
    """Return what a terminal would leave to see of a line that goes back to its beginning, as a progress bar does."""
    return line.removesuffix("\r").rpartition("\r")[2]

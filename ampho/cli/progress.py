"""The output of a run: a line for each step, and on a terminal also a live display of the current step."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO, cast

from ampho._text import elapsed
from ampho.cli.lines import write
from ampho.cli.reporter import Reporter
from ampho.cli.streams import SafeFile, flush, terminals
from ampho.cli.terminal import refuses_colors, styled

if TYPE_CHECKING:
    from rich.console import Console, ConsoleRenderable, RenderableType
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    from ampho.database.statement import Statement
    from ampho.migrate.observers import BackfillProgress
    from ampho.migrate.plan import Plan, Step

_OUT = 1
_DELAY = 0.2  # seconds before the display appears
_REFRESH = 0.1  # seconds between two updates of the display
_LONG = 2.0  # seconds after which a running statement is shown
_BAR = 24  # the width of the progress bar, in columns

# Escape sequences for which Rich has no name.
_CLEAR_BELOW = "\x1b[J"
_SAVE_CURSOR, _RESTORE_CURSOR = "\x1b7", "\x1b8"
_DOWN = "\x1bD"  # unlike a newline, this keeps the column


@contextmanager
def reporting() -> Iterator[Reporter]:
    """Yield an observer that reports a run on standard output: in plain lines, and with a display on a terminal."""
    if not _is_on_a_terminal():
        yield Reporter()
        return
    with _records_kept_off_the_terminal():
        if os.environ.get("TERM", "" if os.name == "nt" else "dumb") in ("dumb", "unknown"):
            yield Reporter()  # such a terminal may be unable to move its cursor
            return
        display = Display()
        try:
            yield display
        finally:
            display.end()


def _is_on_a_terminal() -> bool:
    try:
        return sys.stdout.fileno() == _OUT and sys.stdout.isatty()
    except (OSError, ValueError):  # the stream is closed, or has no descriptor
        return False


class Display(Reporter):
    """Prints a line for each step, and shows the current step and statement below these lines.

    A thread draws the display, because a statement of a sync driver blocks the thread of the run. Only that thread
    imports Rich, and only if the run does not end immediately.
    """

    def __init__(self) -> None:
        super().__init__()
        self._no_color = refuses_colors()  # Click's context does not exist in the other thread
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._terminals: list[SafeFile] = []
        self._input: _Input | None = None
        self._steps: list[tuple[str, str]] = []  # the database and the revision of each step
        self._begin = 0.0
        self._done = 0
        self._step: tuple[Step, float] | None = None
        self._statement: tuple[Statement, float] | None = None
        self._progress: BackfillProgress | None = None

    def planned(self, plan: Plan) -> None:
        super().planned(plan)
        if plan.steps:
            self._steps, self._begin = list(map(_key, plan.steps)), time.monotonic()
            self._terminals = terminals()
            for terminal in self._terminals:  # if there was a question, Enter ended its line
                terminal.ends_line = True
            self._thread = threading.Thread(target=self._draw, name="ampho-progress", daemon=True)
            self._thread.start()
            if sys.stdin.isatty():
                # Keep a reference, because input() uses the stream even after end() has replaced it.
                self._input = _Input(sys.stdin, self.end)
                sys.stdin = cast("TextIO", self._input)

    def started(self, step: Step) -> None:
        self._step = step, time.monotonic()

    def progressed(self, step: Step, progress: BackfillProgress) -> None:
        self._progress = progress

    def executing(self, statement: Statement) -> None:
        self._statement = statement, time.monotonic()

    def executed(self) -> None:
        self._statement = None

    def applied(self, step: Step, duration: float) -> None:
        super().applied(step, duration)
        self._done += 1

    def _ended(self, step: Step, how: str, color: str) -> None:
        self._step = self._statement = self._progress = None
        self._begin_line()
        super()._ended(step, how, color)

    def _begin_line(self) -> None:
        """Begin a new line if the output of the revision does not end with a newline."""
        flush()
        if not all(terminal.ends_line for terminal in self._terminals):
            write("\n")
        for terminal in self._terminals:  # both streams share the line
            terminal.ends_line = True

    def end(self) -> None:
        """Remove the display, and leave the cursor where the next output belongs."""
        if self._thread is None:
            return
        self._over.set()
        interruption: KeyboardInterrupt | None = None
        while self._thread.is_alive():  # the terminal has to be restored, however often the user presses Ctrl-C
            try:
                self._thread.join()
            except KeyboardInterrupt as exc:
                interruption = exc
        self._thread = None
        if isinstance(sys.stdin, _Input):
            sys.stdin = sys.stdin.stream
        if interruption is not None:
            raise interruption

    def _draw(self) -> None:
        # If drawing fails, the run continues without a display.
        with suppress(Exception):
            if not self._over.wait(_DELAY):
                self._draw_until_over()

    def _draw_until_over(self) -> None:
        from rich.console import Console
        from rich.spinner import Spinner

        with open(_OUT, "w", encoding=sys.stdout.encoding, errors="backslashreplace", closefd=False) as file:
            console = Console(file=file, no_color=self._no_color)
            is_ascii = console.options.ascii_only
            spinner = Spinner("line" if is_ascii else "dots")
            rows = partial(self._rows, spinner, is_ascii=is_ascii)
            for terminal in self._terminals:
                terminal.prefix = _CLEAR_BELOW.encode()  # so that all output from Python clears the display first
            try:
                with _below_cursor(console, rows) as live:
                    while not self._over.wait(_REFRESH):
                        live.refresh()
            finally:
                for terminal in self._terminals:
                    terminal.prefix = b""

    def _rows(self, spinner: Spinner, *, is_ascii: bool) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        now, step, statement, rows = time.monotonic(), self._step, self._statement, []
        if step:
            revision = step[0].revision
            where = f" in {step[0].database}" if self._database is not None else ""
            name = styled((revision.id, "bold"), (f" of {revision.package}{where}  {revision.message}", ""))
            rows.append(_row(spinner.render(now), _cut(name, is_ascii), _elapsed(now - step[1])))
        if progress := self._progress:
            rows.append(_row(Text(" "), _cut(styled((str(progress), "")), is_ascii)))
        if statement and now - statement[1] > _LONG:
            sql = styled((str(statement[0]), "dim"))
            rows.append(_row(Text(" "), _cut(sql, is_ascii), _elapsed(now - statement[1])))
        bar = ProgressBar(len(self._steps), self._done, width=_BAR, complete_style="green", finished_style="green")
        number = self._steps.index(_key(step[0])) + 1 if step else self._done
        rows.append(_row(bar, Text(f"{number} of {len(self._steps)}"), _elapsed(now - self._begin)))
        return Group(*rows)


def _key(step: Step) -> tuple[str, str]:
    return step.database, step.revision.id


def _below_cursor(console: Console, rows: Callable[[], RenderableType]) -> Live:
    """Return a live display that is drawn below the cursor, and leaves the cursor where it is.

    Output of a subprocess or a C library overwrites the display, which is then drawn again below that output. Rich
    itself leaves the cursor at the end of a display, and would erase such output when it draws the display again.
    """
    from rich.live import Live
    from rich.segment import ControlType, Segment, Segments

    def control(codes: str) -> Segment:
        return Segment(codes, None, [(ControlType.CURSOR_UP, 0)])  # any control type marks the codes as non-text

    class Below(Live):
        def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
            lines = console.render_lines(self.get_renderable(), pad=False) if self.is_started else []
            lines = lines[: console.height - 1]
            height = max(len(lines), 1)
            drawn = [control(f"{_DOWN * height}\x1b[{height}A{_SAVE_CURSOR}")]
            for line in lines:
                drawn += [Segment.line(), control(_CLEAR_BELOW), *line]
            drawn.append(control(_RESTORE_CURSOR if lines else _CLEAR_BELOW))
            return [*renderables, Segments(drawn)]

        def stop(self) -> None:
            super().stop()
            # Older versions of Rich print a final newline. On some terminals, restoring the cursor's position hides it.
            console.file.write(_RESTORE_CURSOR)
            console.show_cursor()

    return Below(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False, get_renderable=rows)


def _row(*cells: RenderableType) -> RenderableType:
    from rich.table import Table

    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_row("", *cells)
    return row


def _cut(text: Text, is_ascii: bool) -> Text:
    text.no_wrap, text.overflow = True, "crop" if is_ascii else "ellipsis"
    return text


def _elapsed(seconds: float) -> Text:
    return styled((elapsed(seconds), "cyan"))


class _Input:
    """A replacement for standard input that ends the display before anything is read.

    :ivar stream: the original stream.
    """

    _HARMLESS = frozenset({"closed", "encoding", "errors", "isatty", "mode", "name", "newlines"})

    def __init__(self, stream: TextIO, end_display: Callable[[], None]) -> None:
        self.stream = stream
        self._end_display = end_display

    def __iter__(self) -> Iterator[str]:
        self._end_display()
        return iter(self.stream)

    def __getattr__(self, name: str) -> Any:
        if name not in self._HARMLESS:
            self._end_display()
        return getattr(self.stream, name)


@contextmanager
def _records_kept_off_the_terminal() -> Iterator[None]:
    """Hide the log records of a run from handlers that write to the terminal, where the command reports the run."""
    from ampho.migrate.observers import EVENT

    def deliver_elsewhere(record: logging.LogRecord) -> bool:
        if not hasattr(record, EVENT):
            return True
        # The handlers are looked up for each record, because an app may configure logging at any time. Error trackers
        # wrap Logger.callHandlers(), which would itself print errors if there were no handler.
        elsewhere = logging.Logger(log.name)  # noqa: LOG001 (only for this record)
        handlers = (each for each in _handlers(log) if not _writes_to_the_terminal(each))
        elsewhere.handlers = [logging.NullHandler(), *handlers]
        elsewhere.callHandlers(record)
        return False

    log = logging.getLogger("ampho")
    log.addFilter(deliver_elsewhere)
    try:
        yield
    finally:
        log.removeFilter(deliver_elsewhere)


def _handlers(logger: logging.Logger | None) -> Iterator[logging.Handler]:
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None


def _writes_to_the_terminal(handler: logging.Handler) -> bool:
    """Return whether a handler writes to the terminal of standard output."""
    rich = getattr(handler, "console", None)  # Rich's handler has no stream
    stream: Any = getattr(handler, "stream", getattr(rich, "file", None))
    try:
        is_controlling = getattr(stream, "name", None) == "/dev/tty"  # another name for the same terminal
        return bool(stream.isatty()) and (is_controlling or os.path.sameopenfile(stream.fileno(), _OUT))
    except (AttributeError, OSError, ValueError):  # there is no stream, or it is closed, or it has no descriptor
        return False

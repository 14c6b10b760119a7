"""A run as Rich draws it. This module imports Rich, and only who draws imports this module."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

from rich.console import Console, ConsoleDimensions, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ampho.cli.terminal import styled

if TYPE_CHECKING:
    from types import TracebackType

    from ampho.cli.progress.scene import Scene

_BAR = 24  # columns
_COLUMNS, _LINES = 80, 25  # of a terminal that does not say
_MINUTE, _HOUR = 60, 3600


class Drawing:
    """Draws a run at the bottom of a terminal, and writes lines above it, until the end of a ``with`` block."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(
            Text(),
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._is_ascii = console.options.ascii_only
        self._spinner = Spinner("line" if self._is_ascii else "dots")

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.update(Text())
        self._live.__exit__(kind, error, traceback)

    def update(self, scene: Scene, lines: list[str], begun: str, size: tuple[int, int]) -> None:
        """Write lines, and draw the run as it is now.

        :param begun: a line whose end is still to come.
        :param size: of the terminal, in columns and lines.
        """
        self._console.size = ConsoleDimensions(size[0] or _COLUMNS, size[1] or _LINES)
        if lines:
            self._console.out("\n".join(lines), highlight=False)
        rows = [self._line(Text.from_ansi(begun))] if begun else []
        self._live.update(Group(*rows, *self._rows(scene, time.monotonic())), refresh=True)

    def _rows(self, scene: Scene, now: float) -> Iterable[RenderableType]:
        step, statement = scene.step, scene.long_statement(now)
        if step:
            revision = step[0].revision
            name = styled((revision.id, "bold"), (f" of {revision.package}  {revision.message}", ""))
            yield self._row(self._spinner.render(now), self._line(name), Text(_elapsed(now - step[1]), "cyan"))
        if statement:
            sql = self._line(styled((str(statement[0]), "dim")))
            yield self._row(Text(" "), sql, Text(_elapsed(now - statement[1]), "cyan"))
        bar = ProgressBar(len(scene.ids), scene.done, width=_BAR, complete_style="green", finished_style="green")
        yield self._row(bar, Text(f"{scene.number()} of {len(scene.ids)}"), Text(_elapsed(now - scene.begin), "cyan"))

    def _line(self, text: Text) -> Text:
        text.no_wrap, text.overflow = True, "crop" if self._is_ascii else "ellipsis"
        return text

    def _row(self, *cells: RenderableType) -> Table:
        row = Table.grid(padding=(0, 2, 0, 0))
        row.add_row(Text(""), *cells)
        return row


def _elapsed(seconds: float) -> str:
    """Return whole seconds, as more would only flicker."""
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    hours, minutes = divmod(whole // _MINUTE, _MINUTE)
    return f"{hours}:{minutes:02}:{whole % _MINUTE:02}"

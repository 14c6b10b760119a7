"""The live display of a run on a terminal: what runs at the bottom, what is done above it, a line each.

It is drawn by Rich, in a thread of its own, which alone imports Rich and writes: a statement of a sync driver blocks
the thread of the run, and a slow terminal shall not. The run only notes what there is to show. A run that ends at once
shows its lines and nothing else.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from ampho._text import escaped
from ampho.cli.lines import broken, coloured, columns, write
from ampho.cli.progress.kept import FRESH, Asking, Copy, Kept, Lines
from ampho.cli.progress.scene import Scene
from ampho.cli.show.output import Reporter
from ampho.cli.terminal import console

if TYPE_CHECKING:
    from ampho.database.statement import Statement
    from ampho.migrate.plan import Plan, Step

_PATIENCE = 0.2  # seconds that a run may take without being drawn
_REFRESH = 0.1


class Display(Reporter):
    """Draws a run as it goes."""

    def __init__(self) -> None:
        super().__init__()
        self._context = click.get_current_context(silent=True)  # which the thread would not find
        self._kept = Kept()
        self._thread: threading.Thread | None = None
        self._copy: Copy | None = None
        self._scene = Scene()
        self._input: Asking | None = None

    def planned(self, plan: Plan) -> None:
        super().planned(plan)
        if plan.steps:
            self._scene = Scene(tuple(step.revision.id for step in plan.steps), time.monotonic())
            self._kept.open()
            self._copy = Copy(self._kept.terminal)
            thread = threading.Thread(target=self._draw, args=[self._copy], name="ampho-progress", daemon=True)
            thread.start()
            self._thread = thread
            self._kept.take()  # last: without these threads nobody would read what is written
            if sys.stdin is not None and sys.stdin.isatty():
                self._input = Asking(sys.stdin, self._let_ask)
                self._input.take()

    def started(self, step: Step) -> None:
        self._scene.step = step, time.monotonic()

    def executing(self, statement: Statement) -> None:
        self._scene.statement = statement, time.monotonic()

    def executed(self) -> None:
        self._scene.statement = None

    def applied(self, step: Step, duration: float) -> None:
        super().applied(step, duration)
        self._scene.done += 1

    def _ended(self, step: Step, how: str, colour: str) -> None:
        self._scene.step = self._scene.statement = None
        if self._thread is None:  # the terminal is free again, and its own width counts
            super()._ended(step, how, colour)
            return
        line = escaped(f"{self._begun(step)}{how}")
        line = coloured(broken(line, columns(self._kept.terminal), self._hang), {how: colour})
        write(f"{FRESH}{line}\n")

    def close(self) -> None:
        """End the drawing, and give the terminal back."""
        was_drawing = self._thread is not None
        self._let_ask()
        if was_drawing and self._copy is not None and self._copy.is_open:
            write("\n")

    def _let_ask(self) -> None:
        """End the drawing; what was written of a line stays, and its answer belongs beside it."""
        interruption = None
        while self._thread is not None:
            try:
                self._give_back(self._thread)
            except KeyboardInterrupt as exc:  # once more, or the terminal would not be given back
                interruption = exc
        if interruption is not None:
            raise interruption

    def _give_back(self, thread: threading.Thread) -> None:
        if self._input is not None:
            self._input.give_back()
        self._kept.give_back()
        thread.join()
        self._kept.close()
        self._thread = None

    def _draw(self, copy: Copy) -> None:
        encoding = sys.stdout.encoding
        lines = Lines(encoding)
        lines.add(self._copy_first(copy, time.monotonic() + _PATIENCE))
        try:
            if not self._kept.is_over:
                self._draw_lines(lines)
        except Exception:  # noqa: BLE001 (a terminal that cannot be drawn on is no concern of the run's)
            copy.write("".join(f"{line}\n" for line in lines.whole).encode(encoding, "backslashreplace"))
        copy.write(lines.begun.encode(encoding, "backslashreplace"))
        while not self._kept.is_over:
            copy.write(self._kept.get(_REFRESH))

    def _copy_first(self, copy: Copy, end: float) -> bytes:
        """Copy whole lines up to a moment, and return what was begun then: a drawing begins on a line of its own."""
        begun = b""
        while not self._kept.is_over and (left := end - time.monotonic()) > 0:
            whole, newline, begun = (begun + self._kept.get(left)).rpartition(b"\n")
            copy.write(whole + newline)
        return begun

    def _draw_lines(self, lines: Lines) -> None:
        from ampho.cli.progress.drawing import Drawing

        descriptor = self._kept.terminal
        with (
            open(descriptor, "w", encoding=sys.stdout.encoding, errors="backslashreplace", closefd=False) as file,
            self._context.scope(cleanup=False) if self._context else nullcontext(),
            Drawing(console(file=file)) as drawing,
        ):
            while not self._kept.is_over:
                end = time.monotonic() + _REFRESH
                while chunk := self._kept.get(end - time.monotonic()):
                    lines.add(chunk)
                drawing.update(self._scene, lines.whole, lines.begun, os.get_terminal_size(descriptor))
                lines.whole.clear()

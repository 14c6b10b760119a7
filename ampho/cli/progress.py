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
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import click

from ampho.cli.above import Streams
from ampho.cli.output import Reporter
from ampho.cli.quiet import once_on_a_terminal
from ampho.cli.scene import Scene
from ampho.cli.terminal import console

if TYPE_CHECKING:
    from rich.console import Console

    from ampho.plan import Plan, Step
    from ampho.statement import Statement

_PATIENCE = 0.2  # seconds that a run may take without being drawn
_REFRESH = 0.1


@contextmanager
def reporting() -> Iterator[Reporter]:
    """Give who tells of a run on standard output: live on a terminal, else in plain lines."""
    if not sys.stdout.isatty():
        yield Reporter()
        return
    with once_on_a_terminal():
        if _is_dumb():
            yield Reporter()
            return
        display = Display()
        try:
            yield display
        finally:
            display.close()


def _is_dumb() -> bool:
    """Tell whether the terminal cannot move its cursor; only Windows has terminals without a name."""
    return os.environ.get("TERM", "" if os.name == "nt" else "dumb") in ("dumb", "unknown")


class Display(Reporter):
    """Draws a run as it goes."""

    def __init__(self) -> None:
        super().__init__()
        self._context = click.get_current_context(silent=True)  # which the thread would not find
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._streams = Streams(self._let_ask)
        self._scene = Scene()

    def planned(self, plan: Plan) -> None:
        super().planned(plan)
        if plan.steps:
            self._scene = Scene(tuple(step.revision.id for step in plan.steps), time.monotonic())
            self._streams.take()
            self._thread = threading.Thread(target=self._draw, name="ampho-progress")
            self._thread.start()

    def started(self, step: Step) -> None:
        self._scene.step = step, time.monotonic()

    def executing(self, statement: Statement) -> None:
        self._scene.statement = statement, time.monotonic()

    def executed(self) -> None:
        self._scene.statement = None

    def applied(self, step: Step, duration: float) -> None:
        super().applied(step, duration)
        self._scene.done += 1

    def _ended(self, step: Step, how: str) -> None:
        self._scene.step = self._scene.statement = None
        if self._streams.is_taken:
            self._streams.say(self._begun(step) + how)
        else:
            click.echo(self._begun(step) + how)

    def close(self, *, is_asking: bool = False) -> None:
        """End the drawing, and give the terminal back.

        :param is_asking: whether a question stands there, and its answer belongs beside it.
        """
        if self._thread is not None and self._streams.is_taken:
            self._over.set()
            try:
                self._thread.join()
            finally:
                self._streams.give_back(is_asking=is_asking)

    def _let_ask(self) -> None:
        self.close(is_asking=True)

    def _draw(self) -> None:
        if self._over.wait(_PATIENCE):
            return
        try:
            with self._context.scope(cleanup=False) if self._context else nullcontext():
                self._draw_on(console())
        except Exception:  # noqa: BLE001 (a terminal that cannot be drawn on is no concern of the run's)
            self._streams.give_back()

    def _draw_on(self, terminal: Console) -> None:
        from ampho.cli.drawing import Drawing

        terminal.file = self._streams.output
        with Drawing(terminal) as drawing:
            while not self._over.wait(_REFRESH) and threading.main_thread().is_alive():
                drawing.update(self._scene, self._streams.lines(), self._streams.begun)

"""Who tells of a run on standard output: lines in a pipe, and on a terminal a display, which is imported there only."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ampho.cli.show.output import Reporter

_OUT = 1


@contextmanager
def reporting() -> Iterator[Reporter]:
    """Give who tells of a run on standard output: live on a terminal, else in plain lines."""
    if not _is_on_a_terminal():
        yield Reporter()
        return
    from ampho.cli.progress.quiet import once_on_a_terminal

    with once_on_a_terminal():
        if _is_dumb():
            yield Reporter()
            return
        from ampho.cli.progress.display import Display

        display = Display()
        try:
            yield display
        finally:
            display.close()


def _is_on_a_terminal() -> bool:
    try:
        return sys.stdout.fileno() == _OUT and sys.stdout.isatty()
    except (OSError, ValueError):  # a stand-in that has no descriptor, or one that is closed
        return False


def _is_dumb() -> bool:
    """Tell whether the terminal cannot move its cursor; only Windows has terminals without a name."""
    return os.environ.get("TERM", "" if os.name == "nt" else "dumb") in ("dumb", "unknown")

"""Writing to the standard streams. Everything a command writes goes through here, or through ``terminal.styled()``.

Ids, messages, paths, rows and errors come from files and databases that other people wrote. Text is escaped here, so
that none of it can move the cursor, hide something or forge a line. On a terminal, lines are also broken between words;
elsewhere they stay whole, since logs are read line by line.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import IO, TextIO

import click

from ampho._text import describe, describe_warning, escaped, escaped_lines, one_line
from ampho.cli.terminal import NO_COLOR

_HANG = 2  # columns, by which the rest of a line stands further in than its beginning
_LEAST = 20  # columns, which the rest has in any case
_COLUMNS = 80  # of a terminal that does not say
_NO_TERMINAL = -1  # for a stand-in stream, which has no descriptor
# What is quoted is to be copied, and so stays in one piece.
_WORD = re.compile(r"\s*(?:'[^'\n]{1,60}'\S*|\S+)")

_NOTE = re.compile(r"Name '.*' ignored for PRIMARY key|Table '.*' already exists|Unknown table '|Can't drop database '")

_warned: ContextVar[set[str] | None] = ContextVar("warned", default=None)


def say(
    text: str = "", *, err: bool = False, hang: int | None = None, colors: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Write one line, escaped.

    :param err: whether to write to standard error.
    :param hang: the column in which the rest of it begins, if it is too long for the terminal.
    :param colors: the colors of what the line begins or ends with, on a terminal that shows colors.
    """
    stream = sys.stderr if err else sys.stdout
    text = escaped(text)
    if is_terminal(stream):
        text = colored(broken(text, _columns_of(stream), hang), colors)
    click.echo(text, file=stream)  # noqa: TID251 (this is the one place)


def colored(text: str, colors: Mapping[str, str]) -> str:
    """Return a text with colors for what it begins or ends with, unless none are wanted."""
    if refuses_colors():
        return text
    for part, color in colors.items():
        painted = click.style(part, fg=color, bold=True)
        if text.startswith(part):
            text = painted + text.removeprefix(part)
        elif text.endswith(part):
            text = text.removesuffix(part) + painted
    return text


def refuses_colors() -> bool:
    """Return whether no colors are wanted: by ``--no-color``, by ``NO_COLOR``, or by a terminal that has none."""
    context = click.get_current_context(silent=True)
    asked = context is not None and bool(context.meta.get(NO_COLOR))
    return asked or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") in ("dumb", "unknown")


def write(text: str, *, err: bool = False) -> None:
    """Write data unchanged, or escaped to a terminal."""
    # Not with click.echo(), which removes escape sequences from what it writes into a pipe.
    stream = sys.stderr if err else sys.stdout
    stream.write(escaped_lines(text) if is_terminal(stream) else text)
    stream.flush()


def warn(text: str) -> None:
    """Write a warning to standard error, unless this command has already written it."""
    warned = _warned.get()
    if warned is None or text not in warned:
        say(f"Warning: {text}", err=True, colors={"Warning:": "yellow"})
    if warned is not None:
        warned.add(text)


@contextmanager
def warning_once() -> Iterator[None]:
    """Write each warning only once in a ``with`` block, Python's own and those that libraries log included.

    Python's filters decide which of its own are shown. If the app handles them, as with ``logging.captureWarnings()``,
    they are left to it, and so is what is logged if the app has configured logging.
    """
    token, before, last_resort = _warned.set(set()), warnings.showwarning, logging.lastResort
    if getattr(before, "__module__", "") == warnings.__name__:
        warnings.showwarning = _show_warning
    logging.lastResort = _Unhandled(logging.WARNING)
    try:
        yield
    finally:
        _warned.reset(token)
        logging.lastResort = last_resort
        if warnings.showwarning is _show_warning:
            warnings.showwarning = before


class _Unhandled(logging.Handler):
    """Writes what is logged as a warning in one line, where the app has not configured logging.

    It leaves out that a lost connection could not be closed, since the command itself reports the loss, and the notes
    of MariaDB and MySQL about ``IF EXISTS`` and the names of primary keys.
    """

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.name.startswith("sqlalchemy.pool") or (record.name == "asyncmy" and _NOTE.match(message)):
            return
        why = f": {describe(record.exc_info[1])}" if record.exc_info and record.exc_info[1] else ""
        name = "" if record.name == "ampho" else f"{record.name}: "
        warn(one_line(f"{name}{message}{why}"))


def _show_warning(  # noqa: PLR0917 (as Python calls it)
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    warn(describe_warning(message, category, filename, lineno))


def is_terminal(stream: IO[str] | None) -> bool:
    """Return whether a stream is a terminal; it is None if it was closed before Python started."""
    return stream is not None and stream.isatty()


def _columns_of(stream: IO[str]) -> int:
    try:
        terminal = stream.fileno()
    except (OSError, ValueError):
        terminal = _NO_TERMINAL
    return columns(terminal)


def columns(terminal: int) -> int:
    """Return how many columns a terminal has, by its descriptor."""
    given = os.environ.get("COLUMNS", "")  # as for what Rich draws
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(terminal).columns or _COLUMNS
    except OSError:
        return _COLUMNS


def broken(text: str, width: int, hang: int | None = None) -> str:
    """Break a line between its words, where it has more than so many columns.

    A word that is longer, such as a path, has a line of its own, which the terminal breaks; so it can be copied whole.

    :param hang: the column in which the other lines begin.
    """
    if len(text) <= width and (text.isascii() or size(text) <= width):
        return text
    if hang is None:
        hang = len(text) - len(text.lstrip(" ")) + _HANG
    hang = hang if width - hang >= _LEAST else _HANG
    lines = [""]
    for word in _WORD.findall(text):
        if lines[-1].strip() and size(lines[-1] + word) > width:
            bare = word.lstrip()
            lines.append(" " * (hang if hang + size(bare) <= width else _HANG) + bare)
        else:
            lines[-1] += word
    return "\n".join(lines)


def size(text: str) -> int:
    """Return how many columns a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # late, as it takes a while

    return cell_len(text)

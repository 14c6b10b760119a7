"""Write to the standard streams. All output of a command goes through this module or ``terminal.styled()``.

Ids, messages, paths, rows, and errors come from files and databases that other people wrote. This module escapes them,
so that they cannot move the cursor, hide output, or forge a line. On a terminal, it also wraps long lines between
words. In pipes and files, lines stay whole, because programs read logs line by line.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import MappingProxyType
from typing import IO, TextIO

import click

from ampho._text import describe, describe_warning, escaped, escaped_lines, one_line
from ampho.cli.terminal import is_terminal, refuses_colors

_HANG = 2  # the indentation of continuation lines, in columns
_LEAST = 20  # the minimum width of a continuation line, in columns
_COLUMNS = 80  # the width to assume if the width of the terminal is unknown
# Quoted text, such as a command, is not broken, so that it can be copied.
_WORD = re.compile(r"\s*(?:'[^'\n]{1,60}'\S*|\S+)")

_NOTE = re.compile(r"Name '.*' ignored for PRIMARY key|Table '.*' already exists|Unknown table '|Can't drop database '")

_warned: ContextVar[set[str]] = ContextVar("warned")


def say(
    text: str = "", *, err: bool = False, hang: int | None = None, colors: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Write one line, escaped.

    :param err: whether to write to standard error.
    :param hang: the column where continuation lines begin if the line is too long for the terminal.
    :param colors: colors, by the words at the beginning or the end of the line, for a terminal that shows colors.
    """
    stream = sys.stderr if err else sys.stdout
    text = escaped(text)
    if is_terminal(stderr=err):
        text = _colored(wrap(text, columns(stream), hang), colors)
    click.echo(text, file=stream)  # noqa: TID251 (the only call with text that may need escaping)


def _colored(text: str, colors: Mapping[str, str]) -> str:
    if refuses_colors():
        return text
    for part, color in colors.items():
        painted = click.style(part, fg=color, bold=True)
        if text.startswith(part):
            text = painted + text.removeprefix(part)
        elif text.endswith(part):
            text = text.removesuffix(part) + painted
    return text


def write(text: str, *, err: bool = False) -> None:
    """Write data, escaped on a terminal and otherwise unchanged."""
    # click.echo() would remove escape sequences from data that it writes into a pipe.
    stream = sys.stderr if err else sys.stdout
    stream.write(escaped_lines(text) if is_terminal(stderr=err) else text)
    stream.flush()


def warn(text: str) -> None:
    """Write a warning to standard error, unless this command has already written it."""
    warned = _warned.get(set())
    if text not in warned:
        say(f"Warning: {text}", err=True, colors={"Warning:": "yellow"})
    warned.add(text)


@contextmanager
def warning_once() -> Iterator[None]:
    """Write each warning only once in a ``with`` block, including Python's warnings and those that libraries log.

    Python's filters apply. If the app handles Python's warnings, for example with ``logging.captureWarnings()``, or has
    configured logging, it receives the warnings instead.
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
    """Writes each logged warning as one line, if the app has not configured logging.

    It drops warnings that a lost connection could not be closed, because the command reports the lost connection. It
    also drops notes from MariaDB and MySQL about ``IF EXISTS`` and the names of primary keys.
    """

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.name.startswith("sqlalchemy.pool") or (record.name == "asyncmy" and _NOTE.match(message)):
            return
        why = f": {describe(record.exc_info[1])}" if record.exc_info and record.exc_info[1] else ""
        name = "" if record.name == "ampho" else f"{record.name}: "
        warn(one_line(f"{name}{message}{why}"))


def _show_warning(  # noqa: PLR0917 (the signature is Python's)
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    warn(describe_warning(message, category, filename, lineno))


def columns(stream: IO[str]) -> int:
    """Return the width of a terminal; ``COLUMNS`` overrides it, as in Rich."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    with suppress(OSError, ValueError):  # a replaced stream may have no descriptor
        return os.get_terminal_size(stream.fileno()).columns or _COLUMNS
    return _COLUMNS


def wrap(text: str, width: int, hang: int | None = None) -> str:
    """Return a line, wrapped between words if it has more than ``width`` columns.

    A longer word, such as a path, gets its own line. Only the terminal wraps such a word, so that users can copy it
    whole.

    :param hang: the column in which the second and later lines begin.
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
    """Return the width of text in columns."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # imported late, because the import is slow

    return cell_len(text)

"""Keeping the records of a run off the terminal on which a command says the same in its own words.

Handlers that write elsewhere get them all.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ampho.migrate.observers import EVENT

_log = logging.getLogger("ampho")
_STANDARD = (1, 2)


@contextmanager
def once_on_a_terminal() -> Iterator[None]:
    """Let no handler of the log write records of a run to a terminal, for as long as this lasts."""
    hushed: list[logging.Handler] = []
    terminals = [descriptor for descriptor in _STANDARD if os.isatty(descriptor)]  # which may become pipes

    def look(record: logging.LogRecord) -> bool:
        """Look for handlers when there is something to handle: an app sets its logging up when it likes."""
        if _is_of_a_run(record):
            for handler in _handlers():
                if handler not in hushed and _descriptor(handler) in terminals:
                    handler.addFilter(_is_not_of_a_run)
                    hushed.append(handler)
        return True

    _log.addFilter(look)
    try:
        yield
    finally:
        _log.removeFilter(look)
        for handler in hushed:
            handler.removeFilter(_is_not_of_a_run)


def _is_of_a_run(record: logging.LogRecord) -> bool:
    return hasattr(record, EVENT)


def _is_not_of_a_run(record: logging.LogRecord) -> bool:
    return not _is_of_a_run(record)


def _handlers() -> Iterator[logging.Handler]:
    logger: logging.Logger | None = _log
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None


def _descriptor(handler: logging.Handler) -> int | None:
    """Return the descriptor that a handler writes to, if it has one."""
    rich = getattr(handler, "console", None)  # Rich's handler has no stream
    try:
        stream: Any = getattr(handler, "stream", getattr(rich, "file", None))
        return int(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return None

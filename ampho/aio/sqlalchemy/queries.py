"""The statements that were executed in an app context, if ``SQLALCHEMY_RECORD_QUERIES`` is set."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from greenlet import getcurrent
from quart import has_app_context
from sqlalchemy import event

from ampho.aio.sqlalchemy.context import current_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import Any

    from quart.ctx import AppContext
    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import ExecutionContext

_START = "ampho_start_time"


@dataclass(frozen=True)
class RecordedQuery:
    """A statement that was executed.

    :ivar statement: the SQL, with placeholders for the parameters.
    :ivar parameters: the parameters of each execution.
    :ivar start_time: when the statement was sent, in seconds, as ``time.perf_counter()`` returns it.
    :ivar end_time: when the database had executed it.
    :ivar location: the file, line, and function of the app that executed it; ``<unknown>`` if it was not in the app.
    """

    statement: str | None
    parameters: object
    start_time: float
    end_time: float
    location: str

    @property
    def duration(self) -> float:
        """The time that the statement took, in seconds."""
        return self.end_time - self.start_time


# The context is the key, because a copy of a context shares its `g`.
_recorded: WeakKeyDictionary[AppContext, list[RecordedQuery]] = WeakKeyDictionary()


def get_recorded_queries() -> list[RecordedQuery]:
    """Return the statements that were executed in the current app context, in order.

    Statements are recorded if ``SQLALCHEMY_RECORD_QUERIES`` is true in the app's config.

    :raises RuntimeError: outside of an app context.
    """
    return _recorded.setdefault(current_context(), [])


def record_queries(engine: Engine) -> None:
    """Record the statements that an engine executes in an app context."""
    event.listen(engine, "before_cursor_execute", _start)
    event.listen(engine, "after_cursor_execute", _end)


def _start(connection: Connection, *arguments: object) -> None:
    connection.info[_START] = perf_counter()


def _end(connection: Connection, cursor: object, statement: str, *arguments: Any) -> None:  # noqa: ANN401 (SQLAlchemy's arguments)
    end_time = perf_counter()
    if not has_app_context():
        return
    execution: ExecutionContext = arguments[1]
    context = current_context()
    location = _location(context.app.import_name.partition(".")[0])
    start_time = connection.info.pop(_START, end_time)
    query = RecordedQuery(statement, execution.parameters, start_time, end_time, location)
    _recorded.setdefault(context, []).append(query)


def _location(package: str) -> str:
    for frame in _frames():
        name = frame.f_globals.get("__name__", "")
        if name == package or name.startswith(f"{package}."):
            return f"{frame.f_code.co_filename}:{frame.f_lineno} ({frame.f_code.co_name})"
    return "<unknown>"


def _frames() -> Iterator[FrameType]:
    """Yield the frames of the callers. SQLAlchemy executes statements in a greenlet, whose parent awaits them."""
    greenlet = getcurrent()
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 (documented for this)
    while True:
        while frame is not None:
            yield frame
            frame = frame.f_back
        if greenlet.parent is None:
            return
        greenlet = greenlet.parent
        frame = greenlet.gr_frame

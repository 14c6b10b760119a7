"""Errors for two mistakes that async code makes with a session: a query without ``await``, and two tasks at once.

Without these checks, the error depends on the driver and on the version of SQLAlchemy. Some drivers do not raise one,
and others send the statement of one task in the middle of another.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from types import FrameType
from typing import Any, Protocol, TypeVar, cast

from sqlalchemy import inspect
from sqlalchemy.exc import InvalidRequestError, MissingGreenlet
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import InstanceState, QueryableAttribute, RelationshipProperty
from sqlalchemy.util.concurrency import in_greenlet

_REFRESH = "await db.session.refresh(obj{})"
_ACCESSES = {"__get__", "__set__", "__delete__"}
_SYNC = "A query needs 'await'. Await a method of db.session instead, or 'db.session.run_sync(function)'."
_SHARED = (
    "Another task is using this database session, and a session can be used by one task at a time. Await the calls one "
    "after the other, or give each task a session of its own: use db.session inside 'async with app.app_context():' in "
    "the function of the task."
)
REMEDY = (
    "A task that outlives its request needs a context of its own: start it with app.add_background_task, or wrap its "
    "function in quart.copy_current_app_context."
)
ENDED = (
    f"The app context of this database session has ended. {REMEDY} A generator that streams a response needs "
    "quart.stream_with_context, and db.session inside it."
)

Method = TypeVar("Method", bound=Callable[..., object])


class Guarded(Protocol):
    """A session, with the task that is using it, and whether its app context has ended."""

    user: asyncio.Task[object] | None
    ended: bool


def guarded(method: Method, *, is_query: bool = False) -> Method:
    """Return a method of a session that raises an error while another task is using the session, or after its end.

    :param is_query: whether the method always sends a statement, so that calling it without ``await`` is an error.
    """

    @wraps(method)
    def call(self: Guarded, *args: object, **options: object) -> object:
        if is_query and not in_greenlet():
            raise MissingGreenlet(_describe_query(sys._getframe(1)))  # noqa: SLF001 (as in the logging module)
        task = asyncio.current_task()
        if self.user is task:
            return method(self, *args, **options)
        if self.ended:
            raise RuntimeError(ENDED)
        if self.user is not None:
            raise InvalidRequestError(_SHARED)
        self.user = task
        try:
            return method(self, *args, **options)
        finally:
            self.user = None

    return cast("Method", call)


def _describe_query(frame: FrameType) -> str:
    """Return a description of a query without ``await``, for the frame that makes it."""
    frames = list(_outwards(frame))
    for number, inner in enumerate(frames):
        attribute = inner.f_locals.get("self")
        if inner.f_code.co_name in _ACCESSES and isinstance(attribute, QueryableAttribute):
            place = _describe_place(frames[number + 1 :])
            return f"{_describe_attribute(attribute, inner.f_locals.get('instance'))}\n{place}"
    return f"{_SYNC}\n{_describe_place(frames)}"


def _describe_attribute(attribute: QueryableAttribute[Any], instance: object) -> str:
    name, key = f"{attribute.class_.__name__}.{attribute.key}", attribute.key
    state = cast("InstanceState[object]", inspect(instance))
    later = f"await obj.awaitable_attrs.{key}" if isinstance(instance, AsyncAttrs) else _REFRESH.format(f", [{key!r}]")
    if isinstance(attribute.property, RelationshipProperty):
        why, remedy = "not loaded", f"Add .options(selectinload({name})) to the query of the object"
    elif key in state.expired_attributes and not attribute.property.deferred:
        why, remedy = "expired", f"Load the object again with '{_REFRESH.format('')}'"
    else:
        why, remedy = "deferred", f"Add .options(undefer({name})) to the query of the object"
    if state.runid is None and why != "expired":  # the object is new: no query has loaded it
        return f"{name} is {why}, and it cannot be loaded without 'await'. Use '{later}'."
    return f"{name} is {why}, and it cannot be loaded without 'await'. {remedy}, or use '{later}'."


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _describe_place(frames: list[FrameType]) -> str:
    """Return the first line of these frames that does not belong to an installed package, as in a traceback."""
    callers = [frame for frame in frames if frame.f_globals.get("__name__", "").partition(".")[0] != "sqlalchemy"]
    own = [frame for frame in callers if "site-packages" not in frame.f_code.co_filename]
    frame = (own or callers)[0]
    line = frame.f_lineno
    if template := frame.f_globals.get("__jinja_template__"):
        line = template.get_corresponding_lineno(line)
    return f'  File "{frame.f_code.co_filename}", line {line}, in {frame.f_code.co_name}'

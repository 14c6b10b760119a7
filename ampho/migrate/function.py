"""Run the ``upgrade()`` or ``downgrade()`` of a revision. These functions may be async."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import CORO_CREATED, Parameter, getcoroutinestate, iscoroutine, iscoroutinefunction, signature
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import await_only

from ampho._text import shown_path

if TYPE_CHECKING:
    from types import FrameType

    from sqlalchemy.ext.asyncio import AsyncConnection

_log = logging.getLogger("ampho")

_NEVER_AWAITED = re.compile(r"coroutine .* was never awaited")
_CREATED = re.compile(r'File "(.*)", line (\d+)')
_ORIGIN_DEPTH = 8  # the maximum number of calls between the revision's code and the creation of a coroutine


def run_function(
    path: str, function: Callable[..., object], arguments: dict[str, object], run_async: Callable[..., AsyncConnection]
) -> None:
    """Run the function of a revision, and await it if it is async.

    :param path: the revision's file.
    :param arguments: the arguments that ``env.py`` passed to ``context.run_migrations()``.
    :param run_async: ``op.run_async()``, which raises an error on a sync engine, or if SQL is written instead of
        executed.
    :raises TypeError: if the function returns anything but None.
    :raises RuntimeError: if the function creates a coroutine and never awaits it.
    """
    is_async = iscoroutinefunction(function)
    with _all_awaited(path, is_async=is_async):
        result = _run_async(function, arguments, run_async(_itself)) if is_async else function(**arguments)  # type: ignore[arg-type]  # the function is async
        if result is None:
            return
        if iscoroutine(result):
            result.close()  # otherwise Python warns that it was never awaited
        raise TypeError(
            f"{getattr(function, '__name__', 'the function')}() returned an object of type '{type(result).__name__}'."
            " It must do its work itself and return None"
        )


def _run_async(
    function: Callable[..., Coroutine[object, object, object]],
    arguments: dict[str, object],
    connection: AsyncConnection,
) -> object:
    """Run an async function in this greenlet, so that sync functions such as ``op.create_table()`` work in it, too.

    :param connection: passed to the function if it has a parameter that ``arguments`` does not contain.
    """
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    wants = [each for each in signature(function).parameters.values() if each.kind in positional]
    takes_connection = any(each.name not in arguments for each in wants)
    coroutine = function(connection, **arguments) if takes_connection else function(**arguments)
    proceed: Callable[[], object] = partial(coroutine.send, None)
    while True:
        try:
            waiting = proceed()
        except StopIteration as end:
            return end.value
        try:
            proceed = partial(coroutine.send, await_only(_Waiting(waiting)))
        except BaseException as exc:  # noqa: BLE001 (the function has to receive a cancellation, too)
            proceed = partial(coroutine.throw, exc)


async def _itself(connection: AsyncConnection) -> AsyncConnection:
    return connection


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Makes the event loop wait for a future that a coroutine has yielded."""

    future: object

    def __await__(self) -> Generator[object, object, object]:
        return (yield self.future)


@contextmanager
def _all_awaited(path: str, *, is_async: bool) -> Iterator[None]:
    """Raise an error if a revision creates a coroutine and never awaits it, so that its code does not run.

    Python itself only issues a warning, when it deletes the coroutine.
    """
    forgotten: list[tuple[str, str]] = []

    def show(message: Warning | str, category: type[Warning], *args: Any) -> None:  # noqa: ANN401
        lines = [line for file, line in _CREATED.findall(str(message)) if file == path]
        if lines and _NEVER_AWAITED.match(str(message)):
            forgotten.append((str(message).split("'")[1], lines[-1]))
        else:
            shown(message, category, *args)

    depth = sys.get_coroutine_origin_tracking_depth()
    with warnings.catch_warnings():
        shown: Callable[..., None] = warnings.showwarning
        warnings.showwarning = show  # type: ignore[assignment]  # show() passes all arguments on
        warnings.filterwarnings("always", _NEVER_AWAITED.pattern, RuntimeWarning)
        sys.set_coroutine_origin_tracking_depth(max(depth, _ORIGIN_DEPTH))
        try:
            yield
        except BaseException as exc:
            close_coroutines(frame for frame, _ in walk_tb(exc.__traceback__))
            for name, line in forgotten[:1]:  # this may have caused the error
                _log.warning("%s, line %s: %s() is called but never awaited.", shown_path(path), line, name)
            raise
        finally:
            sys.set_coroutine_origin_tracking_depth(depth)
    for name, line in forgotten[:1]:
        remedy = "await it" if is_async else "await it in op.run_async(), or write 'async def upgrade()'"
        raise RuntimeError(f"on line {line}, {name}() is called but never awaited, so its code did not run: {remedy}")


def close_coroutines(frames: Iterable[FrameType]) -> None:
    """Close coroutines that a failed call created but never started; otherwise, Python would warn about them."""
    for value in [value for frame in frames for value in frame.f_locals.values()]:
        if iscoroutine(value) and getcoroutinestate(value) == CORO_CREATED:
            value.close()

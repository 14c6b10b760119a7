"""All who are told what a run does: they hear the same things, in the same order, and none of them has a say."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from ampho._text import location
from ampho.database.url import describe_without
from ampho.migrate.observers import Observer

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

P = ParamSpec("P")

_log = logging.getLogger("ampho")


class Guard:
    """Calls people who have no say: what the first call of one raises is logged, and the run goes on.

    :param url: the database, whose password is not in the log.
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self._failed: set[str] = set()

    def call(self, name: str, hear: Callable[..., object], *args: object, **kwargs: object) -> None:
        """Call somebody of that name."""
        try:
            hear(*args, **kwargs)
        except Exception as exc:  # noqa: BLE001 (an observer is anybody's)
            if name in self._failed:
                return
            self._failed.add(name)
            why = f"{describe_without(exc, self._url)} ({location(exc, None)})"
            with suppress(Exception):  # what failed may be a handler of this very log
                _log.warning("%s failed, and the run goes on without it: %s", name, why)


class Audience:
    """Tells observers of a run."""

    def __init__(self, guard: Guard, *observers: Observer) -> None:
        self._guard = guard
        self._observers = observers

    @property
    def hears_statements(self) -> bool:
        """Whether anybody wants to hear of each statement."""
        return any(
            getattr(type(observer), name, None) not in (None, getattr(Observer, name))
            for observer in self._observers
            for name in ("executing", "executed")
        )

    def tell(self, event: Callable[Concatenate[Any, P], None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Tell of an event, which is one of :class:`Observer`'s methods."""
        for observer in self._observers:
            hear = getattr(observer, event.__name__, None)
            if hear is not None:
                self._guard.call(type(observer).__name__, hear, *args, **kwargs)

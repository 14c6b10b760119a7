"""The configuration of an app's engines, and the engines for each event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from traceback import clear_frames
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

from sqlalchemy import event
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, async_engine_from_config

from ampho.aio.sqlalchemy.pool import OneConnectionPool
from ampho.aio.sqlalchemy.queries import record_queries
from ampho.database.engine import make_folder_first
from ampho.database.url import (
    in_folder,
    is_in_memory,
    leaving_no_frames,
    missing_driver,
    parse_url,
    redact,
    require_driver,
)
from ampho.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import Any

    from sqlalchemy import URL
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

    from ampho.database.redirect import Lead

URI = "SQLALCHEMY_DATABASE_URI"
BINDS = "SQLALCHEMY_BINDS"
OPTIONS = "SQLALCHEMY_ENGINE_OPTIONS"
ECHO = "SQLALCHEMY_ECHO"
RECORD = "SQLALCHEMY_RECORD_QUERIES"


@dataclass(frozen=True)
class EngineSpec:
    """The configuration of one engine.

    :ivar setting: the setting that contains the URL.
    :ivar url: the URL, with the defaults for its driver.
    :ivar options: the other arguments of :func:`sqlalchemy.create_engine`.
    :ivar folder: a folder to create before the engine connects.
    :ivar in_memory: whether the database only exists while its connection is open.
    :ivar record: whether to record the statements, for :func:`get_recorded_queries`.
    """

    setting: str
    url: URL
    options: Mapping[str, object]
    folder: Path | None = None
    in_memory: bool = False
    record: bool = False

    def make(self) -> AsyncEngine:
        """Create the engine, without connecting.

        :raises DriverError: if the driver is not installed.
        :raises ConfigurationError: if SQLAlchemy does not accept the URL or an option.
        """
        try:
            engine = async_engine_from_config({**self.options, "url": self.url}, prefix="")
        except ImportError as error:
            raise missing_driver(self.url, error, self.setting) from error
        except (ArgumentError, TypeError, ValueError) as error:
            fault = f"{self.setting} or one of its engine options cannot be used: {redact(str(error), self.url)}"
        else:
            if self.folder is not None:
                make_folder_first(engine.sync_engine, self.folder)
            if self.url.get_backend_name() == "sqlite":
                event.listen(engine.sync_engine, "handle_error", _end_statement)
            if self.record:
                record_queries(engine.sync_engine)
            return engine
        raise ConfigurationError(fault, setting=self.setting)


def _end_statement(error: ExceptionContext) -> None:
    """Close the cursor of a cancelled statement.

    From Python 3.11 on, a closed connection of :mod:`sqlite3` keeps its lock on the file while a cursor is open. The
    traceback of the cancellation would keep the cursor open until it is garbage-collected.
    """
    if isinstance(error.original_exception, asyncio.CancelledError):
        if error.execution_context is not None:
            error.execution_context.cursor.close()
        # In SQLAlchemy 2.0, a local variable in the traceback's frames also refers to the cursor.
        clear_frames(error.original_exception.__traceback__)


def _close_connection(connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
    if connection is not None:
        record.invalidate()


@leaving_no_frames
def read_specs(
    config: MutableMapping[str, Any], defaults: Mapping[str, object], instance_path: str
) -> dict[str | None, EngineSpec]:
    """Return the engine configuration for each bind key; the key of the default engine is ``None``.

    The settings have the same meaning and precedence as in Flask-SQLAlchemy 3.1: ``SQLALCHEMY_ENGINE_OPTIONS`` only
    applies to the default engine.

    :param defaults: options that the app passed to the extension, for all engines.
    :raises ConfigurationError: if no engine is configured, or a setting is invalid.
    """
    uri = config.setdefault(URI, None)
    binds = _mapping(config.setdefault(BINDS, {}), BINDS)
    default = {**defaults, **_mapping(config.setdefault(OPTIONS, {}), OPTIONS)}
    echo = config.setdefault(ECHO, False)

    found: dict[str | None, tuple[str, dict[str, object]]] = {}
    for key, value in binds.items():
        options = value if isinstance(value, Mapping) else {"url": value}
        found[key] = f"{BINDS}[{key!r}]", {**defaults, **options}
    if uri is not None:
        default["url"] = uri
    if "url" in default:
        setting = URI if uri is not None else f"{OPTIONS}['url']"
        found[None] = setting, {**(found[None][1] if None in found else {}), **default}
    if not found:
        raise ConfigurationError(f"No database URL is set. Set {URI} or {BINDS} before init_app.", setting=URI)
    record = bool(config.setdefault(RECORD, False))
    return {
        key: replace(_spec(setting, {"echo": echo, "echo_pool": echo, **options}, instance_path), record=record)
        for key, (setting, options) in found.items()
    }


def _mapping(value: object, setting: str) -> Mapping[Any, object]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{setting} must be a dict, not {type(value).__name__}.", setting=setting)
    return value


def _spec(setting: str, options: dict[str, object], instance_path: str) -> EngineSpec:
    if "url" not in options:
        raise ConfigurationError(f"{setting} has no 'url'. Add one.", setting=setting)
    url = parse_url(options.pop("url"), setting)
    require_driver(url, is_async=True, setting=setting)
    backend = url.get_backend_name()
    if backend == "sqlite":
        if is_in_memory(url):
            return EngineSpec(setting, url, {**options, "poolclass": OneConnectionPool}, in_memory=True)
        folder = Path(instance_path)
        resolved = in_folder(url, folder)
        return EngineSpec(setting, resolved, options, None if resolved is url else folder)
    if backend in {"mysql", "mariadb"}:
        options.setdefault("pool_recycle", 7200)
        if "charset" not in url.query:
            url = url.update_query_dict({"charset": "utf8mb4"})
    return EngineSpec(setting, url, options)


def _name_of(key: str | None) -> str:
    return "the default bind" if key is None else f"the bind key {key!r}"


class _Lead:
    """Leads the engines for a bind key elsewhere.

    :ivar key: the bind key.
    """

    def __init__(self, key: str | None, how: Lead) -> None:
        self.key = key
        self._how = how
        self._led: list[tuple[ref[asyncio.AbstractEventLoop] | None, AbstractContextManager[object]]] = []

    def enter(self, engine: AsyncEngine, loop: asyncio.AbstractEventLoop | None) -> None:
        """Lead an engine elsewhere, and forget the engines of loops that have ended."""
        for led in [led for led in self._led if led[0] is not None and _has_ended(led[0]())]:
            self._led.remove(led)
            led[1].__exit__(None, None, None)
        context = self._how(engine.sync_engine)
        context.__enter__()
        self._led.append((None if loop is None else ref(loop), context))

    def exit(self) -> None:
        with ExitStack() as stack:
            for _, context in self._led:
                stack.push(context.__exit__)


def _has_ended(loop: asyncio.AbstractEventLoop | None) -> bool:
    return loop is None or loop.is_closed()


@dataclass(frozen=True, eq=False)
class Engines:
    """The engines of one app, each created when it is first used.

    An async engine belongs to the event loop that first used it, so each loop has engines of its own; a test suite has
    many loops. An in-memory database only exists on its connection, so it has one engine for all loops.
    """

    specs: Mapping[str | None, EngineSpec]
    _by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str | None, AsyncEngine]] = field(
        default_factory=WeakKeyDictionary
    )
    _in_memory: dict[str | None, AsyncEngine] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _leads: list[_Lead] = field(default_factory=list)

    def spec(self, key: str | None) -> EngineSpec:
        """Return the engine configuration for a bind key.

        :raises ConfigurationError: if the bind key is not configured.
        """
        if key in self.specs:
            return self.specs[key]
        setting = URI if key is None else BINDS
        known = " and ".join(map(_name_of, self.specs))
        raise ConfigurationError(f"{setting} does not configure {_name_of(key)}, only {known}.", setting=setting)

    def get(self, key: str | None) -> AsyncEngine:
        """Return the engine for a bind key in the running event loop.

        :raises ConfigurationError: if the bind key is not configured, or its configuration is invalid.
        """
        spec = self.spec(key)
        with self._lock:
            engines = self._in_memory if spec.in_memory else self._of_running_loop()
            if key not in engines:
                engines[key] = spec.make()
                for lead in self._leads:
                    if lead.key == key:
                        lead.enter(engines[key], None if spec.in_memory else asyncio.get_running_loop())
            return engines[key]

    def url(self, key: str | None) -> URL:
        """Return the URL for a bind key, which is that of another database while the engines lead there."""
        spec = self.spec(key)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return spec.url
        return self.get(key).url if self._leads else spec.url

    @contextmanager
    def led(self, key: str | None, how: Lead) -> Iterator[None]:
        """Lead the engines for a bind key elsewhere, in all event loops, while the context manager is active."""
        self.spec(key)
        lead = _Lead(key, how)
        with self._lock:
            self._leads.append(lead)
            for loop, engines in [(None, self._in_memory), *self._by_loop.items()]:
                if key in engines:
                    lead.enter(engines[key], loop)
        try:
            yield
        finally:
            with self._lock:
                self._leads.remove(lead)
            lead.exit()

    async def dispose(self) -> None:
        """Close the connections of the running loop, and those of in-memory databases, whose contents are lost."""
        with self._lock:
            engines, in_memory = [*self._of_running_loop().values()], [*self._in_memory.values()]
        for engine in engines:
            pool = engine.pool
            await engine.dispose()
            # Requests that a server cancels when it stops still use connections, which the pool would keep open.
            event.listen(pool, "checkin", _close_connection)
        for engine in in_memory:
            await engine.dispose()

    def _of_running_loop(self) -> dict[str | None, AsyncEngine]:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError("An async engine needs a running event loop. Use it in an async function.") from None
        for closed in [known for known in self._by_loop if known.is_closed()]:
            for engine in self._by_loop.pop(closed).values():
                # A connection cannot be closed without its loop.
                engine.sync_engine.dispose(close=False)
        return self._by_loop.setdefault(loop, {})

"""The stores of SQLite: files in a folder of the user's below the folder for temporary files, and databases in memory.

The locks are SQLite's own, on empty files, so the kernel releases them if a process is killed.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, StaticPool

from ampho._text import describe
from ampho.database.engine import served_database, with_database
from ampho.database.lock import pause
from ampho.database.sqlite import in_its_thread
from ampho.database.store.base import Store, check_served, exists, key_of, no_template, run_of, template_name
from ampho.errors import DatabaseError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection

_SUFFIX = ".db"
_LOCK = ".lock"
_KEPT_SECONDS = 24 * 3600
_POLL_SECONDS = 0.005
_CHUNK = 1 << 30


class SQLiteStore(Store):
    """Templates and clones in a folder that only the user can read."""

    def __init__(self, engine: Engine, connect: Callable[[Engine], Connection], folder: Path | None = None) -> None:
        super().__init__(engine, connect)
        self._wanted_folder = folder or Path(tempfile.gettempdir(), f"ampho-{_user()}")
        self._own_lock: sqlite3.Connection | None = None

    @property
    def _folder(self) -> Path:
        folder = self._wanted_folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(folder)
        return folder

    def _used(self) -> dict[str, float]:
        used: dict[str, float] = {}
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):  # another process removed it
                if key := key_of(path.stem):
                    used[key] = path.stat().st_mtime
        return dict(sorted(used.items(), key=lambda item: item[1], reverse=True))

    def create(self, name: str) -> None:
        """Create an empty database."""
        with self._new_file(name):
            pass

    def _copy(self, key: str, name: str) -> None:
        try:
            template = self._path(template_name(key)).open("rb")
        except FileNotFoundError:
            raise no_template(key) from None
        with template, self._new_file(name) as path, path.open("wb") as file:
            _copy_file(template.fileno(), file.fileno())

    def publish(self, name: str, key: str) -> None:
        """Turn a build into a template by renaming its file."""
        path = self._path(name)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")  # so that the template is a single file
        self._publish(path, key)

    def _touch(self, key: str) -> None:
        with suppress(FileNotFoundError):  # another process removed it; copy() reports that
            os.utime(self._path(template_name(key)))

    def _forget(self, key: str) -> None:
        self._path(template_name(key)).unlink(missing_ok=True)

    def drop(self, *names: str) -> None:
        """Remove the files of databases."""
        self._check_droppable(names)
        for name in names:
            _remove(self._path(name))

    def sweep(self) -> None:
        """Remove the files of runs that have ended, and old locks."""
        with self._locked_folder() as folder:
            runs: dict[str, list[Path]] = {}
            for path in folder.glob(f"ampho_*{_SUFFIX}"):
                if run := run_of(path.stem):
                    runs.setdefault(run, []).append(path)
            for run, paths in runs.items():
                if _is_free(folder / f"run_{run}{_LOCK}"):
                    for path in paths:
                        _remove(path)
            for lock in folder.glob(f"*_*{_LOCK}"):
                is_old = lock.name.startswith("run_") or time.time() - lock.stat().st_mtime > _KEPT_SECONDS
                if is_old and _is_free(lock):
                    lock.unlink(missing_ok=True)

    def server(self) -> str:
        """Return the version of SQLite."""
        return f"SQLite {sqlite3.sqlite_version}"

    def close(self) -> None:
        """Release the lock of the run."""
        if self._own_lock is not None:
            self._own_lock.close()
            self._own_lock = None
            (self._folder / f"run_{self._run}{_LOCK}").unlink(missing_ok=True)

    def url(self, name: str) -> URL:
        """Return the URL of a file."""
        return URL.create(self._app_engine.url.drivername, database=str(self._path(name)))

    def _start(self, connection: DBAPIConnection) -> None:
        """Turn off waiting for the disk, which takes most of the time of a short test."""
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous = OFF")
        cursor.close()

    def _publish(self, path: Path, key: str) -> None:
        template = self._path(template_name(key))
        if template.exists():
            return _remove(path)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.replace(template)
        return None

    def _served_as(self, name: str) -> str:
        return os.path.realpath(self._path(name))

    def _try_to_build(self, key: str) -> Callable[[], object] | None:
        with self._locked_folder() as folder:
            lock = _try_lock(folder / f"{template_name(key)}{_LOCK}")
        return None if lock is None else lock.close

    def _path(self, name: str) -> Path:
        path = Path(name)
        return path if path.is_absolute() else self._folder / f"{path.name}{_SUFFIX}"

    @contextmanager
    def _new_file(self, name: str) -> Iterator[Path]:
        """Yield the path of a new file, which gets its name at the end if the user chose that name."""
        path = part = self._path(name)
        if run_of(name):
            self._lock_run()
        else:
            part = path.with_name(f"{path.name}-{self._run}")
        try:
            part.touch(exist_ok=False)
            yield part
            if part != path:
                os.link(part, path)  # unlike a rename, this does not replace a file
                self._named.add(name)
        except FileExistsError:
            raise exists(str(path)) from None
        except OSError as exc:
            raise DatabaseError(f"The database {path} cannot be created: {describe(exc)}.") from None
        finally:
            if part != path:
                part.unlink(missing_ok=True)

    def _lock_run(self) -> None:
        if self._own_lock is None:
            with self._locked_folder() as folder:
                self._own_lock = _try_lock(folder / f"run_{self._run}{_LOCK}")

    @contextmanager
    def _locked_folder(self) -> Iterator[Path]:
        """Keep other processes from creating and removing locks in the folder."""
        folder = self._folder
        while (lock := _try_lock(folder / f"folder{_LOCK}")) is None:
            pause(self._app_engine, _POLL_SECONDS)
        try:
            yield folder
        finally:
            lock.close()


class MemoryStore(SQLiteStore):
    """Templates in a folder, and clones in memory, each on the only connection of its engine."""

    def __init__(self, engine: Engine, connect: Callable[[Engine], Connection], folder: Path | None = None) -> None:
        super().__init__(engine, connect, folder)
        self._engines: dict[str, Engine] = {}

    def create(self, name: str) -> None:
        """Create an empty database in memory."""
        self._add(name, b"")

    def _copy(self, key: str, name: str) -> None:
        try:
            content = self._path(template_name(key)).read_bytes()
        except FileNotFoundError:
            raise no_template(key) from None
        self._add(name, content)

    def publish(self, name: str, key: str) -> None:
        """Turn a build into a template by writing it to a file."""
        with self.connection(name) as connection:
            connection.exec_driver_sql("PRAGMA user_version = 0")  # SQLite cannot serialize a database without a page
            content = in_its_thread(connection.connection.driver_connection, sqlite3.Connection.serialize)
        self.drop(name)
        with self._new_file(name) as path:
            path.write_bytes(content)
            self._publish(path, key)

    def drop(self, *names: str) -> None:
        """Close the connections of databases, which then no longer exist."""
        self._check_droppable(names)
        for name in names:
            if name in self._engines:
                self._engines.pop(name).dispose()

    def close(self) -> None:
        """Drop all databases in memory, and release the lock of the run."""
        self.drop(*self._engines)
        super().close()

    def url(self, name: str) -> URL:
        """Return the URL of a database in memory, which :meth:`engine` can connect to."""
        return URL.create(self._app_engine.url.drivername, query={"check_same_thread": "false"})

    def engine(self, name: str) -> Engine:
        """Return the engine whose only connection is the database."""
        return self._engines[name]

    @contextmanager
    def connection(self, name: str) -> Iterator[Connection]:
        """Yield the only connection to a database."""
        with self._connect(self.engine(name)) as connection:
            yield connection

    def _add(self, name: str, content: bytes) -> None:
        if name in self._engines:
            raise exists(name)

        def read(connection: Any) -> None:  # noqa: ANN401 (a connection of either driver)
            check_served("", served_database(connection, "sqlite"))
            if content:
                driver = getattr(connection, "driver_connection", connection)  # with aiosqlite, SQLAlchemy adapts it
                in_its_thread(driver, sqlite3.Connection.deserialize, content)

        self._engines[name] = with_database(self._app_engine, self.url(name), read, StaticPool)
        if run_of(name) is None:
            self._named.add(name)


def _user() -> str:
    import getpass

    return str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()


def _check_private(folder: Path) -> None:
    """Check that no other user can read or replace the files of a folder.

    :raises DatabaseError: if another user can.
    """
    found = folder.lstat()
    is_own = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o077)
    if not (stat.S_ISDIR(found.st_mode) and is_own):
        raise DatabaseError(
            f"The folder {folder} does not belong to the current user alone, so Ampho does not put databases there."
            " Remove the folder, or set TMPDIR to another one."
        )


def _try_lock(path: Path) -> sqlite3.Connection | None:
    """Lock a file, and return a connection that holds the lock until it is closed; None if the file is locked."""
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = OFF")  # or the journal of a killed process would be left
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as exc:
        connection.close()
        if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise
        return None
    return connection


def _is_free(path: Path) -> bool:
    lock = _try_lock(path)
    if lock is not None:
        lock.close()
    return lock is not None


def _remove(path: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _copy_file(source: int, target: int) -> None:
    """Copy a file. The kernel shares its blocks where the file system can."""
    try:
        while os.copy_file_range(source, target, _CHUNK):
            pass
    except (AttributeError, OSError) as exc:  # no such function on this system, or not on this file system
        if isinstance(exc, OSError) and exc.errno == errno.ENOSPC:
            raise
        os.lseek(source, 0, os.SEEK_SET)
        os.lseek(target, 0, os.SEEK_SET)
        with open(source, "rb", closefd=False) as template, open(target, "wb", closefd=False) as file:
            shutil.copyfileobj(template, file)

"""The journal's table, in the schema of the version table, and the table with the sources of applied revisions.

The first run creates them, and each step writes to them in the step's transaction. No other module uses the tables.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Column, DateTime, Float, Integer, MetaData, String, Table, Text, event, select, text

from ampho._text import describe
from ampho.database.backfills import BackfillTable
from ampho.database.journal import Backfill, Entry, Journal, Outcome, source_table
from ampho.database.version_tables import Places
from ampho.errors import JournalError
from ampho.history.files import read_bytes
from ampho.history.revision import Revision, digest_of
from ampho.history.sql import READS, ROLLS_BACK

if TYPE_CHECKING:
    from sqlalchemy import Insert
    from sqlalchemy.engine import Connection, Row
    from sqlalchemy.types import TypeEngine

_AT_ONCE = 1000
_USER = {"postgresql": "SELECT current_user", "mysql": "SELECT CURRENT_USER()", "mariadb": "SELECT CURRENT_USER()"}
_UNREADABLE = (ValueError, TypeError, AttributeError, OverflowError)
_TEXT_OR_NONE = {str, type(None)}
_NUMBER_OR_NONE = {int, float, type(None)}
_NAME, _LONG = String(255), Text()


class JournalTable:
    """The journal's table in one database.

    :param connection: the migrating connection. Everything is written in its transaction, which the caller commits.
    :param schema: the schema of the version table.
    :param keeps_sources: whether to keep the sources of the revisions that are applied, and to read them.
    :ivar left: whether changes of the running revision would remain if the revision failed.
    :ivar aside: a function that returns a context manager for statements that do not belong to the revision.
    """

    def __init__(
        self, connection: Connection, name: str, schema: str | None = None, *, keeps_sources: bool = False
    ) -> None:
        self._connection = connection
        self._table = _table(name, schema, connection.dialect.name)
        self.keeps_sources: bool = keeps_sources
        self._number: int | None = None
        self._is_writing = False
        self.left: bool = False
        self.aside: Callable[[], AbstractContextManager[None]] = nullcontext
        self._begun = 0
        self._completed = 0

    @cached_property
    def _exists(self) -> bool:
        return self._has(self._table)

    @cached_property
    def _has_sources(self) -> bool:
        return self._has(self._sources)

    def _has(self, table: Table) -> bool:
        return self._connection.dialect.has_table(self._connection, table.name, schema=table.schema)

    @cached_property
    def _sources(self) -> Table:
        """The table with the sources, as JSON, so that a database in any encoding can store them."""
        from sqlalchemy.dialects.mysql import MEDIUMTEXT  # imported late, because few databases have this table

        long = Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb")
        columns = Column("revision", _NAME, primary_key=True), Column("source", long, nullable=False)
        return Table(source_table(self._table.name), MetaData(), *columns, schema=self._table.schema)

    @cached_property
    def backfills(self) -> BackfillTable:
        """The table with the places of backfills."""
        return BackfillTable(self._connection, self._table.name, self._table.schema)

    @cached_property
    def _insertion(self) -> Insert:
        return self._table.insert()

    def read(self, places: Places | None = None) -> Journal:
        """Return the journal, whose entries are read when they are first needed.

        :param places: where the version rows of the database are.
        """
        return Journal(self._entries, self._brief, places, self._read_sources, self._read_backfills)

    def _entries(self) -> Iterator[Entry]:
        if self._exists:
            try:
                yield from map(_entry, self._connection.execute(self._table.select().order_by(self._table.c.id)))
            except _UNREADABLE as exc:
                raise self._damaged(exc) from exc

    def _brief(self) -> Iterator[tuple[str, str, str]]:
        if self._exists:
            column = self._table.c
            query = select(column.revision, column.direction, column.outcome).order_by(column.id)
            for rows in self._connection.execute(query).partitions(_AT_ONCE):
                if not _are_texts(chain.from_iterable(rows)):
                    raise self._damaged(ValueError("the revision, direction, or outcome of a row is not text"))
                yield from map(tuple, rows)

    def _read_sources(self, ids: Iterable[str]) -> Mapping[str, str]:
        wanted = sorted(ids)
        if not wanted or not self.keeps_sources or self._connection.closed or not self._has_sources:
            return {}
        column = self._sources.c
        rows = self._connection.execute(select(column.revision, column.source).where(column.revision.in_(wanted)))
        return {revision: source for revision, text in rows if isinstance(source := _decoded(text), str)}

    def _read_backfills(self) -> Iterable[Backfill]:
        return () if self._connection.closed else self.backfills.read()

    def _damaged(self, why: Exception) -> JournalError:
        """Return the error for an unreadable journal, with the number of the unreadable row if it is found."""
        column, table = self._table.c.id, self._table.fullname
        for number in self._connection.scalars(select(column).order_by(column)).all():
            try:
                _entry(self._connection.execute(self._table.select().where(column == number)).one())
            except _UNREADABLE as exc:
                text = f"Row {number} of the journal {table} cannot be read: {describe(exc).rstrip('.')}."
                return JournalError(f"{text} Correct the row, or delete it.", table=table, number=number)
        return JournalError(f"The journal {table} cannot be read: {describe(why)}", table=table, number=None)

    def ensure(self) -> None:
        """Create the tables that do not exist."""
        if not self._exists:
            with self.writing():
                self._table.create(self._connection)
            self.__dict__["_exists"] = True
        if self.keeps_sources and not self._has_sources:
            with self.writing():
                self._sources.create(self._connection)
            self.__dict__["_has_sources"] = True

    def start(self, entry: Mapping[str, object], *, counting: bool, outcome: Outcome = Outcome.STARTED) -> None:
        """Record the start of a revision that the database cannot roll back.

        :param entry: the values of ``revision``, ``package``, ``direction``, ``parents``, and ``checksum``.
        :param counting: whether to count the statements. A database that commits DDL on its own also commits the count,
            which then shows whether part of the revision may remain.
        :param outcome: ``STARTED``, or ``BACKFILL`` if the revision continues.
        """
        self.left = not counting
        self._completed = 0
        if not self._mark(outcome):
            statements = 0 if counting else None
            self._number = self._insert(**entry, outcome=outcome, started=datetime.now(UTC), statements=statements)
        if counting:
            self._begun = 0
            event.listen(self._connection, "before_cursor_execute", self._begin)
            event.listen(self._connection, "after_cursor_execute", self._complete)

    def start_backfill(self, entry: Mapping[str, object]) -> None:
        """Record that what the revision does from now on is a backfill, of which only whole batches remain.

        :param entry: as for :meth:`start`.
        """
        if not self._mark(Outcome.BACKFILL):  # there is no entry yet, or it was rolled back
            self._number = self._insert(**entry, outcome=Outcome.BACKFILL, started=datetime.now(UTC))

    def drop_start(self) -> None:
        """Forget the entry of the running revision, because a rollback has removed it."""
        self._number = None

    def _mark(self, outcome: Outcome) -> bool:
        """Record another outcome for the running revision; return whether it has an entry."""
        return self._number is not None and self._update(self._number, outcome=str(outcome))

    @property
    def has_counted(self) -> bool:
        """Whether the running revision, whose statements are counted, has started one that may change something."""
        return self._begun > 0

    def hold_change(self) -> None:
        """Note that the running revision has changed rows, which a statement that changes the schema would commit."""
        self._completed += 1

    def _begin(self, connection: Connection, cursor: object, statement: str, *args: object) -> None:
        if self._is_writing or READS.match(statement):
            return
        self._begun += 1
        self._update(self._number, statements=self._begun)
        if self._completed and not ROLLS_BACK.match(statement):
            self.left = True  # this statement also commits the statements before it

    def _complete(self, connection: Connection, cursor: object, statement: str, *args: object) -> None:
        if self._is_writing or READS.match(statement):
            return
        self._completed += 1
        if not ROLLS_BACK.match(statement):
            self.left = True

    def lose(self) -> None:
        """Note that the connection was lost, so it is not known whether the last statement took effect."""
        self.left = self.left or self._begun > 0

    def refresh(self) -> None:
        """Forget whether the tables exist, because a rollback may have removed them."""
        self.__dict__.pop("_exists", None)
        self.__dict__.pop("_has_sources", None)

    def finish(self, entry: Mapping[str, object], outcome: Outcome, duration: float, error: str | None = None) -> None:
        """Record the outcome of a revision.

        :param entry: as for :meth:`start`.
        :param duration: how long the revision took, in seconds, without the commit.
        """
        now = datetime.now(UTC)
        values: dict[str, Any] = {"outcome": str(outcome), "finished": now, "duration": duration, "error": error}
        if outcome is Outcome.BACKFILL:
            values["statements"] = None  # what was counted is a statement that failed and left nothing
        if self._number is not None:
            for name, listener in (("before_cursor_execute", self._begin), ("after_cursor_execute", self._complete)):
                if event.contains(self._connection, name, listener):
                    event.remove(self._connection, name, listener)
        if self._number is None or not self._update(self._number, **values):  # a rollback may have removed the entry
            self._insert(**entry, started=now - timedelta(seconds=duration), **values)
        self._number, self.left = None, False

    def keep_source(self, revision: Revision, *, is_applied: bool) -> None:
        """Keep the source of a revision that was applied, or remove that of one that was reverted.

        A source that is not UTF-8, or that has changed since it was read, is not kept.
        """
        self.ensure()
        with self.writing():
            self._connection.execute(self._sources.delete().where(self._sources.c.revision == revision.id))
            source = _source_of(revision) if is_applied else None
            if source is not None:
                values = {"revision": revision.id, "source": json.dumps(source)}
                self._connection.execute(self._sources.insert(), values)

    def note(self, revision: Revision, direction: str, parents: Iterable[str], outcome: Outcome) -> None:
        """Record that a revision was stamped or forgotten."""
        self._insert(
            revision=revision.id,
            package=revision.package,
            direction=direction,
            parents=tuple(parents),
            checksum=revision.checksum or None,
            outcome=outcome,
            finished=datetime.now(UTC),
        )

    def resolve(self, entry: Entry, *, continues: bool = False) -> None:
        """Record that an unfinished revision is resolved.

        :param continues: whether the revision runs again, and continues its backfills.
        """
        if not continues:
            self.backfills.forget(entry.revision)
        self._update(entry.number, outcome=str(Outcome.RESOLVED), finished=datetime.now(UTC))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Do not treat the statements in the body as those of the running revision."""
        before, self._is_writing = self._is_writing, True
        try:
            with self.aside():
                yield
        finally:
            self._is_writing = before

    def _insert(self, **values: object) -> int:
        self.ensure()
        values["parents"] = json.dumps(values["parents"])
        values["outcome"] = str(values["outcome"])
        values |= {"db_user": self._db_user, "host": socket.gethostname()[:255], "versions": _versions()}
        with self.writing():
            result = self._connection.execute(self._insertion, values)
        return int((result.inserted_primary_key or (0,))[0])

    def _update(self, number: int | None, **values: object) -> bool:
        """Update an entry; return whether it exists."""
        with self.writing():
            updated = self._connection.execute(self._table.update().where(self._table.c.id == number), values)
        return updated.rowcount != 0

    @cached_property
    def _db_user(self) -> str | None:
        query = _USER.get(self._connection.dialect.name)
        if query is None:
            return None
        with self.writing():
            return str(self._connection.scalar(text(query)))


def _table(name: str, schema: str | None, dialect: str) -> Table:
    moment: TypeEngine[datetime] = DateTime(timezone=True)
    if dialect in ("mysql", "mariadb"):
        from sqlalchemy.dialects.mysql import DATETIME  # imported late, because only these databases need it

        moment = DATETIME(fsp=6)  # with microseconds
    return Table(
        name,
        MetaData(),
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("revision", _NAME, nullable=False, index=False),
        Column("package", _NAME, nullable=False),
        Column("direction", String(20), nullable=False),
        Column("outcome", String(20), nullable=False),
        Column("parents", _LONG, nullable=False),
        Column("started", moment),
        Column("finished", moment),
        Column("duration", Float(53)),
        Column("statements", Integer),
        Column("checksum", String(64)),
        Column("db_user", _NAME),
        Column("host", _NAME),
        Column("versions", _NAME),
        Column("error", _LONG),
        schema=schema,
    )


def _source_of(revision: Revision) -> str | None:
    with suppress(OSError, UnicodeDecodeError):
        source = read_bytes(revision.file)
        return source.decode() if digest_of(source) == revision.digest else None
    return None


def _decoded(text: object) -> object:
    with suppress(*_UNREADABLE):
        return json.loads(text)  # type: ignore[arg-type]  # any object, which raises an error
    return None


@cache
def _versions() -> str:
    return ", ".join(f"{name} {_version(name.lower())}" for name in ("Ampho", "Alembic", "SQLAlchemy"))


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # for example in an app that is packed into one file
        return "?"


def _entry(row: Row[Any]) -> Entry:
    """Return the entry in a row.

    :raises ValueError: or another error in ``_UNREADABLE``, if Ampho did not write the row.
    """
    parents = json.loads(row.parents)
    if type(parents) is not list or not _are_texts([row.revision, row.package, row.direction, row.outcome, *parents]):
        raise ValueError("its revision, package, direction, outcome, or parents are not in the form that Ampho writes")
    texts = (row.checksum, row.db_user, row.host, row.versions, row.error)
    if not {*map(type, texts)} <= _TEXT_OR_NONE:
        raise ValueError("the value of checksum, db_user, host, versions, or error is not text")
    if not {type(row.duration), type(row.statements)} <= _NUMBER_OR_NONE:
        raise ValueError("the value of duration or statements is not a number")
    # Treat an unknown outcome, from a newer release, as resolved.
    outcome = Outcome(row.outcome) if row.outcome in set(Outcome) else Outcome.RESOLVED
    values: list[Any] = [*row]  # in the order of the fields
    values[4:8] = outcome, tuple(parents), _in_utc(row.started), _in_utc(row.finished)
    return Entry(*values)


def _are_texts(values: Iterable[object]) -> bool:
    return {*map(type, values)} <= {str}


def _in_utc(moment: datetime | None) -> datetime | None:
    """Return a time in UTC. SQLite and MariaDB store no time zone, and other databases may use a different one."""
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

"""Filling or correcting the rows of a large table, in batches that resume where an interrupted run stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alembic import op
from sqlalchemy import ClauseElement, literal, text, update
from sqlalchemy import column as column_of
from sqlalchemy import table as table_of
from sqlalchemy.exc import DBAPIError

from ampho.errors import OperationError
from ampho.migrate.batches import Batches, connection_of
from ampho.migrate.observers import BackfillProgress
from ampho.operations.keyset import Change, Keyset, condition, decoded, encoded, key_of, reflect, values
from ampho.operations.load import busy, estimated_rows

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import ColumnElement, Row

_TARGET = {"sqlite": 0.1}
_DEFAULT_TARGET = 0.25  # seconds; how long a batch may hold its locks
_SMALL = 10_000  # rows; a table with no more is changed in one statement
_SMALL_FOR_FUNCTION = 1000
_LEAST, _MOST = 10, 500_000  # rows of a batch
_MOST_FOR_FUNCTION = 20_000
_PASSES = 10
_POLL = 0.5  # seconds between two looks at what the backfill waits for
_INTERVAL = 1.0  # seconds between two reports


def backfill(
    table: str,
    set: Mapping[str, object]  # noqa: A002 (as in SQL)
    | Callable[[list[Row[Any]]], Iterable[Mapping[str, object] | None]],
    where: str | ColumnElement[bool] | None = None,
    *,
    key: str | Sequence[str] | None = None,
    size: int | None = None,
    pause: float = 0,
    max_lag: float | None = 10,
    schema: str | None = None,
) -> None:
    """Change the rows of a table in batches, each in a transaction of its own.

    Call this in ``upgrade()`` or ``downgrade()``, before anything else that changes the database. Each batch also
    records in the journal how far the backfill has come, so if the run is killed, the next one continues from there. A
    table of at most ``size`` rows, or by default 10,000 (1,000 if ``set`` is a function), is changed in the revision's
    own transaction. If there is no journal, an interrupted backfill starts over, so that only one with ``where`` runs
    in batches. If SQL is written instead of executed, the backfill is one ``UPDATE``.

    :param table: the name of the table.
    :param set: the new values by column, which may be SQL expressions such as ``sa.text("n + 1")``; or a function that
        is called with a list of rows, and returns for each of them a dictionary of new values, or None.
    :param where: SQL, as text or as an expression, that selects the rows that still need the change. ``set`` must make
        it false. At the end, the backfill goes through the table again until ``where`` selects no row.
    :param key: the columns by which the table is divided, which have to be unique and NOT NULL; by default, those of
        the primary key.
    :param size: the number of rows of a batch; by default, it adapts so that a batch takes a quarter of a second, or a
        tenth on SQLite.
    :param pause: how long to wait after each batch, in seconds. On SQLite, it is at least as long as the batch, up to a
        tenth of a second, so that other processes can write.
    :param max_lag: how many seconds a replica may lag before the backfill waits for it; None for any. Only PostgreSQL
        reports that, and only to superusers and members of ``pg_monitor``. On PostgreSQL, the backfill also waits while
        other sessions wait for a lock of the table.
    :param schema: the schema of the table; by default, that of the connection.
    :raises OperationError: if the table, the key, or a column does not exist or cannot be used; if the revision has
        changed something before; if its file has changed so that an interrupted backfill cannot continue; if the
        function does not return a value for each row; or if ``where`` still selects rows after several passes.
    """
    context = op.get_context()
    _check(set, size, pause)
    if context.as_sql:
        _write(context, table, set, where, schema)
        return
    connection = connection_of(context)
    found = reflect(connection, table, schema)
    keyset = Keyset(connection, found, key_of(connection, found, key), set, where)
    batches = Batches(context, found.fullname, keyset.name)
    _Backfill(batches, keyset, size, pause, max_lag, is_function=callable(set)).run()


def _check(change: Change, size: int | None, pause: float) -> None:
    if not (change and isinstance(change, Mapping | Callable)):
        raise OperationError("set= has to be a dictionary with the new values by column, or a function of rows")
    if size is not None and not isinstance(size, int):
        raise OperationError(f"size= is {size!a}; it has to be a number of rows")
    if size is not None and size < 1:
        raise OperationError(f"size= is {size}; it has to be at least 1")
    if pause < 0:
        raise OperationError(f"pause= is {pause}; it has to be 0 or more seconds")


def _write(context: MigrationContext, name: str, change: Change, where: object, schema: str | None) -> None:
    """Write the backfill as one statement."""
    if callable(change):
        raise OperationError(f"the backfill of {name} calls a function, which reads data")
    table = table_of(name, *map(column_of, change), schema=schema)
    dialect = context.dialect.name
    typed = {
        name: value if isinstance(value, ClauseElement) else _literal(value, dialect) for name, value in change.items()
    }
    statement = update(table).values(values(typed, table))
    if (named := condition(where, table)) is not None:
        statement = statement.where(named)
    context.impl.execute(statement)


def _literal(value: Any, dialect: str) -> ClauseElement:  # noqa: ANN401 (any value)
    if isinstance(value, bytes):  # SQLAlchemy would write them as text
        return text(f"'\\x{value.hex()}'" if dialect == "postgresql" else f"X'{value.hex()}'")
    return literal(value)


class _Backfill:
    """A backfill while it runs."""

    def __init__(
        self,
        batches: Batches,
        keyset: Keyset,
        size: int | None,
        pause: float,
        max_lag: float | None,
        *,
        is_function: bool,
    ) -> None:
        self._batches, self._keyset, self._pause, self._max_lag = batches, keyset, pause, max_lag
        self._dialect = batches.connection.dialect.name
        self._is_fixed = size is not None
        self._size = size or (_SMALL_FOR_FUNCTION if is_function else _SMALL)
        self._most = _MOST_FOR_FUNCTION if is_function else _MOST
        self._passes = 0
        self._has_fixed = False  # whether a batch of this run has made ``where`` false
        self._begun = self._reported = time.monotonic()
        self._seen_before = batches.place.seen
        self._total: int | None = None

    def run(self) -> None:
        """Run the backfill until no row is left."""
        batches, keyset = self._batches, self._keyset
        if batches.is_done():
            return
        with batches.aside():
            is_small = batches.place.place is None and keyset.count(self._size + 1) <= self._size
            may_commit = batches.is_recorded or keyset.where is not None
            if not may_commit or (is_small and not batches.place.passes):
                with batches.whole():
                    self._check_fixed(*keyset.apply(None, None), None, None)
                return
            self._total = estimated_rows(batches.connection, keyset.table)
        while not batches.is_done():
            begun = time.monotonic()
            try:
                with batches.batch():
                    self._run_batch()
            except DBAPIError as exc:
                self._size = self._size if self._is_fixed else max(_LEAST, self._size // 2)
                if not batches.wait_after(exc):
                    raise
                continue
            self._between(time.monotonic() - begun)
        batches.follow()
        self._report()

    def _run_batch(self) -> None:
        batches, keyset, place = self._batches, self._keyset, self._batches.place
        after = decoded(place.place)
        found = keyset.end(after, self._size, only_left=place.passes > 0)
        if found is None:
            self._end_pass()
            return
        end, number = found
        rows, selected = keyset.apply(after, end)
        self._check_fixed(rows, selected, after, end)
        seen = rows if number is None or place.passes else number
        batches.save(place=encoded(end), rows=place.rows + rows, seen=place.seen + seen)

    def _check_fixed(self, rows: int, selected: int, after: Any, end: Any) -> None:  # noqa: ANN401 (keys)
        """Check that the first batch that changes rows makes ``where`` false; otherwise no pass would be the last.

        :param rows: the number of rows that the batch has changed.
        :param selected: the number of rows that ``where`` selected before; a function may leave some as they are.
        """
        if rows and not self._has_fixed:
            if self._keyset.left(after, end) >= selected:
                raise OperationError(
                    f"where= still selects the {rows:,} rows that set= has just changed. Write a condition that is"
                    " false for a row that was changed"
                )
            self._has_fixed = True

    def _end_pass(self) -> None:
        """Go through the table again if rows are left, which another process has written meanwhile."""
        left = self._keyset.left()
        if not left:
            self._batches.save(is_done=True)
            return
        self._passes += 1
        if self._passes == _PASSES:
            raise OperationError(
                f"after {_PASSES} passes, where= still selects {left:,} rows of the table {self._keyset.table.name}."
                " If set= does not change them, exclude them in where=. If the app keeps writing such rows, stop its"
                " old release, or let the database fill the column. Then run the command again"
            )
        self._batches.save(place=None, passes=self._batches.place.passes + 1)

    def _between(self, seconds: float) -> None:
        """Adapt the size of the batches, report, and wait as long as necessary."""
        batches = self._batches
        if not self._is_fixed:
            target = _TARGET.get(self._dialect, _DEFAULT_TARGET)
            factor = min(2.0, max(0.5, target / max(seconds, 0.001)))
            self._size = int(min(self._most, max(_LEAST, self._size * factor)))
        if time.monotonic() - self._reported > _INTERVAL:
            self._report()
        if batches.is_done():
            return
        batches.sleep(max(self._pause, min(seconds, _TARGET["sqlite"])) if self._dialect == "sqlite" else self._pause)
        said = ""
        while what := self._busy():
            if what != said:
                batches.report_waiting(said := what)
            batches.sleep(_POLL)

    def _busy(self) -> str:
        with self._batches.aside():
            what = busy(self._batches.connection, self._keyset.table, self._max_lag)
            if self._dialect == "postgresql":
                self._batches.connection.rollback()
        return what

    def _report(self) -> None:
        place, now = self._batches.place, time.monotonic()
        self._reported = now
        rate = (place.seen - self._seen_before) / max(now - self._begun, 0.001)
        left = (self._total - place.seen) / rate if self._total and rate and not place.is_done else None
        progress = BackfillProgress(
            self._keyset.table.name, place.rows, place.seen, self._total, rate, left and max(left, 0.0)
        )
        self._batches.report(progress)

"""DDL that could not get its lock, executed again on databases that cannot run its step again.

MariaDB and MySQL commit each DDL statement, so a step that has executed one cannot start from its beginning. But a
statement that timed out while it waited for a lock has changed nothing, and holds no lock during the pause.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from ampho.database.transaction import TRANSACTIONAL

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, ExecutionContext

_DDL = re.compile(r"(?:\s+|--[^\n]*|/\*.*?\*/)*(?:ALTER|CREATE|DROP|RENAME|TRUNCATE)\b", re.IGNORECASE | re.DOTALL)


@contextmanager
def repeating_ddl(
    connection: Connection, may_repeat: Callable[[BaseException], bool], executed: Callable[[], None]
) -> Iterator[None]:
    """Let the DDL statements of a connection be executed again, if the database commits each of them.

    :param may_repeat: called with the driver's error; pauses, and returns whether to execute the statement again.
    :param executed: called after each DDL statement.
    """
    if connection.dialect.name in TRANSACTIONAL:
        yield
        return

    def execute(cursor: Any, statement: str, parameters: Any, context: ExecutionContext) -> bool:  # noqa: ANN401
        if context.root_connection is not connection or not _DDL.match(statement):
            return False
        while True:
            try:
                connection.dialect.do_execute(cursor, statement, parameters, context)
            except Exception as exc:
                if not may_repeat(exc):
                    raise
            else:
                executed()
                return True

    event.listen(connection.engine, "do_execute", execute)
    try:
        yield
    finally:
        event.remove(connection.engine, "do_execute", execute)

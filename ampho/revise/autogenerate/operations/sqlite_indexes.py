"""Keeping the indexes of SQLite that SQLAlchemy does not reflect completely."""

from __future__ import annotations

from alembic.operations import ops
from sqlalchemy import text

from ampho.database.sqlite_table import tokens
from ampho.revise.autogenerate.operations.changes import Changes

_UNSEEN = {"DESC", "COLLATE"}


def keep_indexes(changes: Changes) -> None:
    """Remove the operations that drop indexes with DESC or COLLATE, because a downgrade could not restore these.

    Alembic itself leaves out indexes on expressions for the same reason.
    """
    if changes.autogen.dialect.name != "sqlite":
        return
    for operation in changes.only(ops.ModifyTableOps):
        made = {each.index_name for each in operation.ops if isinstance(each, ops.CreateIndexOp)}
        drops = [each for each in operation.ops if isinstance(each, ops.DropIndexOp) and each.index_name not in made]
        kept = [each for each in drops if _is_unseen(changes, each)]
        operation.ops = [each for each in operation.ops if each not in kept]
    changes.remove_empty()


def _is_unseen(changes: Changes, drop: ops.DropIndexOp) -> bool:
    connection = changes.autogen.connection
    if connection is None:
        return False
    query = text("SELECT sql FROM sqlite_master WHERE type = 'index' AND name = :name")
    sql = connection.scalar(query, {"name": str(drop.index_name)})
    return bool(_UNSEEN & {token.keyword for token in tokens(sql or "")})

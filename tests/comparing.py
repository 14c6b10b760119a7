"""Comparing tables of one package with a database, and running what autogenerate writes, without an app."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from servers import Database
from sqlalchemy.engine import Connection

from ampho.migrate.sqlite_batch import TableKeeper
from ampho.revise.autogenerate.compare.comparators import NAME
from ampho.revise.autogenerate.comparison import Comparison
from ampho.revise.autogenerate.owners.ownership import Ownership

ONE_EACH = ("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
OPTIONS = {
    "alembic_module_prefix": "op.",
    "autogenerate_plugins": ["alembic.autogenerate.*", NAME],
    "compare_server_default": True,
    "compare_type": True,
    "downgrade_token": "downgrades",
    "render_as_batch": True,
    "sqlalchemy_module_prefix": "sa.",
    "upgrade_token": "upgrades",
    "user_module_prefix": None,
}


@contextmanager
def connected(database: Database) -> Iterator[Connection]:
    """A connection that needs no app, and whose engine is disposed of afterwards."""
    engine = sa.create_engine(database.sync_url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def compare(
    connection: Connection,
    metadata: sa.MetaData,
    *,
    rename: Iterable[str] = (),
    fill: Iterable[str] = (),
    known: Iterable[str] = (),
) -> Comparison:
    """Compare tables of one package with a database, as ``db-rev -a`` does.

    :param known: the keys of tables in other schemas that the package had before.
    """
    names = [*sa.inspect(connection).get_table_names(), *metadata.tables, *known]
    owners = Ownership(dict.fromkeys(names, "shop"), {}, {}, {})
    context = MigrationContext.configure(connection, opts={**OPTIONS, "target_metadata": metadata})
    return Comparison(context, owners, ["shop"], rename=rename, fill=fill)


def run(connection: Connection, code: str, imports: str) -> None:
    """Run the body of a function of a revision, in which batches of SQLite lose nothing, as in a run of Ampho."""
    connection.rollback()  # ends the transaction of a comparison
    context = MigrationContext.configure(connection)
    names: dict[str, Any] = {"op": Operations(context), "sa": sa}
    exec(imports, names)
    exec(f"def change():\n    {code}\n", names)
    keeper = TableKeeper(connection)
    if connection.dialect.name == "sqlite":
        keeper.follow(context)
    with keeper.quiet():
        names["change"]()
    if connection.dialect.name == "sqlite":
        keeper.check()
    connection.commit()

"""Writing what makes the schema of a throwaway database, which the old revisions made, without the models.

The comparison runs backwards: it finds what would have to be dropped from the database after the old revisions to get
the schema before them, because autogenerate writes whatever it drops as completely as it can, for the downgrade. The
two functions are then exchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from alembic.operations import ops
from sqlalchemy import MetaData, event, inspect

from ampho.errors import RevisionInputError
from ampho.migrate.alembic import Body
from ampho.revise.autogenerate.compare.comparators import without_warnings
from ampho.revise.autogenerate.comparison import Comparison
from ampho.revise.autogenerate.owners.keys import join_key
from ampho.revise.autogenerate.write.directives import apply_hook
from ampho.revise.autogenerate.write.render import body
from ampho.revise.squash.tidy import Tidying
from ampho.revise.writer import Wish

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.engine import Connection

    from ampho.database.catalog import Catalog
    from ampho.history.revision import Revision
    from ampho.revise.autogenerate.operations.changes import Changes
    from ampho.revise.autogenerate.owners.ownership import Ownership


def reflect(context: MigrationContext, hidden: Iterable[str]) -> MetaData:
    """Return the tables of a database, as autogenerate sees them.

    :param hidden: the names of tables that are left out.
    """
    connection = context.connection
    assert connection is not None  # noqa: S101  # an online context has a connection
    inspector, metadata, left_out = inspect(connection), MetaData(), {*hidden}

    def correct(_: object, table: Any, column: Any) -> None:  # noqa: ANN401 (the signature of the event)
        context.impl.autogen_column_reflect(inspector, table, column)  # type: ignore[no-untyped-call]

    event.listen(metadata, "column_reflect", correct)
    with without_warnings():
        for schema in _schemas(connection):
            names = [name for name in inspector.get_table_names(schema) if name not in left_out]
            metadata.reflect(connection, schema=schema, only=names, resolve_fks=False)
    return metadata


def _schemas(connection: Connection) -> list[str | None]:
    if connection.dialect.name != "postgresql":
        return [None]
    names = inspect(connection).get_schema_names()
    default = connection.dialect.default_schema_name
    return [None, *(name for name in names if name not in (default, "information_schema"))]


def table_keys(connection: Connection, before: MetaData, hidden: Iterable[str]) -> list[str]:
    """Return the keys of the tables that were in a database before a line of revisions, and of those that are now.

    :param hidden: the names of tables that are left out.
    """
    left_out, found = {*hidden}, dict.fromkeys(before.tables)
    for schema in _schemas(connection):
        names = [name for name in inspect(connection).get_table_names(schema) if name not in left_out]
        found |= dict.fromkeys(join_key(schema, name) for name in names)
    return [*found]


def make_schema(
    context: MigrationContext, known: Ownership, owners: Mapping[str, str], packages: Sequence[str], before: MetaData
) -> dict[str, Changes]:
    """Return the operations that make the schema of a database from that before a line of revisions, by package.

    :param context: the context of ``env.py`` for a database after the line.
    :param known: the owners of tables and other objects, according to the models.
    :param owners: the packages to which the tables count instead, by their keys.
    :param before: the tables of a database before the line.
    """
    chosen = replace(known, models=owners, unowned=(), elsewhere={}, tables=None, away={}, columns={}, _others={})
    context.opts = {**context.opts, "target_metadata": before}
    comparison = Comparison(context, chosen, packages)
    return {name: exchanged(changes) for name, changes in comparison.packages.items()}


def exchanged(changes: Changes) -> Changes:
    """Return changes whose upgrade is the downgrade, and the other way around."""
    upgrade = ops.UpgradeOps(changes.downgrade.ops, upgrade_token=changes.upgrade.upgrade_token)
    downgrade = ops.DowngradeOps(changes.upgrade.ops, downgrade_token=changes.downgrade.downgrade_token)
    return replace(changes, script=ops.MigrationScript(None, upgrade, downgrade), of_dropped_tables=[])


def rendered(changes: Changes, new: Revision, rows: tuple[str, ...], before: Catalog, after: Catalog) -> Body:
    """Return changes as the bodies of a revision's functions, after the user's ``process_revision_directives``.

    :raises RevisionInputError: if the hook returns several revisions, or if a type cannot be rendered.
    """
    Tidying(changes, before, after).tidy()
    found = apply_hook(changes, rows, Wish(new.doc, rev_id=new.id, head=next(iter(new.down_revisions), "base")))
    if len(found) > 1:
        raise RevisionInputError(
            f"process_revision_directives returned {len(found)} revisions for one squash. Let it return one if the"
            f" message is {new.doc!r}.",
            package=new.package,
        )
    return body(found[0]) if found else Body("", "", "", changes.autogen.migration_context.opts)


def with_blocks(body: Body, blocks: Iterable[Sequence[str]]) -> Body:
    """Return a body with blocks of comments after the operations of the upgrade."""
    lines: list[str] = []
    for each in filter(None, blocks):
        lines += ["", *each] if lines else each
    if not lines:
        return body
    indented = "\n".join(f"    {line}".rstrip() for line in lines)
    return replace(body, upgrades=f"{body.upgrades or 'pass'}\n\n{indented}")

"""Configures every migration run. You can edit this file; Ampho and plain Alembic both use it."""

from alembic import context
from sqlalchemy import Connection

from ampho import environment


def run_migrations(connection: Connection | None) -> None:
    context.configure(
        connection=connection,
        # The metadata of the models, a transaction for each revision, and the arguments of Migrate(...). Add other
        # arguments of configure() here, such as include_object=... or version_table="..."; they take precedence.
        **environment.options(),
    )
    with context.begin_transaction():
        context.run_migrations()


def main() -> None:
    # Ampho passes its own connection. Plain Alembic has none, so it gets one from the app's engine.
    with environment.connect() as connection:
        run_migrations(connection)


main()

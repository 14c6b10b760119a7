"""Configures every migration run, of Ampho and of plain Alembic. What you change here takes effect."""

from alembic import context
from sqlalchemy import Connection

from ampho import environment


def run_migrations(connection: Connection | None) -> None:
    context.configure(
        connection=connection,
        # The models' tables, a transaction for each revision, and what was passed to Migrate(...). Further arguments
        # of configure() go here, such as include_object=... or version_table="...", and take precedence.
        **environment.options(),
    )
    with context.begin_transaction():
        context.run_migrations()


def main() -> None:
    # The connection that Ampho hands over; plain Alembic has none, and gets one of the app's engine.
    with environment.connect() as connection:
        run_migrations(connection)


main()
